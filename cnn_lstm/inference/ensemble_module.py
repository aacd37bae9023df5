"""An ensemble for a trainer, which validates, tests and predicts with it.

Shapes: n windows of an epoch, H targets.
"""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import LightningModule
from torch import Tensor

from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.metrics import forecast_metrics
from cnn_lstm.model.outputs import EpochOutputs, data_of, outputs_of
from cnn_lstm.model.training_data import Windows, contract_with


class EnsembleModule(Ensemble, LightningModule):
    """An `Ensemble` for a trainer.

    It has no loss of its own, since the members' outputs have no common one: only metrics of the averaged forecast are
    logged.

    Args:
        members: Trained forecasters.
        contract: That of a member, with the digests of all members' weights.

    Attributes:
        samples: Passes of Monte Carlo dropout of each member in `predict`; 0 for one plain pass.
        refuse_other_prices: Whether other prices than those of the training are refused; else a warning is logged.
        forecasts: Forecasts of the last epoch: `row`, (n,), and `y_true`, `y_pred`, ..., each (n, H).
    """

    def __init__(self, members: Sequence[ForecastModel], contract: Contract) -> None:
        super().__init__(members, contract)
        self.samples, self.refuse_other_prices = 0, False
        self.outputs, self.forecasts = EpochOutputs(), dict[str, Tensor]()

    def setup(self, stage: str) -> None:
        """Refuses data that the members do not go with, and takes what the data module says of the others."""
        self.contract = contract_with(
            self.contract, data_of(self.trainer), refuse_other_prices=self.refuse_other_prices
        )

    def test_step(self, batch: Windows, batch_idx: int) -> None:
        """Keeps the forecasts of a batch."""
        self.outputs.add(row=batch.row, y_true=batch.y, **self.forecast(batch.x).columns)

    validation_step = test_step

    def predict_step(self, batch: Windows, batch_idx: int) -> dict[str, Tensor]:
        """Keeps the forecasts of a batch, and returns them, as `Forecaster`; labels may be missing."""
        columns = self.forecast(batch.x, self.samples).columns
        self.outputs.add(row=batch.row, y_true=batch.y, **columns)
        return {"row": batch.row, **columns}

    def on_test_epoch_start(self) -> None:
        """Starts with nothing; forecasts of many windows wait on the disk."""
        self.outputs = outputs_of(self.trainer)

    on_validation_epoch_start = on_predict_epoch_start = on_test_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the validation."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the test."""
        self._log_metrics("test")

    def on_predict_epoch_end(self) -> None:
        """Keeps the forecasts of all processes in `forecasts`, ordered by row."""
        self.forecasts = self.outputs.gather(self.trainer.world_size)

    def _log_metrics(self, stage: str) -> None:
        self.forecasts = columns = self.outputs.gather(self.trainer.world_size)
        classes, names = self.forecasters[0].objective.classes, self.contract.target_names
        metrics = forecast_metrics(columns["y_pred"], columns["y_true"], classes, names)
        named = {f"{stage}_{name}": value for name, value in metrics.items()}
        self.log_dict(named, sync_dist=self.trainer.world_size > 1)


def for_trainer(ensemble: Ensemble) -> EnsembleModule:
    """The same ensemble for a trainer, in evaluation mode."""
    return EnsembleModule(ensemble.forecasters, ensemble.contract).eval()
