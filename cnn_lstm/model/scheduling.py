"""Optimiser and scheduler in the form that Lightning takes, and the steps of a scheduler that waits for a metric."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.optimisation import WarmupCosine
from cnn_lstm.model.trial_step import require_long_enough


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
