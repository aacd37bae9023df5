"""A script with a Trainer of its own: each of its processes writes down the rows that it sees.

Arguments: a folder, and the number of processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cnn_lstm.model.forecaster import Forecaster
from tests.fits import small_data, small_network, small_trainer


class SeenRows(Callback):
    """Writes the rows of each batch to a file of the stage and the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _add(self, stage: str, trainer: Trainer, batch: Any) -> None:
        with (self.folder / f"{stage}_{trainer.global_rank}.txt").open("a") as file:
            file.writelines(f"{row}\n" for row in batch.row.tolist())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """See `_add`."""
        self._add("train", trainer, batch)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """See `_add`."""
        self._add("validation", trainer, batch)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """See `_add`."""
        self._add("test", trainer, batch)

    def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """See `_add`."""
        self._add("predict", trainer, batch)


if __name__ == "__main__":
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    strategy = "ddp_fork" if processes > 1 else "auto"
    trainer = small_trainer(devices=processes, strategy=strategy, callbacks=[SeenRows(folder)], num_sanity_val_steps=0)
    data, forecaster = small_data(folder), Forecaster(small_network())
    trainer.fit(forecaster, datamodule=data)
    trainer.test(forecaster, datamodule=data, verbose=False)
    trainer.predict(forecaster, datamodule=data, return_predictions=False)
