"""Loaders over row numbers: shuffling, sharding and cutting, without a copy of any window.

Shapes: B windows in a batch, T window length, F features, H targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cnn_lstm.data.windows import Rows, cut_windows


class Batch(NamedTuple):
    """Windows and what came after them.

    Attributes:
        x: Features, (B, T, F).
        y: Labels, (B, H); NaN where unknown, which happens in `predict` only.
        row: Panel row of each window's last bar, (B,).
    """

    x: Tensor
    y: Tensor
    row: Tensor


class WindowDataset(Dataset[Batch]):
    """The windows of a panel; an item is a whole batch, asked for by a tensor of row numbers.

    Args:
        values: Features, (N, F), on the device where batches are cut.
        labels: Targets, (N, H), on the same device.
        length: Rows of a window.
    """

    def __init__(self, values: Tensor, labels: Tensor, length: int) -> None:
        self.values, self.labels, self.length = values, labels, length

    def __getitem__(self, rows: Tensor) -> Batch:
        rows = rows.to(self.values.device, non_blocking=True)
        return Batch(cut_windows(self.values, rows, self.length), self.labels.index_select(0, rows), rows)


class RowBatches(Sampler[Tensor]):
    """Batches of row numbers, sharded over processes.

    In training each epoch draws one permutation from (seed, epoch), so that a resumed run sees the batches of an
    uninterrupted one; each process takes its part of each global batch, and an incomplete last batch is left out
    when there is a complete one. In evaluation each row is seen by exactly one process, none is repeated, and all
    processes make the same number of steps.

    Args:
        rows: Row numbers, (n,).
        batch_size: Windows in a batch of one process.
        shuffle: Training order instead of the given one.
        seed: Seed of the permutations.
        rank: Number of this process.
        world_size: Number of processes.

    Example:
        >>> [batch.tolist() for batch in RowBatches(np.arange(5), batch_size=2, shuffle=False)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, rows: Rows, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.rows = torch.from_numpy(np.ascontiguousarray(rows))
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        global_batch = self.batch_size * self.world_size
        if self.shuffle and len(self.rows) >= global_batch:
            return len(self.rows) // global_batch
        return math.ceil(len(self.rows) / global_batch)

    def __iter__(self) -> Iterator[Tensor]:
        return self._training() if self.shuffle else self._evaluation()

    def _training(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch * 1_000_003)
        order = torch.randperm(len(self.rows), generator=generator)
        for step in range(len(self)):
            start = step * self.batch_size * self.world_size
            stop = min(start + self.batch_size * self.world_size, len(order))
            yield self.rows[order[start + self.rank : stop : self.world_size]]

    def _evaluation(self) -> Iterator[Tensor]:
        mine = self.rows[self.rank :: self.world_size]
        if self.world_size == 1:
            return iter(mine.split(self.batch_size)) if len(mine) else iter(())
        return iter(mine.tensor_split(len(self)))


def _identity(batch: Any) -> Any:
    return batch


def make_loader(dataset: WindowDataset, batches: RowBatches) -> DataLoader[Batch]:
    """Loader that cuts one batch a step in the training process: workers only slow a gather down.

    The generator is the loader's own, so that starting an epoch leaves the random state of the model alone.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        collate_fn=_identity,
        generator=torch.Generator(),
    )
