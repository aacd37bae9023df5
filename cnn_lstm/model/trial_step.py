"""Optimiser and scheduler, tried out before a training: what fails at their first steps fails here, in one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from cnn_lstm.errors import ConfigError, require
from cnn_lstm.hints import without_operands
from cnn_lstm.plain_values import differences

OPTIMIZER, SCHEDULER = "model.optimizer", "model.scheduler"
LENGTH_OF_ONE_CYCLE = ("total_steps", "_schedule_phases")


def try_out(optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None, parameters: Iterable[Tensor]) -> None:
    """Makes two steps with copies of parameters; nothing else is changed.

    Args:
        optimizer: Builds the optimiser.
        scheduler: Builds its scheduler; None for none.
        parameters: Those that are to be trained.

    Raises:
        ConfigError: E281, if one of the two cannot make a step, or leads to a rate that cannot be used.

    Example:
        >>> weights = [nn.Parameter(torch.zeros(2))]
        >>> try_out(torch.optim.SparseAdam, None, weights)
        Traceback (most recent call last):
        cnn_lstm.errors.ConfigError: error[E281]: SparseAdam fails at its first step: SparseAdam does not support \
dense gradients, please consider Adam instead — model.optimizer — correct its arguments, or name another class
    """
    copies = [nn.Parameter(p.detach().clone()) for p in parameters if p.requires_grad and p.numel()]
    for copy in copies:
        copy.grad = torch.full_like(copy, 1e-3)
    loss = torch.ones(())
    tried: Any = optimizer(copies)
    steps: list[Callable[[], object]] = [lambda: tried.step(lambda: loss)]
    names = [(type(tried).__name__, OPTIMIZER)]
    if scheduler is not None:
        schedule: Any = scheduler(tried)
        plateau = isinstance(schedule, ReduceLROnPlateau)
        steps.append(lambda: schedule.step(1.0) if plateau else schedule.step())
        names.append((type(schedule).__name__, SCHEDULER))
    for _ in range(2):  # some divide by the number of a step, which is 0 at first
        for step, (name, where) in zip(steps, names, strict=True):
            with _in_one_line(name, where):
                step()
        for group in tried.param_groups:
            rate = float(group["lr"])
            require(rate >= 0, f"{names[-1][0]} leads to a learning rate of {rate:g}", names[-1][1], "correct its "
                    "arguments", code=281)  # fmt: skip


@contextmanager
def _in_one_line(name: str, where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # anything that a class of the user's choice may raise
        reason = without_operands(" ".join((str(error) or type(error).__name__).split()))[:200]
        what = f"{name} fails at its first step: {reason}"
        raise ConfigError(what, where, "correct its arguments, or name another class", code=281) from error


def require_long_enough(scheduler: object, interval: str, trainer: Trainer) -> None:
    """Refuses a schedule that ends before the training does, which raises an error in the middle of it.

    `OneCycleLR` is the one of torch that cannot go on behind its end.

    Args:
        scheduler: The scheduler, or one that is made of several.
        interval: `step` or `epoch`, after each of which it steps.
        trainer: It knows the length of the whole training.

    Raises:
        ConfigError: E281, naming both numbers.
    """
    for part in _with_parts(scheduler):
        if not isinstance(part, OneCycleLR):
            continue
        steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
        needed = steps if interval == "step" else math.inf if epochs is None or epochs < 0 else epochs
        asked, fix = "has no end", "set trainer.max_epochs or trainer.max_steps"
        if needed < math.inf:
            asked, fix = f"has {needed:.0f} {interval}s", f"give at least {needed:.0f}, or train less"
        what = f"OneCycleLR has total_steps={part.total_steps}, the training {asked}"
        require(part.total_steps >= needed, what, f"{SCHEDULER}.init_args.total_steps", fix, code=281)


def _with_parts(scheduler: object) -> Iterator[object]:
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):  # of `SequentialLR` and `ChainedScheduler`
        yield from _with_parts(part)


def with_current_length(saved: dict[str, Any], scheduler: LRScheduler) -> list[str]:
    """Gives the state of a scheduler in a checkpoint the length that the configuration says now, in place.

    torch's `OneCycleLR` would take its length from the checkpoint, and fail behind it.

    Args:
        saved: State of a scheduler, as a checkpoint holds it.
        scheduler: The scheduler of the configuration.

    Returns:
        What has changed, `name: before -> now` each.
    """
    if not isinstance(scheduler, OneCycleLR) or "total_steps" not in saved:
        return []
    changed = differences({"total_steps": saved["total_steps"]}, {"total_steps": scheduler.total_steps})
    if changed:
        saved |= {name: getattr(scheduler, name) for name in LENGTH_OF_ONE_CYCLE if hasattr(scheduler, name)}
    return changed
