"""What surrounds a step of the optimiser: clipping of its gradients, and the change of its learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch import Tensor, nn
from torch.optim import Optimizer

from cnn_lstm.errors import ConfigError


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
    """

    def __init__(self) -> None:
        self._steps = 0
        self._clipped: Tensor | int = 0

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


def settings_of(scheduler: LRSchedulerTypeUnion, interval: str) -> dict[str, Any]:
    """A scheduler in the form that Lightning takes.

    Args:
        scheduler: The scheduler.
        interval: `epoch` or `step`; one of a plateau steps each epoch in any case.
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        # not strict: `step_plateau` steps it, and the first validation may be some epochs away
        return {"scheduler": scheduler, "interval": "epoch", "monitor": scheduler.monitor, "strict": False}
    return {"scheduler": scheduler, "interval": interval}


def step_plateau(scheduler: ReduceLROnPlateau, trainer: Trainer) -> None:
    """Steps a scheduler that waits for a metric to stop improving; nothing happens before the first validation.

    Raises:
        ConfigError: If a validation has ended, and the metric was not logged.
    """
    metrics, every = trainer.callback_metrics, trainer.check_val_every_n_epoch or 1
    if scheduler.monitor in metrics:
        scheduler.step(metrics[scheduler.monitor])
    elif trainer.enable_validation and trainer.is_last_batch and (trainer.current_epoch + 1) % every == 0:
        known = f"one of {', '.join(sorted(metrics))}"
        raise ConfigError(f"no metric is named {scheduler.monitor!r}", "model.scheduler.monitor", known, code=224)
