"""Clipping of gradients, and the count of the steps in which they were too large."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer


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
