"""The validation forecasts that a trial leaves behind are those of its best epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.sweeps.best_forecasts import BestForecasts
from cnn_lstm.sweeps.samplers import Objective
from tests.fits import small_data, small_network, small_trainer


class Figures(Callback):
    """Keeps what each epoch logs."""

    def __init__(self, metric: str) -> None:
        self.metric, self.values = metric, list[float]()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.values.append(float(trainer.callback_metrics[self.metric]))


@pytest.mark.parametrize(("direction", "best"), [("minimize", min), ("maximize", max)], ids=["lowest", "highest"])
def test_they_are_those_of_the_best_epoch(direction: str, best: Callable[[list[float]], float], tmp_path: Path) -> None:
    file, metrics = tmp_path / "validation.parquet", Figures("val_mae")
    keep = BestForecasts(file, Objective("val_mae", direction))
    data = small_data(tmp_path)
    small_trainer(max_epochs=5, callbacks=[keep, metrics]).fit(Forecaster(small_network()), datamodule=data)
    table = pd.read_parquet(file)
    assert len(set(metrics.values)) == 5
    assert (table["y_true"] - table["y_pred"]).abs().mean() == pytest.approx(best(metrics.values), rel=1e-6)
    assert len(table) == len(data.parts.validation)
    assert table["as_of"].min() == pd.Timestamp(data.panel.time[data.parts.validation].min(), tz="UTC")


def test_they_are_those_of_the_best_checkpoint(tmp_path: Path) -> None:
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
    assert [about["smearing"]["y_pred"]] == predictor.forecaster.contract.calibration.smearing
