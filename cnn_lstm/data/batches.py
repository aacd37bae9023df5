"""Batches of windows: their row numbers in the order of an epoch, cut out of the panel one batch at a time.

Shapes: N panel rows, F features, H targets, T window length, B windows in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.strides import Strides
from cnn_lstm.data.windows import cut_windows

BLOCK_ROWS, MIXED_BLOCKS = 1 << 14, 64


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


class RowBatches(DistributedSampler[Tensor]):
    """Batches of row numbers, sharded over processes.

    In training each epoch draws one permutation from (seed, epoch), so that a resumed run sees the batches of an
    uninterrupted one; each process takes its part of each global batch, and an incomplete last batch is left out
    when there is a complete one. In evaluation each row is seen by exactly one process, none is repeated, and all
    processes make the same number of steps.

    It is a `DistributedSampler`, since Lightning and Fabric wrap any other sampler in a second one where there are
    several processes, and each of them would see a share of a share.

    Args:
        rows: Row numbers, (n,).
        batch_size: Windows in a batch of one process.
        shuffle: Training order instead of the given one.
        seed: Seed of the permutations.
        rank: Number of this process; by default that of the process group in which the batches are read.
        world_size: Number of processes; by default that of the process group, 1 without one.
        strides: What each training epoch takes of the rows; all of them by default.
        in_blocks: Whether an epoch shuffles blocks of `BLOCK_ROWS` neighbouring rows, and the rows of `MIXED_BLOCKS`
            blocks together, instead of all rows: so it reads a panel in files in long pieces.

    Example:
        >>> [batch.tolist() for batch in RowBatches(np.arange(5), batch_size=2, shuffle=False)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        strides: Strides | None = None,
        in_blocks: bool = False,
    ) -> None:
        # not its constructor: that one asks for the process group, which may be there only when batches are read
        self.rows = torch.from_numpy(np.ascontiguousarray(rows))
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self._rank, self._world_size = rank, world_size
        self.strides, self.in_blocks = strides if shuffle else None, in_blocks
        self.epoch = 0
        self.skipped = 0  # batches that the next training epoch leaves out, since they are trained already

    @property
    def rank(self) -> int:  # type: ignore[override]  # an attribute of the base
        """Number of this process."""
        return _in_group(dist.get_rank, 0) if self._rank is None else self._rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return _in_group(dist.get_world_size, 1) if self._world_size is None else self._world_size

    num_replicas = world_size  # its name in the base

    def set_epoch(self, epoch: int) -> None:
        """Chooses the permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        global_batch = self.batch_size * self.world_size
        rows = len(self.rows) if self.strides is None else self.strides.least
        if self.shuffle and rows >= global_batch:
            return rows // global_batch
        return math.ceil(rows / global_batch)

    def __iter__(self) -> Iterator[Tensor]:
        if self.shuffle:
            return self._left()
        mine = self.rows[self.rank :: self.world_size]
        if self.world_size == 1:
            return iter(mine.split(self.batch_size)) if len(mine) else iter(())
        return iter(mine.tensor_split(len(self)))

    def _left(self) -> Iterator[Tensor]:
        skipped, self.skipped = self.skipped, 0
        yield from islice(self._training(), skipped, None)

    def _training(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch * 1_000_003)
        rows = self.rows if self.strides is None else self.rows[self.strides.draw(generator)]
        shuffled = _in_blocks(len(rows), generator) if self.in_blocks else _at_once(len(rows), generator)
        global_batches = _cut(shuffled, self.batch_size * self.world_size)
        for order in islice(global_batches, len(self)):
            yield rows[order[self.rank :: self.world_size]]


def _at_once(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """All positions 0 to count - 1, shuffled."""
    yield torch.randperm(count, generator=generator)


def _in_blocks(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The same, by blocks of neighbours: the blocks are shuffled, and what is in some blocks together."""
    for group in torch.randperm(math.ceil(count / BLOCK_ROWS), generator=generator).split(MIXED_BLOCKS):
        positions = (group[:, None] * BLOCK_ROWS + torch.arange(BLOCK_ROWS)).flatten()
        positions = positions[positions < count]
        yield positions[torch.randperm(len(positions), generator=generator)]


def _cut(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Pieces, (n,) each, in parts of one size; the last one may be shorter."""
    left = torch.empty(0, dtype=torch.long)
    for piece in pieces:
        left = torch.cat([left, piece]) if len(left) else piece
        whole = len(left) // size * size
        yield from left[:whole].split(size) if whole else ()
        left = left[whole:]
    if len(left):
        yield left


def _in_group(ask: Callable[[], int], alone: int) -> int:
    """What the process group answers; the other value where there is none."""
    return ask() if dist.is_available() and dist.is_initialized() else alone


class FixedBatches:
    """The same training batches in each epoch, for a check that a network can learn a few of them by heart.

    Lightning's `overfit_batches` takes the first ones of a loader in the order of its data set, item by item. This is
    no loader of torch, so it is left as it is; nobody calls `set_epoch`, so the first order of the batches stays.

    Args:
        dataset: The windows.
        batches: Their row numbers, batch by batch.
    """

    def __init__(self, dataset: WindowDataset, batches: RowBatches) -> None:
        self._dataset, self._batches = dataset, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return (self._dataset[rows] for rows in self._batches)


class WindowLoader(DataLoader[Batch]):
    """Cuts each batch when it is asked for; torch's iterator, made for workers, takes twice as long around the gather.

    It draws no random numbers, so that starting an epoch leaves the random state of the model alone.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch's is declared as its own class
        return (self.dataset[rows] for rows in self.sampler)


def make_loader(dataset: WindowDataset, batches: RowBatches) -> DataLoader[Batch]:
    """Loader that cuts one batch per step in the training process: workers only slow a gather down."""
    return WindowLoader(dataset, batch_size=None, sampler=batches, collate_fn=lambda b: b)
