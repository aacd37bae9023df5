"""The LightningModule: joins network, head and objective; knows nothing about prices.

Shapes: B batch, T window length, F features, H targets, K outputs of the head a target, n rows of an epoch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch import Tensor, nn
from torch.optim import Optimizer

from cnn_lstm import specs
from cnn_lstm.errors import CheckpointError, ConfigError, DataError
from cnn_lstm.model.calibration import calibrate
from cnn_lstm.model.clipping import Clipping, clips_plainly
from cnn_lstm.model.dropout import dropout_samples
from cnn_lstm.model.metrics import forecast_metrics
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective, Point
from cnn_lstm.model.outputs import EpochOutputs

log = logging.getLogger(__name__)
CHECKPOINT_KEY = "cnn_lstm"
CHECKPOINT_FORMAT = 1
INFERENCE_BATCH = 32
OF_THE_WEIGHTS = ("target_mean", "boundaries", "training", "calibration")


class Windows(NamedTuple):
    """What a step needs of a batch: features (B, T, F), labels (B, H), panel rows (B,)."""

    x: Tensor
    y: Tensor
    row: Tensor


class Statistics(Protocol):
    """Location and scale of the training rows; see the data arm's `TrainingStatistics`."""

    x_loc: Tensor
    x_scale: Tensor
    x_anchored: Tensor
    y_loc: Tensor
    y_scale: Tensor
    y_anchor: Tensor
    class_counts: Tensor


class ForecastData(Protocol):
    """What a data module offers to the forecaster."""

    statistics: Statistics

    def contract(self) -> dict[str, Any]: ...  # noqa: D102

    def label_scale(self, rows: Tensor) -> Tensor:
        """Size of each label's surprise as known at the panel rows (n,): (n, H)."""


class Forecaster(LightningModule):
    """Trains a network to forecast, and forecasts.

    Args:
        network: Maps windows to embeddings.
        objective: Meaning of the head's outputs, loss and forecast; mean squared error by default.
        n_targets: Number of targets, H.
        optimizer: Builds the optimiser from parameters.
        scheduler: Builds the learning-rate scheduler from the optimiser; null for a constant rate.
        scheduler_interval: Whether a scheduler other than `ReduceLROnPlateau` steps each epoch or each batch.
        samples: Passes of Monte Carlo dropout in `predict`; 0 for one plain pass. The forecast is their mean, and
            the column `mc_std` their spread: a sign of the model's own doubt, not an interval.

    Example:
        >>> from cnn_lstm.model.network import CNNLSTM
        >>> forecaster = Forecaster(CNNLSTM(n_features=3), n_targets=2).eval()
        >>> forecaster(torch.zeros(4, 20, 3))["y_pred"].shape
        torch.Size([4, 2])
    """

    y_loc: Tensor
    y_scale: Tensor
    y_anchor: Tensor

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
        samples: int = 0,
    ) -> None:
        super().__init__()
        if samples < 0:
            raise ConfigError(f"samples={samples}", "model.samples", "give 0 or more passes", code=224)
        if isinstance(network, Mapping):  # Lightning's `load_from_checkpoint` gives the specs of the checkpoint
            network = specs.build(network, Backbone)
        if isinstance(objective, Mapping):
            objective = specs.build(objective, Objective)
        self.network, self.objective = network, objective or Point()
        self.n_targets, self.samples = n_targets, samples
        self.optimizer, self.scheduler, self.scheduler_interval = optimizer, scheduler, scheduler_interval
        self.head = nn.Linear(network.embedding_dim, n_targets * self.objective.n_outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("y_loc", torch.zeros(n_targets))
        self.register_buffer("y_scale", torch.ones(n_targets))
        self.register_buffer("y_anchor", torch.full((n_targets,), -1))
        if self.objective.classes:
            self.objective.learn_classes(torch.ones(n_targets, self.objective.classes))
        self.contract: dict[str, Any] = {}
        self.strict_data = False
        self.outputs, self.clipping = EpochOutputs(), Clipping()
        self.forecasts: dict[str, Tensor] = {}

    # -- forecasting ---------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Forecast columns in original units, each (B, H), of raw windows (B, T, F)."""
        return self._decode(self._raw(x), x)

    def encode(self, x: Tensor) -> Tensor:
        """Embeddings, (B, D), of raw windows (B, T, F)."""
        embedding: Tensor = self.network(x)
        return embedding

    def decode(self, embedding: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Forecast columns, each (B, H), of embeddings (B, D) that are at hand, and their raw windows (B, T, F)."""
        outputs: Tensor = self.head(embedding)
        # not `len`, which torch.export would take for a constant
        return self._decode(outputs.view(x.shape[0], self.n_targets, self.objective.n_outputs), x)

    def forecast(self, x: Tensor) -> dict[str, Tensor]:
        """`forward`, with the bits of each row independent of the other rows; see `fixed_shape`."""
        return self._decode(fixed_shape(self._raw, x), x)

    def forecast_and_encode(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """`forecast` and `encode` by one pass of the network, with the bits of `fixed_shape`."""

        def both(part: Tensor) -> Tensor:
            embedding = self.network(part)
            return torch.cat([self.head(embedding), embedding], dim=1)

        outputs = self.head.out_features
        joint = fixed_shape(both, x)
        raw = joint[:, :outputs].reshape(len(x), self.n_targets, self.objective.n_outputs)
        return self._decode(raw, x), joint[:, outputs:]

    def sample(self, x: Tensor, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Monte Carlo dropout: the columns of `forward` with `y_pred` as mean, and `mc_std` as spread.

        Args:
            x: Raw windows, (B, T, F).
            samples: Number of passes.
            seed: Reproduces the dropout masks.
        """
        draws = dropout_samples(lambda batch: self(batch)["y_pred"], self, x, samples, seed)  # (S, B, H)
        columns = self.forecast(x)
        spread = draws.std(dim=0, correction=0)
        if self.objective.classes:
            return columns | {"mc_std": spread}
        return columns | {"y_pred": draws.mean(dim=0), "mc_std": spread}

    def _raw(self, x: Tensor) -> Tensor:
        """Outputs of the head, (B, H, K)."""
        outputs: Tensor = self.head(self.network(x))
        return outputs.view(len(x), self.n_targets, self.objective.n_outputs)

    def _loc(self, x: Tensor) -> Tensor:
        """What standardisation subtracts from the targets, (B, H): location, and last value where anchored."""
        last = x[:, -1].index_select(1, self.y_anchor.clamp(min=0))
        return self.y_loc + torch.where(self.y_anchor >= 0, last, 0.0)

    def _decode(self, raw: Tensor, x: Tensor) -> dict[str, Tensor]:
        return self.objective.forecast(raw.float(), self._loc(x), self.y_scale)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self, batch: Windows, raw: Tensor) -> Tensor:
        """Loss of a batch from the head's outputs (B, H, K); its forecasts are kept for the epoch's figures."""
        x, y, row = batch
        loc = self._loc(x)
        loss = self.objective.loss(raw, (y - loc) / self.y_scale)
        with torch.no_grad():
            columns = self.objective.forecast(raw.detach().float(), loc, self.y_scale)
            self.outputs.add(row=row, y_true=y, loss=loss.detach().expand(len(row)), **columns)
        return loss

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Loss of a training batch."""
        loss = self._step(batch, self._raw(batch.x))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:  # as Lightning counts
            self.log("train_loss_step", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: Windows, batch_idx: int) -> None:
        """Keeps the forecasts of a validation batch."""
        self._step(batch, self._raw(batch.x))

    def test_step(self, batch: Windows, batch_idx: int) -> None:
        """Keeps the forecasts of a test batch."""
        self._step(batch, fixed_shape(self._raw, batch.x))

    def predict_step(self, batch: Windows, batch_idx: int) -> None:
        """Keeps the forecasts of a batch; labels may be missing."""
        x, y, row = batch
        columns = self.sample(x, self.samples, seed=batch_idx) if self.samples else self.forecast(x)
        self.outputs.add(row=row, y_true=y, **columns)

    # -- epochs --------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Starts with nothing, whatever an interrupted epoch left behind."""
        self.outputs, self.clipping = EpochOutputs(), Clipping()

    on_test_epoch_start = on_predict_epoch_start = on_train_epoch_start

    def on_validation_epoch_start(self) -> None:
        """Keeps the training forecasts apart while a validation runs inside a training epoch."""
        self._training_outputs, self.outputs = self.outputs, EpochOutputs()

    def on_train_epoch_end(self) -> None:
        """Logs the figures of the training epoch and the share of clipped steps, and steps a plateau scheduler.

        Lightning would step it after the checkpoints of the epoch are written (`fit_loop.on_advance_end`, 2.6), and
        a resumed run would miss that step.
        """
        self._log_metrics("train")
        if self.clipping.share is not None:  # gradients are averaged over the processes: all have the same share
            self.log("clipped_share", self.clipping.share, sync_dist=self.trainer.world_size > 1)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            self._step_plateau(scheduler)

    def _step_plateau(self, scheduler: ReduceLROnPlateau) -> None:
        metrics, every = self.trainer.callback_metrics, self.trainer.check_val_every_n_epoch or 1
        if scheduler.monitor in metrics:
            scheduler.step(metrics[scheduler.monitor])
        elif self.trainer.enable_validation and self.trainer.is_last_batch and (self.current_epoch + 1) % every == 0:
            known = f"one of {', '.join(sorted(metrics))}"
            raise ConfigError(f"nobody logs {scheduler.monitor!r}", "model.scheduler.monitor", known, code=224)

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any | None) -> None:
        """Steps the other schedulers; see `on_train_epoch_end`."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_validation_epoch_end(self) -> None:
        """Logs the figures of the validation, and keeps its scores for the checkpoint and the intervals made of it."""
        self._log_metrics("val")
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            scale = self._data.label_scale(self.forecasts["row"])
            kinds = self.contract["target_kinds"]
            self.contract["calibration"] = calibrate(self.forecasts, scale, self.objective.classes, kinds)
        self.outputs = self._training_outputs

    def on_test_epoch_end(self) -> None:
        """Logs the figures of the test and keeps its forecasts, of all processes, in `forecasts`."""
        self._log_metrics("test")

    def on_predict_epoch_end(self) -> None:
        """Keeps the forecasts of all processes in `forecasts`, ordered by row."""
        self.forecasts = self.outputs.gather(self.trainer.world_size)

    def _log_metrics(self, stage: str) -> None:
        self.forecasts = self.outputs.gather(self.trainer.world_size)
        columns = self.forecasts
        names = self.contract.get("target_names") or [str(k) for k in range(self.n_targets)]
        figures = {"loss": float(columns["loss"].double().mean())}
        figures |= forecast_metrics(columns["y_pred"], columns["y_true"], self.objective.classes, names)
        # all processes hold the gathered forecasts, so the figures are equal and nothing has to be averaged
        self.log_dict(
            {f"{stage}_{name}": value for name, value in figures.items()},
            sync_dist=self.trainer.world_size > 1,
        )

    # -- statistics, optimiser, checkpoint -----------------------------------------------------------------------

    @property
    def _data(self) -> ForecastData:
        """The data module; Lightning's connectors set it on the trainer, whose class does not declare it."""
        data: ForecastData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def setup(self, stage: str) -> None:
        """Takes the training statistics before a fit, and what the data module says of the data."""
        data, calibration = self._data, self.contract.get("calibration")
        self.contract = data.contract()
        if stage == "fit":
            self.learn_statistics(data.statistics)
        elif calibration:
            self.contract["calibration"] = calibration

    def learn_statistics(self, statistics: Statistics) -> None:
        """Fills the buffers of network and targets.

        Raises:
            ConfigError: If the objective forecasts another number of classes than the targets have.
        """
        classes = statistics.class_counts.shape[1]
        if classes != self.objective.classes:
            raise ConfigError(
                f"targets with {classes or 'no'} classes, an objective for {self.objective.classes or 'numbers'}",
                "model.objective",
                "use Classes(classes: N) for Direction targets, another objective for numbers",
                code=224,
            )
        for name, have, want in (
            ("targets", len(statistics.y_loc), self.n_targets),
            ("features", len(statistics.x_loc), self.network.n_features),
        ):
            if have != want:
                raise ConfigError(f"{have} {name} in the data, {want} in the model", "model", code=224)
        standardize = self.network.standardize
        standardize.loc.copy_(statistics.x_loc)
        standardize.scale.copy_(statistics.x_scale)
        standardize.anchored.copy_(statistics.x_anchored)
        self.y_loc.copy_(statistics.y_loc)
        self.y_scale.copy_(statistics.y_scale)
        self.y_anchor.copy_(statistics.y_anchor)
        if classes:
            self.objective.learn_classes(statistics.class_counts)

    def configure_optimizers(self) -> Any:
        """Optimiser and scheduler as injected."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        settings: dict[str, Any] = {"scheduler": scheduler, "interval": self.scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            # not strict: we step it ourselves, and the first validation may be some epochs away
            settings |= {"monitor": scheduler.monitor, "interval": "epoch", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips, and counts the steps where that changed the norm.

        Under bf16, where no gradient is scaled, a fused optimiser is clipped too, which Lightning refuses.
        """
        precision = self.trainer.precision_plugin
        if not gradient_clip_val or gradient_clip_val < 0 or not clips_plainly(precision):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif (gradient_clip_algorithm or GradClipAlgorithmType.NORM) == GradClipAlgorithmType.NORM:
            self.clipping.clip(precision.main_params(optimizer), gradient_clip_val)
        else:
            precision.clip_grad_by_value(optimizer, gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how to rebuild the model and its inputs, in plain values."""
        checkpoint["hyper_parameters"] = {
            "network": self.network.spec(),
            "objective": self.objective.spec(),
            "n_targets": self.n_targets,
        }
        checkpoint[CHECKPOINT_KEY] = {
            "format": CHECKPOINT_FORMAT,
            "digest": state_digest(checkpoint["state_dict"]),
            **self.contract,
        }

    def _refuse_seen_dates(self, saved: dict[str, str], asked: dict[str, str]) -> None:
        """A resumed fit keeps its dates; a test never starts before the one that the checkpoint was kept from."""
        if self.trainer.state.fn == "fit":
            parts = ("train", "validation", "test")
            refuse_differences(*({f"data.split.{part}": dates[part] for part in parts} for dates in (saved, asked)))
            return
        for part in ("validation", "test"):
            if asked[part] < saved[part]:  # ISO dates sort as text
                raise CheckpointError(
                    f"the {part} part is not untouched: it starts at {asked[part][:10]}",
                    f"the checkpoint saw dates up to {saved[part][:10]} before its own {part} part",
                    "use the split of the checkpoint's run, or later dates",
                    code=436,
                )

    def _tell_other_prices(self, saved: str, found: str) -> None:
        what = "the prices are not those that the checkpoint was trained on"
        if self.strict_data:
            where = f"data SHA-256 {saved[:12]} -> {found[:12]}"
            raise DataError(what, where, "give those of the training, or leave out --same_prices", code=337)
        log.warning("%s — data SHA-256 differs", what)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another recipe than the data module's.

        Raises:
            CheckpointError: Naming each difference.
            DataError: If the prices are others than those of the training, and `strict_data` is set.
        """
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            raise CheckpointError("the checkpoint was not written by cnn_lstm", fix="train one with fit", code=415)
        if saved.get("digest") != state_digest(checkpoint["state_dict"]):
            raise CheckpointError("the checkpoint is damaged: its weights do not match their digest", code=414)
        if self.contract:
            refuse_differences(saved["recipe"], self.contract["recipe"])
            self._refuse_seen_dates(saved["boundaries"], self.contract["boundaries"])
            if saved["fingerprint"] != self.contract["fingerprint"]:
                self._tell_other_prices(saved["fingerprint"], self.contract["fingerprint"])
            # what belongs to the weights: a later test part changes nothing of when the intervals begin to adapt
            self.contract |= {name: saved.get(name) for name in OF_THE_WEIGHTS}
        else:
            self.contract = {key: value for key, value in saved.items() if key not in ("format", "digest")}


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of all tensors: neither zip nor safetensors notices a flipped bit."""
    digest = hashlib.sha256()
    for name, values in sorted(state.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fixed_shape(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of windows in batches of one fixed shape, the last one filled up with copies.

    Matrix kernels round differently for different batch shapes. Always the same shape makes a forecast the same,
    bit for bit, in a test run, in a table of one symbol, and for a single window.

    Args:
        function: Maps windows (`INFERENCE_BATCH`, T, F) row by row.
        x: Windows, (B, T, F).

    Returns:
        The function's outputs, first dimension B.
    """
    if not len(x):  # a process without rows
        return function(x.new_zeros(INFERENCE_BATCH, *x.shape[1:]))[:0]
    parts = []
    for part in x.split(INFERENCE_BATCH):
        filling = part[-1:].expand(INFERENCE_BATCH - len(part), -1, -1)
        parts.append(function(torch.cat([part, filling]))[: len(part)])
    return torch.cat(parts)


def refuse_differences(saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Compares two plain trees.

    Raises:
        CheckpointError: Naming each key that differs, checkpoint -> configuration.

    Example:
        >>> refuse_differences({"window": 60}, {"window": 60})
    """
    differences = [
        f"{key}: {saved.get(key)} -> {asked.get(key)}"
        for key in sorted({*saved, *asked})
        if saved.get(key) != asked.get(key)
    ]
    if differences:
        raise CheckpointError(
            "the checkpoint does not fit the configuration",
            "; ".join(differences),
            "use the config.yaml of the checkpoint's run, or train again",
            code=436,
        )
