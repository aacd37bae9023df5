"""Ends unpromising trials early, without a hang.

optuna-integration's callback raises in the middle of a fit, which leaves loader workers hanging and marks loggers as
failed, and says only in a warning that a metric is never logged. Here the trainer is told to stop, on all processes
alike, and whoever started the fit raises `TrialPruned` once it has returned.
"""

from __future__ import annotations

import json
import os
from typing import cast

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna_integration import PyTorchLightningPruningCallback

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.sweeps.best_forecasts import BestForecasts
from cnn_lstm.sweeps.study import Plan, monitored, open_storage

TRIAL_KEY = "CNN_LSTM_TRIAL"  # environment variable with the trial of a process
PRUNED_AT = "pruned_at"  # user attribute of a trial: the epoch after which it was ended


class StopPruned(PyTorchLightningPruningCallback):  # type: ignore[misc]  # it has no type information
    """Reports each validation to the study, and stops the trainer where the pruner says so.

    Args:
        trial: The trial; null in a process that is not the first of a distributed fit, or where nothing is pruned.
        monitor: The figure.
    """

    def __init__(self, trial: optuna.Trial | None, monitor: str) -> None:
        super().__init__(cast("optuna.Trial", trial), monitor)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing to prepare: what the base class does here is for its own way of telling other processes."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning calls this on every process.

        Raises:
            ConfigError: If the figure is not logged.
        """
        if trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val_"))
            raise ConfigError(f"{self.monitor} is never logged", "objectives", one_of(self.monitor, known), code=247)
        pruned = self._trial is not None and self._report(float(value), trainer.current_epoch)
        if trainer.strategy.broadcast(pruned):
            trainer.should_stop = True

    def _report(self, value: float, epoch: int) -> bool:
        self._trial.report(value, step=epoch)
        pruned: bool = self._trial.should_prune()
        if pruned:
            self._trial.set_user_attr(PRUNED_AT, epoch)
        return pruned


def environment_of(trial: optuna.Trial, plan: Plan) -> dict[str, str]:
    """What a fit in processes of its own has to know of its trial, as a variable of its environment.

    Args:
        trial: The trial.
        plan: The plan of its sweep.
    """
    return {TRIAL_KEY: json.dumps({"plan": plan.to_text(), "trial_id": trial._trial_id})}


def callbacks_of_environment() -> list[Callback]:
    """The callbacks of a fit that a sweep has started in processes of its own.

    Only the first process speaks to the database.
    """
    told = json.loads(os.environ[TRIAL_KEY])
    plan = Plan.from_text(told["plan"])
    if os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("NODE_RANK", "0") != "0":
        return [StopPruned(None, plan.monitor)]
    study = optuna.load_study(
        study_name=plan.study_name,
        storage=open_storage(plan.storage),
        sampler=optuna.samplers.RandomSampler(),  # everything is drawn already
        pruner=plan.definition.make_pruner(),
    )
    return callbacks_of(optuna.Trial(study, told["trial_id"]), plan)


def callbacks_of(trial: optuna.Trial, plan: Plan) -> list[Callback]:
    """What ends a trial early, and keeps its forecasts.

    Without a pruner the metrics are reported all the same: optuna-dashboard shows the curves. Of several objectives
    Optuna takes none.

    Args:
        trial: The trial.
        plan: The plan of its sweep.
    """
    pruning = StopPruned(trial if len(plan.definition.objectives) == 1 else None, plan.monitor)
    return [pruning, BestForecasts(plan.run(trial.number).validation, monitored(plan.definition.objectives))]
