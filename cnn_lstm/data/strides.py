"""An epoch over every n-th training row of each symbol, from a random phase.

Shapes: n training rows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Strides:
    """Every stride-th training row of each symbol, from a phase that is drawn for each epoch and symbol.

    Neighbouring windows share all but one of their rows, so an epoch over all of them sees nearly the same windows many
    times. An epoch over every stride-th one is shorter, and over the epochs each row comes as often as any other row of
    its symbol, the newest ones too.

    Args:
        symbol: Symbol of each training row, (n,); the rows of a symbol ascend in time.
        stride: Rows of a symbol from one that is taken to the next.

    Attributes:
        least: Rows of an epoch, at least: so an epoch always has the same number of steps. What a phase gives beyond
            it may be left out like an incomplete batch.

    Example:
        >>> strides = Strides(np.array([0, 0, 0, 0, 0, 1, 1]), stride=2)
        >>> strides.draw(torch.Generator().manual_seed(2)).tolist(), strides.least
        ([1, 3, 5], 3)
    """

    def __init__(self, symbol: NDArray[np.int32], stride: int) -> None:
        _, code, count = np.unique(symbol, return_inverse=True, return_counts=True)
        position = np.empty(len(symbol), dtype=np.int64)
        first = np.cumsum(count) - count  # of each symbol, among the rows in the order of the symbols
        position[np.argsort(code, kind="stable")] = np.arange(len(symbol)) - np.repeat(first, count)
        self._symbol, self._position = torch.from_numpy(code), torch.from_numpy(position % stride)
        # a symbol of fewer rows than a stride gives one row to each epoch
        self._phases = torch.from_numpy(np.minimum(count, stride))
        self.least = int(np.maximum(count // stride, 1).sum())

    def draw(self, generator: torch.Generator) -> Tensor:
        """Positions of an epoch's rows among the training rows, ascending.

        Args:
            generator: The phases are drawn from it.
        """
        phase = (torch.rand(len(self._phases), generator=generator, dtype=torch.float64) * self._phases).long()
        return torch.nonzero(self._position == phase[self._symbol]).squeeze(1)
