"""What an epoch has logged: on the disk at its end, next to the checkpoint."""

from __future__ import annotations

import logging
from contextlib import suppress

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only

from cnn_lstm.training.loggers import AppendingCSVLogger, MLflowTracker

log = logging.getLogger(__name__)


class EpochRecord(Callback):
    """Brings metrics.csv and the MLflow journal to the disk at the end of each epoch and of the run.

    Both only grow, row by row, so that a kill of the process loses nothing; a power cut would lose what the system has
    not written yet.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Flushes before the epoch's checkpoint is written, which comes last."""
        self._flush(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Flushes what there is of a run that failed or was interrupted."""
        self._flush(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Flushes the whole run; the metrics of the last epoch are logged after its end."""
        self._flush(trainer)

    @rank_zero_only
    def _flush(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            with suppress(OSError):  # a disk that is full; the rows are written as soon as there is room
                if isinstance(logger, AppendingCSVLogger):
                    logger.experiment.flush()
                elif isinstance(logger, MLflowTracker):
                    logger.record.journal.flush()
