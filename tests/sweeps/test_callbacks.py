"""A trial ends early without a hang, and its validation forecasts are those of its best epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.errors import ConfigError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.sweeps.callbacks import PRUNED_AT, BestForecasts, StopPruned
from cnn_lstm.sweeps.objectives import Objective
from tests.fits import small_data, small_network, small_trainer


class LoggedValues(Callback):
    """Keeps what each epoch logs."""

    def __init__(self, metric: str) -> None:
        self.metric, self.values = metric, list[float]()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.values.append(float(trainer.callback_metrics[self.metric]))


@pytest.mark.parametrize(("direction", "best"), [("minimize", min), ("maximize", max)], ids=["lowest", "highest"])
def test_forecasts_are_those_of_the_best_epoch(
    direction: str, best: Callable[[list[float]], float], tmp_path: Path
) -> None:
    file, metrics = tmp_path / "validation.parquet", LoggedValues("val_mae")
    keep = BestForecasts(file, Objective("val_mae", direction))
    data = small_data(tmp_path)
    small_trainer(max_epochs=5, callbacks=[keep, metrics]).fit(Forecaster(small_network()), datamodule=data)
    table = pd.read_parquet(file)
    assert len(set(metrics.values)) == 5
    assert (table["y_true"] - table["y_pred"]).abs().mean() == pytest.approx(best(metrics.values), rel=1e-6)
    assert len(table) == len(data.parts.validation)
    assert table["as_of"].min() == pd.Timestamp(data.panel.time[data.parts.validation].min(), tz="UTC")


def test_forecasts_are_those_of_the_best_checkpoint(tmp_path: Path) -> None:
    file, data = tmp_path / "validation.parquet", small_data(tmp_path, targets=[RealizedVolatility(horizon=3)])
    checkpoint = ModelCheckpoint(tmp_path, "best", monitor="val_loss")
    keep = BestForecasts(file, Objective("val_loss", "minimize"))
    trainer = small_trainer(max_epochs=4, enable_checkpointing=True, callbacks=[keep, checkpoint])
    trainer.fit(Forecaster(small_network()), datamodule=data)
    predictor = Predictor.from_checkpoint(checkpoint.best_model_path)
    again = predictor.predict_rows(data.panel, data.parts.validation)
    table = pd.read_parquet(file)
    np.testing.assert_allclose(table["y_pred"], again["y_pred"], rtol=1e-5)
    assert (table[["symbol", "as_of", "y_true"]] == again[["symbol", "as_of", "y_true"]]).all(axis=None)
    (about,) = table.attrs["targets"].values()
    calibration = predictor.forecaster.contract.calibration
    assert calibration is not None
    assert [about["smearing"]["y_pred"]] == list(calibration.smearing)


# -- pruning ---------------------------------------------------------------------------------------------------------


def trainer(epoch: int, **values: float) -> Any:
    metrics = {name: torch.tensor(value) for name, value in values.items()}
    return SimpleNamespace(
        sanity_checking=False,
        callback_metrics=metrics,
        current_epoch=epoch,
        should_stop=False,
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )


class AfterOne(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step == 1


def test_a_pruned_fit_is_stopped_not_broken_off() -> None:
    study = optuna.create_study(pruner=AfterOne())
    trial = study.ask()
    callback = StopPruned(trial, "val_loss")
    first, second = trainer(0, val_loss=2.0), trainer(1, val_loss=1.5)
    for stage in (first, second):
        callback.on_validation_end(stage, LightningModule())
    assert (first.should_stop, second.should_stop) == (False, True)
    assert study.trials[0].intermediate_values == {0: 2.0, 1: 1.5}
    assert study.trials[0].user_attrs[PRUNED_AT] == 1


def test_other_processes_follow_the_first() -> None:
    callback, stage = StopPruned(None, "val_loss"), trainer(0, val_loss=2.0)
    stage.strategy.broadcast = lambda value: True
    callback.on_validation_end(stage, LightningModule())
    assert stage.should_stop


def test_the_sanity_check_does_not_count_as_an_epoch() -> None:
    stage = trainer(0)
    stage.sanity_checking = True
    StopPruned(None, "val_loss").on_validation_end(stage, LightningModule())
    assert not stage.should_stop


def test_a_metric_that_is_not_logged_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"val_los is never logged.*did you mean val_loss"):
        StopPruned(None, "val_los").on_validation_end(trainer(0, val_loss=1.0), LightningModule())
