"""Early stopping that looks at the course of a metric instead of at its single values."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from cnn_lstm.errors import require


class SmoothedEarlyStopping(EarlyStopping):
    """Stops when the smoothed metric no longer improves.

    Where a metric swings as much from epoch to epoch as it still improves, one lucky epoch ends a training too early:
    nothing later is better by chance again. The smoothed value is s = smoothing * s + (1 - smoothing) * metric, and
    begins at the first metric. It decides about the stop only: best.ckpt goes on being the epoch with the best metric
    itself, so that what is kept is what was measured of it.

    Args:
        monitor: Name of the metric.
        min_delta: Least change that counts as an improvement.
        patience: Validations without an improvement before the training stops.
        verbose: Whether to log each improvement.
        mode: `min` or `max`.
        strict: Whether a metric that is not there is an error.
        check_finite: Whether to stop when the metric is not finite.
        stopping_threshold: Value at which the training stops, being good enough.
        divergence_threshold: Value at which the training stops, being too bad.
        check_on_train_epoch_end: Whether to check at the end of a training epoch, instead of after the validation.
        log_rank_zero_only: Whether only the first process logs.
        smoothing: Share of the old value that a new one keeps; 0 for none.

    Example:
        >>> import torch
        >>> stopping = SmoothedEarlyStopping("val_loss", smoothing=0.5)
        >>> [round(float(stopping.smooth(torch.tensor(loss))), 3) for loss in (1.0, 0.5, 1.0)]
        [1.0, 0.75, 0.875]
    """

    def __init__(  # noqa: PLR0913 - each argument is a key of the YAML
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            monitor,
            min_delta,
            patience,
            verbose,
            mode,
            strict,
            check_finite,
            stopping_threshold,
            divergence_threshold,
            check_on_train_epoch_end,
            log_rank_zero_only,
        )
        require(patience >= 0, f"patience={patience}", "early_stopping.patience", "give 0 or more validations")
        where, fix = "early_stopping.smoothing", "give a share from 0 to below 1"
        require(0 <= smoothing < 1, f"smoothing={smoothing}", where, fix)
        self.smoothing = smoothing
        self._smoothed: Tensor | None = None

    @property
    def state_key(self) -> str:
        """That of Lightning's class, under which older checkpoints keep the state."""
        return f"{EarlyStopping.__qualname__}{ {'monitor': self.monitor, 'mode': self.mode} }"

    def state_dict(self) -> dict[str, Any]:
        """The state of Lightning's class, and the smoothed metric."""
        return {**super().state_dict(), "smoothed": self._smoothed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint; those of older versions have no smoothed metric."""
        super().load_state_dict(state_dict)
        self._smoothed = state_dict.get("smoothed")

    def smooth(self, current: Tensor) -> Tensor:
        """Takes the newest metric, and returns the smoothed one; both are single numbers."""
        before = current if self._smoothed is None else self._smoothed.to(current.device)
        self._smoothed = self.smoothing * before + (1.0 - self.smoothing) * current
        return self._smoothed

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        return super()._evaluate_stopping_criteria(self.smooth(current) if self.smoothing else current)
