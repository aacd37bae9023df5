"""The line that a model starts as, as a candidate for best.ckpt: the network has to validate better than it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from cnn_lstm.errors import require
from cnn_lstm.model.calibration import Calibration, calibrate
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract, with_digest
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.metrics import epoch_metrics
from cnn_lstm.model.outputs import EpochOutputs
from cnn_lstm.model.training_data import ForecastData

OF_START = ("head.", "linear.")  # what makes the start: with a head of zero weights, the rest of the model adds nothing
TIE = 1e-6  # Lightning keeps metrics as 32-bit numbers


@dataclass(frozen=True)
class Start:
    """A model before its first step.

    Attributes:
        weights: Head and line, by their names in the model's state.
        metrics: Validation metrics, by the names under which those of an epoch are logged.
        calibration: What a checkpoint keeps of the validation forecasts.
        shift: Mean of log(forecast / line) for each target, by which the line's smearing factor becomes the start's.
    """

    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    calibration: Calibration
    shift: list[float]

    def calibrated_with(self, best: Calibration) -> Calibration:
        """Its calibration, with the smearing factor that an epoch found for the line.

        Args:
            best: Calibration of an epoch of the same fit, which knows errors of the line on training rows too.
        """
        factors = [
            float(torch.tensor(-2.0 * shift).exp()) * factor
            for shift, factor in zip(self.shift, best.linear_smearing, strict=True)
        ]
        return replace(self.calibration, smearing=factors, linear_smearing=best.linear_smearing)


@dataclass(frozen=True)
class Compared:
    """The starting line next to the best epoch.

    Attributes:
        monitor: The metric.
        start: That of the starting line.
        best: That of the best epoch.
        kept: Whether best.ckpt is the starting line.
    """

    monitor: str
    start: float
    best: float
    kept: bool

    def __str__(self) -> str:
        values = f"{self.monitor} {self.start:.5f}, the best epoch has {self.best:.5f}"
        return f"starting line: {values}; best.ckpt is the {'line alone' if self.kept else 'best epoch'}"


class StartingLine(Callback):
    """Puts the starting line into best.ckpt at the end of a fit, if no epoch of the network validated better.

    A model with a linear part starts as the best line through the training windows. Where a market has nothing to add
    to it, the network adds noise: the best epoch is then the least bad one.
    The start is measured by a validation before the first step, on the metric that chooses best.ckpt. The network's
    own weights stay in the checkpoint, so that its embeddings are those of the best epoch; the head ignores them.

    Without a linear part, or without a validation, nothing is compared.

    Args:
        candidate: Whether the starting line is a candidate.
        min_gain: Share of the start's metric by which an epoch must be better. The best of several epochs is a little
            better by chance.

    Attributes:
        start: The start of this fit, once it is measured.
        compared: What came of it, at the end of the fit.
    """

    def __init__(self, candidate: bool = False, min_gain: float = 0.001) -> None:
        fix = "give a share from 0 to below 1"
        require(0 <= min_gain < 1, f"min_gain={min_gain}", "starting_line.min_gain", fix)
        self.candidate, self.min_gain = candidate, min_gain
        self.start: Start | None = None
        self.compared: Compared | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validates the start of a new fit; a resumed one knows it from its checkpoint."""
        new = trainer.global_step == 0 and self.start is None
        if self.candidate and new and isinstance(pl_module, Forecaster) and pl_module.linear.learnt:
            self.start = _validated(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares it with the best epoch, and writes best.ckpt again if it is at least as good."""
        for callback in trainer.checkpoint_callbacks:
            if self.start is None or not isinstance(callback, ModelCheckpoint):
                continue
            if callback.best_model_score is not None:
                self._compare(self.start, callback, trainer)

    def _compare(self, start: Start, best: ModelCheckpoint, trainer: Trainer) -> None:
        value = start.metrics.get(str(best.monitor))
        if value is None:
            return
        epoch = float(best.best_model_score)  # type: ignore[arg-type]  # on_train_end has seen that there is one
        gain = value - epoch if best.mode == "min" else epoch - value
        kept = gain <= max(self.min_gain * abs(value), TIE)
        self.compared = Compared(str(best.monitor), value, epoch, kept)
        if kept and trainer.is_global_zero:
            _write(start, best.best_model_path, trainer)
        trainer.strategy.barrier()

    def state_dict(self) -> dict[str, Any]:
        """The start, in plain values and tensors."""
        return {} if self.start is None else asdict(self.start)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the start of a resumed fit; checkpoints of older versions have none."""
        if state_dict:
            self.start = Start(**state_dict | {"calibration": Calibration(**state_dict["calibration"])})


def _validated(trainer: Trainer, forecaster: Forecaster) -> Start | None:
    """The start, from a pass over the validation batches; None without any. Random numbers are as without it."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.setup_data()
    batches = int(sum(trainer.num_val_batches))
    if not batches:
        return None
    kept, forecaster.outputs = forecaster.outputs, EpochOutputs()
    modes = {module: module.training for module in forecaster.modules()}
    forecaster.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), trainer.precision_plugin.val_step_context():
        for number, batch in zip(range(batches), trainer.val_dataloaders or (), strict=False):
            forecaster.validation_step(trainer.strategy.batch_to_device(batch), number)
    forecasts = forecaster.outputs.gather(trainer.world_size)
    for module, training in modes.items():
        module.training = training  # as Lightning does: a part that is frozen in evaluation mode stays so
    forecaster.outputs = kept
    weights = {
        name: values.detach().cpu().clone()
        for name, values in forecaster.state_dict().items()
        if name.startswith(OF_START)
    }
    names, classes = forecaster.contract.target_names, forecaster.objective.classes
    data: ForecastData = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
    calibration = calibrate(forecasts, data.surprise_scale(forecasts["row"]), classes)
    metrics = epoch_metrics("val", forecasts, classes, names)
    return Start(weights, metrics, calibration, _shift(forecasts, forecaster.contract.target_kinds))


def _shift(forecasts: Mapping[str, Tensor], kinds: Sequence[str]) -> list[float]:
    """Mean of log(forecast / line) for each target that a variance forecast follows from; 0 for the others."""
    shifts = []
    for k, kind in enumerate(kinds):
        pair = [forecasts[name][:, k].double() for name in ("y_pred", "y_linear")]
        logs = pair if kind == "log_volatility" else [part.log() for part in pair]
        difference = logs[0] - logs[1]
        known = difference[torch.isfinite(difference)]
        shifts.append(float(known.mean()) if "volatility" in kind and len(known) else 0.0)
    return shifts


def _write(start: Start, path: str, trainer: Trainer) -> None:
    """Writes a checkpoint again, with head, line and calibration of the start."""
    content = read_checkpoint(path)
    contract = Contract.of(content)
    if contract.calibration is not None:
        contract = replace(contract, calibration=start.calibrated_with(contract.calibration))
    content["state_dict"] |= start.weights
    content[CHECKPOINT_KEY] = with_digest(contract, content["state_dict"])
    trainer.strategy.checkpoint_io.save_checkpoint(content, path)
