"""What a trial adds to a fit: an early end without a hang, and the validation forecasts of its best epoch.

optuna-integration's callback raises in the middle of a fit, which leaves loader workers hanging and marks loggers as
failed, and says only in a warning that a metric is never logged. Here the trainer is asked to stop, on all processes
alike, and whoever started the fit raises `TrialPruned` once it has returned.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import optuna
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna_integration import PyTorchLightningPruningCallback
from torch import Tensor

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.predictions import collected_table, set_target_infos, target_infos
from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.sweeps.objectives import Objective

PRUNED_AT = "pruned_at"  # user attribute of a trial: the epoch after which it was ended


class StopPruned(PyTorchLightningPruningCallback):  # type: ignore[misc]  # it has no type information
    """Reports each validation to the study, and stops the trainer if the pruner says so.

    Args:
        trial: The trial; None in a process that is not the first of a distributed fit, or if nothing is pruned.
        monitor: The metric.
    """

    def __init__(self, trial: optuna.Trial | None, monitor: str) -> None:
        super().__init__(cast("optuna.Trial", trial), monitor)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does nothing: the base class prepares its own way of stopping other processes here."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports and decides; Lightning calls this on every process.

        Raises:
            ConfigError: If the metric is not logged.
        """
        if trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val_"))
            raise ConfigError(f"{self.monitor} is never logged", "objectives", one_of(self.monitor, known), code=247)
        pruned = False
        if self._trial is not None:
            self._trial.report(float(value), step=trainer.current_epoch)
            pruned = self._trial.should_prune()
            if pruned:
                self._trial.set_user_attr(PRUNED_AT, trainer.current_epoch)
        if trainer.strategy.broadcast(pruned):
            trainer.should_stop = True


class BestForecasts(Callback):
    """Keeps the validation forecasts of the best epoch so far, and writes them at the end of the fit.

    Tests of the whole sweep need them of every trial, and validation makes them anyway. A pruned trial keeps them too,
    although its checkpoint is deleted.

    Args:
        file: Parquet file to write.
        objective: The metric that decides which epoch is best.
    """

    def __init__(self, file: Path, objective: Objective) -> None:
        self.file, self.objective = file, objective
        self._best: float | None = None
        self._forecasts: dict[str, Tensor] = {}
        self._contract = Contract()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the forecasts of this validation if they are the best so far."""
        if trainer.sanity_checking or self.objective.metric not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.objective.metric])
        if self._best is None or self.objective.better(value, self._best):
            assert isinstance(pl_module, Forecaster)
            self._best, self._forecasts, self._contract = value, dict(pl_module.forecasts), pl_module.contract

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what was kept, on the first process."""
        if trainer.is_global_zero and self._forecasts:
            table = self._table(trainer.datamodule)  # type: ignore[attr-defined]  # set by Lightning's connectors
            write_table(self.file, table)

    def _table(self, data: MarketDataModule) -> pd.DataFrame:
        table = collected_table(data.panel, data.targets, self._forecasts, self._contract.target_mean)
        if (calibration := self._contract.calibration) is not None:
            factors = {"y_pred": calibration.smearing, "y_linear": calibration.linear_smearing}
            known = {name: values for name, values in factors.items() if values}
            described = enumerate(target_infos(table).items())
            set_target_infos(
                table,
                {
                    name: replace(about, smearing={column: values[k] for column, values in known.items()})
                    for k, (name, about) in described
                },
            )
        return table
