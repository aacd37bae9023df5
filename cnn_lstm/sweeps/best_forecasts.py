"""What a trial of a sweep forecast of the validation part: tests of the whole sweep need it of every trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.predictions import collected_table, describe_targets, target_infos
from cnn_lstm.files import write_whole
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.sweeps.samplers import Objective


class BestForecasts(Callback):
    """Keeps the validation forecasts of the best epoch so far, and writes them once the fit has ended.

    They were made in any case; a pruned trial has its own too, although its checkpoint is deleted.

    Args:
        file: Parquet file to write.
        judge: The figure that decides which epoch is best.
    """

    def __init__(self, file: Path, judge: Objective) -> None:
        self.file, self.judge = file, judge
        self._best: float | None = None
        self._kept: dict[str, Tensor] = {}
        self._contract = Contract()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the forecasts that this validation made where they are the best so far."""
        if trainer.sanity_checking or self.judge.metric not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.judge.metric])
        if self._best is None or self.judge.better(value, self._best):
            assert isinstance(pl_module, Forecaster)
            self._best, self._kept, self._contract = value, dict(pl_module.forecasts), pl_module.contract

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what was kept, on the first process."""
        if trainer.is_global_zero and self._kept:
            table = self._table(trainer.datamodule)  # type: ignore[attr-defined]  # set by Lightning's connectors
            write_whole(self.file, lambda partial: table.to_parquet(partial, index=False))

    def _table(self, data: MarketDataModule) -> pd.DataFrame:
        table = collected_table(data.panel, data.targets, self._kept, self._contract.target_mean)
        calibration = self._contract.calibration
        described = zip(target_infos(table).items(), calibration.smearing if calibration else (), strict=True)
        describe_targets(
            table, {name: replace(about, smearing={"y_pred": factor}) for (name, about), factor in described}
        )
        return table
