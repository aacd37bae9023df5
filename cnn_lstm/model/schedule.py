"""When the learning rate changes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion

from cnn_lstm.errors import ConfigError


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
        raise ConfigError(f"nobody logs {scheduler.monitor!r}", "model.scheduler.monitor", known, code=224)
