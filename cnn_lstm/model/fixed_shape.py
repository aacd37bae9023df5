"""Forecasts whose bits do not depend on how many windows are asked for at once.

Shapes: B windows, T window length, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

INFERENCE_BATCH = 32
SMALL_BATCHES = (2, 4, 8)  # a single window in a batch of 32 takes seven times as long as in one of 2
MOST_SMALL = 16  # windows that small batches are faster for

Function = Callable[[Tensor], tuple[Tensor, ...]]


def fixed_shape(function: Function, x: Tensor) -> tuple[Tensor, ...]:
    """Applies a function of windows in batches of one fixed shape, the last one filled up with copies.

    Matrix kernels round differently for different batch shapes. With always the same shape, a forecast is the same, bit
    for bit, in a test run, in a table of one symbol, and for a single window.

    Args:
        function: Maps windows (`INFERENCE_BATCH`, T, F) row by row, to one tensor or several.
        x: Windows, (B, T, F).

    Returns:
        The function's outputs, each of first dimension B.

    Example:
        >>> windows = torch.arange(3.0).view(3, 1, 1)
        >>> fixed_shape(lambda batch: (batch.sum(dim=(1, 2)),), windows)
        (tensor([0., 1., 2.]),)
    """
    if not len(x):  # a process without rows
        return tuple(output[:0] for output in function(x.new_zeros(INFERENCE_BATCH, *x.shape[1:])))
    return _joined(_filled_up(function, x, INFERENCE_BATCH))


class SmallShapes:
    """`fixed_shape` that takes few windows in small batches, where these give the bits of the large ones.

    Whether they do depends on the network, the machine and the number of threads, not on the numbers in a window:
    kernels choose the order of their sums by shapes. So each size is tried out once, at the first few windows of a
    shape: 32 windows are computed in one large batch and, at each place of a small one, in small batches. Where any bit
    differs the next size is taken, and at last the large batch, as it is on a GPU, where it costs nothing.

    Example:
        >>> shapes = SmallShapes()
        >>> with torch.no_grad():
        ...     shapes(lambda batch: (batch.sum(dim=(1, 2)),), torch.ones(1, 2, 1))
        (tensor([2.]),)
    """

    def __init__(self) -> None:
        self._equal: dict[tuple[object, ...], bool] = {}  # by all that kernels are chosen by

    def __call__(self, function: Function, x: Tensor, kept: Sequence[int] = ()) -> tuple[Tensor, ...]:
        """Applies a function of windows, (B, T, F), as `fixed_shape` does, with the same bits.

        Args:
            function: As for `fixed_shape`.
            x: Windows, (B, T, F).
            kept: Features that are codes, which mean nothing when they are changed.
        """
        if x.device.type == "cpu" and 0 < len(x) <= MOST_SMALL and not torch.is_grad_enabled():
            for size in SMALL_BATCHES:
                if size >= min(len(x), SMALL_BATCHES[-1]) and self._gives_equal_bits(function, x[0], size, kept):
                    return _joined(_filled_up(function, x, size))
        return fixed_shape(function, x)

    def _gives_equal_bits(self, function: Function, window: Tensor, size: int, kept: Sequence[int]) -> bool:
        autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
        key = (size, *window.shape, window.dtype, torch.get_num_threads(), autocast)
        if key not in self._equal:
            self._equal[key] = small_batches_are_equal(function, window, size, kept)
        return self._equal[key]


def small_batches_are_equal(function: Function, window: Tensor, size: int, kept: Sequence[int] = ()) -> bool:
    """Whether small batches give the bits of a large one, at each of their places.

    Args:
        function: As for `fixed_shape`.
        window: A window, (T, F); it is tried out with its rows in many orders and of many sizes.
        size: Windows of a small batch.
        kept: Features that stay as they are.
    """
    chance = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(len(window), generator=chance) for _ in range(INFERENCE_BATCH)])
    factors = 1 + torch.randn(INFERENCE_BATCH, len(window), 1, generator=chance) / 8
    windows = window[orders] * factors.to(window.dtype)
    windows[..., list(kept)] = window[..., list(kept)]
    large = function(windows)
    for place in range(size):
        small = _joined(_filled_up(function, windows.roll(place, 0), size))
        if not all(torch.equal(one.roll(-place, 0), other) for one, other in zip(small, large, strict=True)):
            return False
    return True


def _filled_up(function: Function, x: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
    """The function's outputs of each batch, without those of the copies that fill the last one up."""
    for part in x.split(size):
        filling = part[-1:].expand(size - len(part), -1, -1)
        yield tuple(output[: len(part)] for output in function(torch.cat([part, filling])))


def _joined(parts: Iterator[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))
