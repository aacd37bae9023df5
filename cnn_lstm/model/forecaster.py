"""The LightningModule: it trains, tests and predicts with a `ForecastModel`, and knows nothing about prices.

Shapes: B batch, T window length, F features, H targets, K outputs of the head per target, n rows of an epoch.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_type_hints

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import Tensor
from torch.optim import lr_scheduler

from cnn_lstm.errors import require
from cnn_lstm.model.calibration import calibrate_epoch
from cnn_lstm.model.clipping import Clipping
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract, require_intact, warn_of_weighted_sets, with_digest
from cnn_lstm.model.fixed_shape import fixed_shape
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.linear import Mode
from cnn_lstm.model.metrics import epoch_metrics
from cnn_lstm.model.network import Backbone, require_embeddings
from cnn_lstm.model.objectives import Objective
from cnn_lstm.model.optimised import OptimisedModule
from cnn_lstm.model.outputs import EpochOutputs, data_of, outputs_of
from cnn_lstm.model.own_class import own_values, remembering, without_objects
from cnn_lstm.model.scheduling import step_plateau
from cnn_lstm.model.training_data import (
    ForecastData,
    Statistics,
    Windows,
    contract_with,
    require_fitting,
    standardised,
)


class Forecaster(ForecastModel, OptimisedModule):
    """Trains a network to forecast, and forecasts; what it does without a trainer is `ForecastModel`'s.

    Args:
        network: Maps windows to embeddings.
        objective: Meaning of the head's outputs, loss and forecast; mean squared error by default.
        n_targets: Number of targets, H.
        optimizer: Builds the optimiser from parameters.
        scheduler: Builds the learning-rate scheduler from the optimiser; None for a constant rate.
        scheduler_interval: Whether a scheduler other than `ReduceLROnPlateau` and `WarmupCosine` steps each epoch or
            each batch.
        linear: `fixed` starts at the best line through the training windows, see `fit_ridge` and `fit_logistic`, and
            learns what it lacks; `fine_tuned` trains the line's coefficients too; `off` leaves it out.
        samples: Passes of Monte Carlo dropout in `predict`; 0 for one plain pass. The forecast is their mean, and
            the column `mc_std` their spread: a sign of the model's own doubt, not an interval.

    Attributes:
        contract: What the forecaster knows of its training data; empty before a fit or a checkpoint.
        refuse_other_prices: Whether a checkpoint of other prices is refused; else a warning is logged.
        forecasts: Forecasts of the last epoch: `row`, (n,), and `y_true`, `y_pred`, ..., each (n, H).

    Example:
        >>> from cnn_lstm.model.network import CNNLSTM
        >>> forecaster = Forecaster(CNNLSTM(n_features=3), n_targets=2).eval()
        >>> forecaster(torch.zeros(4, 20, 3))["y_pred"].shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        network: Backbone,
        objective: Objective | None = None,
        n_targets: int = 1,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-5, fused=True),
        scheduler: LRSchedulerCallable | None = lambda o: ReduceLROnPlateau(
            o, monitor="val_loss", factor=0.5, patience=5
        ),
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        linear: Mode | Literal[False] = "fixed",
        samples: int = 0,
    ) -> None:
        super().__init__(network, objective, n_targets, linear)
        require(samples >= 0, f"samples={samples}", "model.samples", "give 0 or more passes")
        self.samples = samples
        self.optimizer, self.scheduler, self.scheduler_interval = optimizer, scheduler, scheduler_interval
        self.refuse_other_prices = False
        self._joined: Contract | None = None  # what the data of this run were compared with
        self.outputs, self.clipping = EpochOutputs(), Clipping()
        self.forecasts: dict[str, Tensor] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = remembering(cls.__init__, get_type_hints(Forecaster.__init__))  # type: ignore[method-assign]

    # -- steps and epochs ----------------------------------------------------------------------------------------

    def _step(self, batch: Windows, raw: Tensor, line: Tensor) -> Tensor:
        """Loss of a batch from its raw outputs (B, H, K); its forecasts are kept for the metrics of the epoch."""
        x, y, row = batch
        loss = self.objective.loss_of(raw, y, self._loc(x), self._scale(x))
        with torch.no_grad():
            columns = self._decode(raw.detach(), line, x)
            self.outputs.add(row=row, y_true=y, loss=loss.detach().expand(len(row)), **columns)
        return loss

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Loss of a training batch."""
        loss = self._step(batch, *self._outputs(batch.x)[1:])
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connectors
        if every and (self.global_step + 1) % every == 0:  # as Lightning counts; 0 is never
            self.log("train_loss_step", loss.detach(), prog_bar=True)
        return loss

    # Lightning asks for the arguments of this method before each call; Python remembers them (PEP 362)
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def validation_step(self, batch: Windows, batch_idx: int) -> None:
        """Keeps the forecasts of a validation batch."""
        self._step(batch, *self._outputs(batch.x)[1:])

    def test_step(self, batch: Windows, batch_idx: int) -> None:
        """Keeps the forecasts of a test batch."""
        self._step(batch, *fixed_shape(self._outputs, batch.x)[1:])

    def predict_step(self, batch: Windows, batch_idx: int) -> dict[str, Tensor]:
        """Keeps the forecasts of a batch, and returns them by name with the panel `row`; labels may be missing."""
        columns = self.forecast(batch.x, self.samples).columns
        self.outputs.add(row=batch.row, y_true=batch.y, **columns)
        return {"row": batch.row, **columns}

    def on_train_epoch_start(self) -> None:
        """Starts with nothing, whatever an interrupted epoch left behind."""
        self.outputs, self.clipping = EpochOutputs(), Clipping()

    def on_test_epoch_start(self) -> None:
        """Starts with nothing; forecasts of many windows wait on the disk."""
        self.outputs = outputs_of(self.trainer)

    on_predict_epoch_start = on_test_epoch_start

    def on_validation_epoch_start(self) -> None:
        """Keeps the training forecasts apart while a validation runs inside a training epoch."""
        self._training_outputs, self.outputs = self.outputs, EpochOutputs()

    def on_train_epoch_end(self) -> None:
        """Logs the metrics of the training epoch and the share of clipped steps, and steps a plateau scheduler.

        Lightning would step it after the checkpoints of the epoch are written (`fit_loop.on_advance_end`, 2.6), and
        a resumed run would miss that step.
        """
        self._log_metrics("train")
        if self.clipping.share is not None:  # gradients are averaged over the processes: all have the same share
            self.log("clipped_share", self.clipping.share, sync_dist=self.trainer.world_size > 1)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            step_plateau(scheduler, self.trainer)

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the validation; those of a fit keep their scores for the checkpoint's intervals."""
        self._log_metrics("val")
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            training = self._training_outputs.gather(self.trainer.world_size)
            parts = (self.forecasts, training, self.objective.classes, self.contract.target_kinds)
            self.contract = replace(self.contract, calibration=calibrate_epoch(self._data, *parts))
        self.outputs = self._training_outputs

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the test and keeps its forecasts, of all processes, in `forecasts`."""
        self._log_metrics("test")

    def on_predict_epoch_end(self) -> None:
        """Keeps the forecasts of all processes in `forecasts`, ordered by row."""
        self.forecasts = self.outputs.gather(self.trainer.world_size)

    def _log_metrics(self, stage: str) -> None:
        self.forecasts = self.outputs.gather(self.trainer.world_size)
        names = self.contract.target_names or [str(k) for k in range(self.n_targets)]
        metrics = epoch_metrics(stage, self.forecasts, self.objective.classes, names)
        # all processes hold the gathered forecasts, so the metrics are equal and nothing has to be averaged
        self.log_dict(metrics, sync_dist=self.trainer.world_size > 1)

    # -- statistics, optimiser, checkpoint -----------------------------------------------------------------------

    @property
    def _data(self) -> ForecastData:
        """The data module; Lightning's connectors set it on the trainer, whose class does not declare it."""
        return data_of(self.trainer)

    def setup(self, stage: str) -> None:
        """Takes the training statistics before a fit, and what the data module says of the data."""
        if stage != "fit" and self.contract != Contract():  # loaded, or fitted before
            self._joined = self.contract
            self.contract = contract_with(self.contract, self._data, refuse_other_prices=self.refuse_other_prices)
            return
        self.contract = Contract.from_plain(self._data.contract())
        if stage == "fit":
            own_values(self, Forecaster)  # refused now, not at the first checkpoint
            self.objective.learn_kinds(self.contract.target_kinds)
            self.learn_statistics(self._data.statistics)
            for x, *_ in self._data.windows_of("train", 2):
                require_embeddings(self.network, x.to(self.device))
            self.learn_line(self._data)

    def learn_statistics(self, statistics: Statistics) -> None:
        """Fills the buffers of network and targets; refuses other numbers of classes, targets or features."""
        require_fitting(statistics, self.objective.classes, self.n_targets, self.network.n_features)
        self.learn_scales(statistics)
        if self.objective.classes:
            self.objective.learn_classes(statistics.class_counts)

    def learn_line(self, data: ForecastData) -> None:
        """Fits the line on training windows, its inputs and penalty on validation windows; see `LinearPath.learn`."""
        pairs = partial(standardised, data, self.network.standardize, self._loc, self._scale)
        self.linear.learn(pairs, self.objective, self.head, final=bool(self.contract.fitted_on))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how to rebuild the model and its inputs, in plain values."""
        checkpoint["hyper_parameters"] = {
            "network": self.network.spec(),
            "objective": self.objective.spec(),
            "n_targets": self.n_targets,
            "linear": self.linear.mode if self.linear.learnt else "off",
            **own_values(self, Forecaster),
        }
        checkpoint[CHECKPOINT_KEY] = with_digest(self.contract, checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the contract of a checkpoint; see `contract_with` for when it is refused."""
        require_intact(without_objects(checkpoint))
        saved = Contract.of(checkpoint)
        if saved == self._joined:
            return
        if not saved.members:  # else once for all of them
            warn_of_weighted_sets(saved, self.objective.weighted)
        if self.contract != Contract():
            fit = self.trainer.state.fn == "fit"
            saved = contract_with(saved, self._data, fit=fit, refuse_other_prices=self.refuse_other_prices)
        self.contract = saved
