"""Weights averaged over the steps of a training: they are validated, saved and used; the training goes on with its own.

Not Lightning's `WeightAveraging` (2.6): it copies the model before its statistics are there, validates and saves that
copy until the first update (https://github.com/Lightning-AI/pytorch-lightning/issues/21724), forgets on resume which
epoch it averaged last, and averages every buffer, whole numbers too.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from cnn_lstm.errors import require
from cnn_lstm.plain_values import differences

log = logging.getLogger(__name__)
AVERAGING_KEY = "cnn_lstm_averaging"
SECTION = "weight_averaging"


class WeightAveraging(Callback):
    """Averages the weights after each step of the optimiser.

    From the first averaged step on, the average stands in the model wherever a forecast is made of it: in each
    validation, and so in the scores for intervals, in each checkpoint, and after the training. Before that step the
    model is as it is without this callback. Weights and the running statistics of batch normalisation are averaged;
    all other buffers do not change or are copied.

    The processes of a `ddp` training have equal weights after each step, and so equal averages.

    Args:
        kind: `off`, which YAML reads as False; `ema`, an exponential moving average; or `tail`, the mean of all steps
            since `from_epoch`.
        decay: Share of the old average that a step of `ema` keeps. Step n keeps at most (1 + n) / (10 + n) of it, so
            that the first weights are soon forgotten.
        from_epoch: First epoch whose steps are averaged, counted from 0; `tail` needs it.

    Source:
        `ema`: Tarvainen, Valpola (2017), Mean teachers; the warm-up of the decay is that of TensorFlow's
        `ExponentialMovingAverage`. `tail`: Polyak, Juditsky (1992); Izmailov et al. (2018), Averaging Weights Leads to
        Wider Optima.
    """

    def __init__(
        self, kind: Literal["off", "ema", "tail", False] = "off", decay: float = 0.99, from_epoch: int = 0
    ) -> None:
        require(0 <= decay < 1, f"decay={decay}", f"{SECTION}.decay", "give a share from 0 to below 1")
        require(from_epoch >= 0, f"from_epoch={from_epoch}", f"{SECTION}.from_epoch", "give 0 or a later epoch")
        fix = f"give {SECTION}.from_epoch, the first epoch of the tail"
        require(kind != "tail" or from_epoch > 0, "a tail that begins with the training", SECTION, fix)
        self.kind, self.decay, self.from_epoch = kind or "off", decay, from_epoch
        self._forget()

    def _forget(self) -> None:
        self._average: dict[str, Tensor] = {}  # empty until the first averaged step
        self._trained: dict[str, Tensor] = {}  # the weights of the training, while the average stands in the model
        self._averaged, self._seen = 0, 0

    # -- the average ---------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins a fit without an average.

        Raises:
            ConfigError: If the weights are not whole on each process, or a checkpoint would not hold the average.
        """
        if stage != "fit" or self.kind == "off":
            return
        self._forget()
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        name = type(trainer.strategy).__name__
        require(whole, f"weights are averaged on one device or with ddp, not {name}", SECTION, "set kind to off")
        for callback in trainer.checkpoint_callbacks:
            bare = isinstance(callback, ModelCheckpoint) and callback.save_weights_only
            fix = "leave one of them out"
            require(not bare, "save_weights_only saves weights that are not averaged", SECTION, fix)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts steps from here; a checkpoint is loaded before the model is on its device."""
        self._seen = trainer.global_step
        self._average = {name: values.to(pl_module.device) for name, values in self._average.items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Averages after a step of the optimiser, which comes after several batches where gradients accumulate."""
        stepped = trainer.global_step > self._seen
        self._seen = trainer.global_step
        if stepped and self.kind != "off" and trainer.current_epoch >= self.from_epoch:
            self._update(averageable(pl_module))

    @torch.no_grad()
    def _update(self, weights: dict[str, Tensor]) -> None:
        if not self._average:
            self._average = {name: values.clone() for name, values in weights.items()}
        elif self.kind == "ema":
            warm = (1 + self._averaged) / (10 + self._averaged)
            torch._foreach_lerp_(list(self._average.values()), list(weights.values()), 1.0 - min(self.decay, warm))
        else:
            torch._foreach_lerp_(list(self._average.values()), list(weights.values()), 1.0 / (self._averaged + 1))
        self._averaged += 1

    # -- where it stands in the model ------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the average into the model."""
        if trainer.state.fn == "fit":
            self._put_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the weights of the training back."""
        self._take_out(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Puts them back if a validation was cut off."""
        self._take_out(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the average in the model; says so if there is none."""
        if self.kind != "off" and not self._average:
            log.warning("%s: nothing was averaged, the training ended before epoch %s", SECTION, self.from_epoch)
        self._put_in(pl_module)

    def _put_in(self, module: LightningModule) -> None:
        if self._average and not self._trained:
            self._trained = {name: values.clone() for name, values in averageable(module).items()}
            _copy(self._average, module)

    def _take_out(self, module: LightningModule) -> None:
        if self._trained:
            _copy(self._trained, module)
            self._trained = {}

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves the average as the weights, and next to it what a resumed training needs."""
        if not self._average:
            return
        trained = self._trained or averageable(pl_module)
        checkpoint["state_dict"] = checkpoint["state_dict"] | self._average
        checkpoint[AVERAGING_KEY] = {"trained": trained, "averaged": self._averaged, "settings": self._settings()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on with the weights of the training; an average with other settings begins again."""
        saved = checkpoint.get(AVERAGING_KEY)
        if saved is None or trainer.state.fn != "fit":
            return
        _copy(saved["trained"], pl_module)
        changed = differences(saved["settings"], self._settings())
        for difference in changed:
            log.warning("resume: %s.%s, as the configuration says", SECTION, difference)
        if not changed:
            self._average = {name: checkpoint["state_dict"][name].clone() for name in saved["trained"]}
            self._averaged = int(saved["averaged"])

    def _settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "decay": self.decay, "from_epoch": self.from_epoch}


def averageable(module: nn.Module) -> dict[str, Tensor]:
    """Weights and the running statistics of batch normalisation, by their names in the model's state.

    Args:
        module: The model.
    """
    # also under each further name of a tensor that is used twice, since the state has all of them
    found = {name: parameter.detach() for name, parameter in module.named_parameters(remove_duplicate=False)}
    for prefix, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats:
            found |= {f"{prefix}.{name}": part.get_buffer(name) for name in ("running_mean", "running_var")}
    return found


@torch.no_grad()
def _copy(values: dict[str, Tensor], module: nn.Module) -> None:
    for name, target in averageable(module).items():
        target.copy_(values[name])
