"""A learning rate that follows the length of the training.

Nothing of Lightning is named here, not even for types: the parser of a configuration would import it.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cnn_lstm.errors import CheckpointError, require
from cnn_lstm.plain_values import differences

log = logging.getLogger(__name__)
SCHEDULE = "model.scheduler"


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
        >>> weights = [torch.nn.Parameter(torch.zeros(1))]
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
