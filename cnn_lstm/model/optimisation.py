"""What surrounds a step of the optimiser: clipping of its gradients, and the change of its learning rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cnn_lstm.errors import CheckpointError, ConfigError, require
from cnn_lstm.model.trial_step import require_long_enough
from cnn_lstm.plain_values import differences

log = logging.getLogger(__name__)
SCHEDULE = "model.scheduler"


class Clipping:
    """Clips by norm and counts the clipped steps; the count stays on the device, so no step waits for it.

    Example:
        >>> import torch
        >>> weight, clipping = nn.Parameter(torch.zeros(2)), Clipping()
        >>> for gradient in ([3.0, 4.0], [0.3, 0.4]):
        ...     weight.grad = torch.tensor(gradient)
        ...     clipping.clip([weight], limit=1.0)
        >>> clipping.share
        0.5

    Args:
        steps: Steps that were counted before.
        clipped: Those of them that were clipped.
    """

    def __init__(self, steps: int = 0, clipped: int = 0) -> None:
        self._steps = steps
        self._clipped: Tensor | int = clipped

    @property
    def counts(self) -> tuple[int, int]:
        """Steps so far, and those that were clipped: the arguments that go on from here."""
        return self._steps, int(self._clipped)

    def step(self, precision: Precision, optimizer: Optimizer, limit: float | None, algorithm: str | None) -> bool:
        """Clips the gradients of an optimiser where torch's own calls do.

        Under bf16, where no gradient is scaled, that includes a fused optimiser, which Lightning refuses to clip.

        Args:
            precision: Lightning's precision plugin.
            optimizer: Its gradients are clipped.
            limit: Largest norm or value; None or 0 for no clipping.
            algorithm: `norm` or `value`; `norm` by default.

        Returns:
            Whether that was done; if not, it is left to Lightning.
        """
        if not limit or limit < 0 or not clips_plainly(precision):
            return False
        if (algorithm or GradClipAlgorithmType.NORM) == GradClipAlgorithmType.NORM:
            self.clip(precision.main_params(optimizer), limit)
        else:
            precision.clip_grad_by_value(optimizer, limit)
        return True

    def clip(self, parameters: Iterable[Tensor], limit: float) -> None:
        """Scales the gradients down to a norm of `limit`, if theirs is larger."""
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        self._clipped = self._clipped + (norm > limit)
        self._steps += 1

    @property
    def share(self) -> float | None:
        """Share of the steps whose gradients were too large; None before the first step."""
        return int(self._clipped) / self._steps if self._steps else None


def clips_plainly(precision: Precision) -> bool:
    """Whether clipping by norm is torch's own call; sharded gradients and scaled ones need Lightning's.

    Args:
        precision: Lightning's precision plugin.
    """
    if isinstance(precision, MixedPrecision):
        return precision.scaler is None
    cls = type(precision)
    return cls.clip_gradients is Precision.clip_gradients and cls.clip_grad_by_norm is Precision.clip_grad_by_norm


class WarmupCosine(LRScheduler):
    """A learning rate that rises linearly to that of the optimiser and then falls along half a cosine, step by step.

    The number of steps is that of the whole training, which the trainer knows: `trainer.max_epochs` or `max_steps`, the
    size of the data and the accumulation of gradients; nobody has to give it. A run that is resumed with another number
    of epochs goes on along the schedule of the new number, with a warning: its rate jumps.

    It is `SequentialLR` of torch's `LinearLR` and `CosineAnnealingLR` in closed form: those keep their lengths in the
    checkpoint, and behind its end the cosine would rise again.

    Args:
        optimizer: Its learning rate is the highest one.
        warm_up: Share of the steps in which the rate rises.
        final: Last rate as a share of the highest one.

    Source:
        Loshchilov, Hutter (2017), SGDR; Goyal et al. (2017), Accurate, Large Minibatch SGD, for the warm-up.

    Example:
        >>> import torch
        >>> weights = [nn.Parameter(torch.zeros(1))]
        >>> schedule = WarmupCosine(torch.optim.SGD(weights, lr=1.0), warm_up=0.5, final=0.0)
        >>> schedule.plan(4)
        >>> [round(schedule.share(step), 2) for step in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, optimizer: Optimizer, warm_up: float = 0.05, final: float = 0.01) -> None:
        require(0 <= warm_up < 1, f"warm_up={warm_up}", f"{SCHEDULE}.warm_up", "give a share from 0 to below 1")
        require(0 <= final <= 1, f"final={final}", f"{SCHEDULE}.final", "give a share from 0 to 1")
        self.warm_up, self.final, self.total_steps = warm_up, final, 1
        super().__init__(optimizer)

    def plan(self, total_steps: float) -> None:
        """Takes the number of steps of the whole training.

        Raises:
            ConfigError: If the training has no end.
        """
        endless = "a schedule of warm-up and cosine needs a last step"
        require(math.isfinite(total_steps), endless, SCHEDULE, "set trainer.max_epochs or trainer.max_steps")
        self.total_steps = max(int(total_steps), 1)
        self._apply()

    def share(self, step: int) -> float:
        """Rate of a step, counted from 0, as a share of the highest one."""
        rising = round(self.warm_up * self.total_steps)
        if step < rising:
            return (step + 1) / rising
        passed = min((step - rising) / max(self.total_steps - rising, 1), 1.0)
        return self.final + (1.0 - self.final) * (1.0 + math.cos(math.pi * passed)) / 2.0

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the current step, one per group of parameters."""
        return [rate * self.share(self.last_epoch) for rate in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the step of a checkpoint; the schedule stays that of this training.

        Raises:
            CheckpointError: If it is the state of another scheduler.
        """
        other, fix = "the checkpoint was trained with another scheduler", "resume with the config.yaml of its run"
        if "total_steps" not in state_dict or "warm_up" not in state_dict:
            raise CheckpointError(other, SCHEDULE, fix, code=436)
        planned = {name: getattr(self, name) for name in ("total_steps", "warm_up", "final")}
        super().load_state_dict({**state_dict, **planned})
        for difference in differences({name: state_dict.get(name) for name in planned}, planned):
            log.warning("resume: %s.%s, as the configuration says", SCHEDULE, difference)
        self._apply()

    def _apply(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = self.get_lr()


def optimization(
    optimizer: Optimizer, scheduler: LRSchedulerCallable | None, interval: str, trainer: Trainer | None
) -> Any:
    """An optimiser, and the scheduler that is built for it, in the form that Lightning takes; see `settings_of`."""
    if scheduler is None:
        return optimizer
    return {"optimizer": optimizer, "lr_scheduler": settings_of(scheduler(optimizer), interval, trainer)}


def settings_of(scheduler: LRSchedulerTypeUnion, interval: str, trainer: Trainer | None) -> dict[str, Any]:
    """A scheduler in the form that Lightning takes.

    Args:
        scheduler: The scheduler.
        interval: `epoch` or `step`; one of a plateau steps each epoch in any case, and `WarmupCosine` each step.
        trainer: It knows the number of steps; None before there is one.
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        # not strict: `step_plateau` steps it, and the first validation may be some epochs away
        return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor_of(scheduler), "strict": False}
    if isinstance(scheduler, WarmupCosine):
        if trainer is not None:
            scheduler.plan(trainer.estimated_stepping_batches)
        return {"scheduler": scheduler, "interval": "step"}
    if trainer is not None:
        require_long_enough(scheduler, interval, trainer)
    return {"scheduler": scheduler, "interval": interval}


def monitor_of(scheduler: ReduceLROnPlateau) -> str:
    """Metric that a scheduler waits for: that of Lightning's class; torch's own names none and gets `val_loss`."""
    return str(getattr(scheduler, "monitor", "val_loss"))


def step_plateau(scheduler: ReduceLROnPlateau, trainer: Trainer) -> None:
    """Steps a scheduler that waits for a metric to stop improving; nothing happens before the first validation.

    Raises:
        ConfigError: If a validation has ended, and the metric was not logged.
    """
    metrics, monitor = trainer.callback_metrics, monitor_of(scheduler)
    if monitor in metrics:
        scheduler.step(metrics[monitor])
    elif any(name.startswith("val_") for name in metrics):
        known = f"one of {', '.join(sorted(metrics))}"
        raise ConfigError(f"no metric is named {monitor!r}", "model.scheduler.monitor", known, code=224)
