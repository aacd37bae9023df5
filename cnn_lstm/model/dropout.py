"""Monte Carlo dropout: many passes in which dropout, and nothing else, is random."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

STOCHASTIC = (_DropoutNd, nn.RNNBase, nn.MultiheadAttention)
MOST_COPIES = 256  # of a window in one batch, to spare memory


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

    The masks of a window depend on its values and the seed, never on the batch: the draws of past bars stay the same
    when new bars or symbols come. All passes of a window are one batch, of copies of it, so that a mask without a
    batch dimension, as of an own network's positions, would be shared by the passes.

    Args:
        forward: Forecast of a batch, (B, H).
        module: The network whose dropout is switched on.
        x: Windows, (B, T, F).
        samples: Number of passes, S.
        seed: Seed of the dropout masks; the global random state is left alone.

    Returns:
        Forecasts, (S, B, H).
    """
    if not len(x):  # a process without rows
        return forward(x).expand(samples, -1, -1)
    devices = [x.device] if x.device.type == "cuda" else []
    draws = []
    with torch.random.fork_rng(devices), only_dropout(module), _seeded_kernels(module, x):
        for window, own in zip(x, _seeds(x, seed), strict=True):
            torch.manual_seed(own)
            copies = window.expand(samples, -1, -1).split(MOST_COPIES)
            draws.append(torch.cat([forward(part.clone()) for part in copies]))
    return torch.stack(draws, dim=1)


def _seeds(x: Tensor, seed: int) -> Iterator[int]:
    """A seed of each window, of its values and the given seed."""
    key = str(seed).encode()
    for window in x.contiguous().cpu().numpy():
        yield int.from_bytes(hashlib.blake2b(window.tobytes(), digest_size=8, key=key).digest(), "big") >> 1


def _seeded_kernels(module: nn.Module, x: Tensor) -> AbstractContextManager[None]:
    """Keeps cuDNN away from dropout between the layers of an LSTM: its masks do not start again with `manual_seed`."""
    between = any(isinstance(part, nn.RNNBase) and part.dropout > 0 for part in module.modules())
    return torch.backends.cudnn.flags(enabled=False) if between and x.device.type == "cuda" else nullcontext()


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
    # window by window, always of one shape and from fresh memory: kernels round by the shape
    each = [window.clone(memory_format=torch.contiguous_format) for window in draws.unbind(dim=1)]
    if not each:
        return {name: draws.new_empty(draws.shape[1:]) for name in ("y_pred", "mc_std")[bool(classes) :]}
    mean = {} if classes else {"y_pred": torch.stack([window.mean(dim=0) for window in each])}
    return {**mean, "mc_std": torch.stack([window.std(dim=0, correction=0) for window in each])}
