"""Monte Carlo dropout: many passes in which dropout, and nothing else, is random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

STOCHASTIC = (_DropoutNd, nn.RNNBase, nn.MultiheadAttention)


@contextmanager
def only_dropout(module: nn.Module) -> Iterator[None]:
    """Evaluation mode with dropout on, also inside LSTM and attention; batch norm stays frozen.

    All modes are restored at the end.

    Args:
        module: The network.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    for part in module.modules():
        if isinstance(part, STOCHASTIC):
            part.training = True
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def dropout_samples(
    forward: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, samples: int, seed: int
) -> Tensor:
    """Forecasts of several passes.

    Args:
        forward: Forecast of a batch, (B, H).
        module: The network whose dropout is switched on.
        x: Windows, (B, T, F).
        samples: Number of passes, S.
        seed: Seed of the dropout masks; the global random state is left alone.

    Returns:
        Forecasts, (S, B, H).
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices), only_dropout(module):
        torch.manual_seed(seed)
        return torch.stack([forward(x) for _ in range(samples)])


def dropout_columns(module: nn.Module, x: Tensor, samples: int, seed: int, classes: int) -> dict[str, Tensor]:
    """Forecast columns of several passes, each (B, H): `mc_std`, their spread, and `y_pred` of numbers, their mean.

    Args:
        module: Gives forecast columns of windows, `y_pred` among them.
        x: Windows, (B, T, F).
        samples: Number of passes.
        seed: Seed of the dropout masks.
        classes: Number of classes; 0 for numbers.
    """
    draws = dropout_samples(lambda batch: module(batch)["y_pred"], module, x, samples, seed)  # (S, B, H)
    mean = {} if classes else {"y_pred": draws.mean(dim=0)}
    return {**mean, "mc_std": draws.std(dim=0, correction=0)}
