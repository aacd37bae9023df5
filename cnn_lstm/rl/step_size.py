"""A learning-rate factor of chosen parameters, whatever optimiser steps them.

Stable-Baselines3 builds one optimiser from all parameters of a policy, and sets one learning rate in all its groups
before each update, so it overwrites the rates of parameter groups. A smaller gradient does not make a smaller step
either, since Adam and RMSprop divide by the size of the gradient. So the step itself is shortened.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

MARK = "cnn_lstm_lr_factor"
_before: WeakKeyDictionary[Optimizer, list[tuple[Parameter, Tensor]]] = WeakKeyDictionary()


def scale_steps(parameters: Iterable[Parameter], factor: float) -> None:
    """Shortens all later steps of these parameters to a share of what their optimiser would do.

    For an optimiser whose step is proportional to its learning rate, as with all of torch's, this equals a smaller
    learning rate for these parameters, which follows the schedule of the others.

    Args:
        parameters: Leaves of a network; they carry the factor as an attribute.
        factor: Share of the step, for example 0.1.

    Example:
        >>> one, other = Parameter(torch.ones(1)), Parameter(torch.ones(1))
        >>> scale_steps([one], 0.1)
        >>> optimizer = torch.optim.Adam([one, other], lr=0.5)
        >>> (one + other).sum().backward()
        >>> optimizer.step()
        >>> round(one.item(), 4), round(other.item(), 4)
        (0.95, 0.5)
    """
    _listen()
    for parameter in parameters:
        setattr(parameter, MARK, factor)


@functools.cache
def _listen() -> None:
    """Hooks into the steps of all optimisers, once per process: which one steps a parameter is not known before."""
    register_optimizer_step_pre_hook(_remember)
    register_optimizer_step_post_hook(_shorten)


def _remember(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Keeps the marked parameters as they are before a step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    _before[optimizer] = [(p, p.detach().clone()) for p in parameters if hasattr(p, MARK)]


@torch.no_grad()
def _shorten(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Moves the marked parameters back by all but their share of the step."""
    for parameter, before in _before.pop(optimizer, []):
        parameter.copy_(torch.lerp(before, parameter, getattr(parameter, MARK)))
