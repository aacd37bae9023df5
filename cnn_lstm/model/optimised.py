"""A module that is trained by an injected optimiser and scheduler, and whose learning rate others may turn."""

from __future__ import annotations

from abc import ABC
from typing import Any, Literal

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cnn_lstm.model.clipping import Clipping
from cnn_lstm.model.scheduling import optimization
from cnn_lstm.model.trial_step import try_out


class OptimisedModule(LightningModule, ABC):
    """What Lightning asks of a module about the steps of its optimiser.

    Attributes:
        optimizer: Builds the optimiser from parameters.
        scheduler: Builds the learning-rate scheduler from the optimiser; None for a constant rate.
        scheduler_interval: Whether a scheduler steps each epoch or each batch.
        clipping: Clips gradients and counts the clipped steps of an epoch.
    """

    optimizer: OptimizerCallable
    scheduler: LRSchedulerCallable | None
    scheduler_interval: Literal["epoch", "step"]
    clipping: Clipping
    _chosen_rate: float | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute.

        Lightning (2.6) notes the name of each hook here, some forty times in a step. `nn.Module` first looks whether it
        is a parameter or a module, which a text in the place of another value never is.
        """
        if name in self.__dict__ and (value is None or isinstance(value, str)):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def lr(self) -> float:
        """Learning rate that a fit starts with: that of the optimiser, or what was set since.

        Lightning's `Tuner.lr_find` and `LearningRateFinder` set it. A scheduler with a rate of its own, such as the
        `max_lr` of `OneCycleLR`, does not follow.
        """
        if self._chosen_rate is not None:
            return self._chosen_rate
        return float(self.optimizer(self.parameters()).param_groups[0]["lr"])

    @lr.setter
    def lr(self, rate: float) -> None:
        self._chosen_rate = float(rate)
        for config in self._trainer.lr_scheduler_configs if self._trainer is not None else ():
            _start_from(config.scheduler, float(rate))  # a fit that has begun: its scheduler goes on from here

    def configure_optimizers(self) -> Any:
        """Optimiser and scheduler as injected, after one step of each has been tried out."""
        try_out(self.optimizer, self.scheduler, self.parameters())
        optimizer = self.optimizer(self.parameters())
        if self._chosen_rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = self._chosen_rate
        return optimization(optimizer, self.scheduler, self.scheduler_interval, self._trainer)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips, and counts the steps where that changed the norm; see `Clipping.step`."""
        precision = self.trainer.precision_plugin
        if not self.clipping.step(precision, optimizer, gradient_clip_val, gradient_clip_algorithm):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any | None) -> None:
        """Steps all schedulers but those of a plateau, which `Forecaster.on_train_epoch_end` steps."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)


def _start_from(scheduler: LRSchedulerTypeUnion, rate: float) -> None:
    """Makes a scheduler count its shares from another rate; one without rates of its own follows the optimiser's."""
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [rate] * len(scheduler.base_lrs)
    for group in scheduler.optimizer.param_groups:
        if "initial_lr" in group:
            group["initial_lr"] = rate
