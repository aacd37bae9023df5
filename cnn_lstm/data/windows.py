"""The panel: every symbol's rows behind one another, stored once; a window is only its last row number.

Loaders run over these row numbers: they shuffle, shard and cut without a copy of any window.

Shapes: N panel rows, F features, H targets, T window length, B windows in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cnn_lstm.data.features import Feature, compute_features
from cnn_lstm.data.strides import Strides
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import utc_times

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Panel:
    """Rows of all symbols, ascending in time within a symbol.

    Attributes:
        values: Features, (N, F) float32, contiguous; NaN where a feature is not known yet.
        labels: Targets, (N, H) float32; NaN where the label interval is not over or bridges a gap.
        present: Latest known value of each target's quantity, (N, H) float32.
        volatility: Volatility of one bar of each target's column as known at the row, (N, H) float32.
        bar_return: Simple return of the first bar after each target's delay, (N, H) float32; NaN where not known yet.
        symbols: Names of the symbols.
        symbol: Position in `symbols` of each row, (N,).
        time: Timestamp of each row in UTC, (N,) datetime64[us].
        segment: Number of the gap-free stretch that a row belongs to, (N,); windows never leave one.
    """

    values: Tensor
    labels: Tensor
    present: Tensor
    volatility: Tensor
    bar_return: Tensor
    symbols: tuple[str, ...]
    symbol: NDArray[np.int32]
    time: NDArray[np.datetime64]
    segment: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.values)


def build_panel(
    prices: pd.DataFrame, features: Sequence[Feature], targets: Sequence[Target], max_gap_days: float
) -> Panel:
    """Computes features and labels of a checked price table.

    Args:
        prices: Long table sorted by symbol and timestamp, as `check_prices` returns it.
        features: Columns to compute, in order.
        targets: What is forecast, in order.
        max_gap_days: A longer pause between two rows of a symbol ends a segment.
    """
    values = compute_features(prices, features).to_numpy(dtype=np.float32, copy=True)
    codes, names = pd.factorize(prices["symbol"])
    time = utc_times(prices["timestamp"])
    limit = np.timedelta64(round(max_gap_days * 86_400e6), "us")
    starts = np.ones(len(codes), dtype=bool)
    starts[1:] = (np.diff(codes) != 0) | (np.diff(time) > limit)
    segment = np.cumsum(starts, dtype=np.int32)
    known = _target_columns(prices, codes, targets, segment)
    return Panel(
        values=torch.from_numpy(np.ascontiguousarray(values)),
        **{name: torch.from_numpy(column) for name, column in known.items()},
        symbols=tuple(str(name) for name in names),
        symbol=codes.astype(np.int32),
        time=time,
        segment=segment,
    )


def _target_columns(
    prices: pd.DataFrame, codes: NDArray[np.int64], targets: Sequence[Target], segment: NDArray[np.int32]
) -> dict[str, NDArray[np.float32]]:
    """What is known of each target: labels, present, volatility and bar_return, each (N, H)."""
    names = ("labels", "present", "volatility", "bar_return")
    known = {name: np.full((len(prices), len(targets)), np.nan, dtype=np.float32) for name in names}
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        bars = prices.iloc[rows].reset_index(drop=True)
        for column, target in enumerate(targets):
            columns = target.future(bars), target.present(bars), target.volatility(bars), target.bar_return(bars)
            for name, values in zip(names, columns, strict=True):
                known[name][rows, column] = values
    for column, target in enumerate(targets):
        known["labels"][~_reaches(segment, target.reach), column] = np.nan
        known["bar_return"][~_reaches(segment, target.delay + 1), column] = np.nan
    known["labels"][~np.isfinite(known["labels"])] = np.nan
    return known


def _reaches(segment: NDArray[np.int32], rows: int) -> NDArray[np.bool_]:
    """Whether the row that many rows ahead lies in the same segment, (N,)."""
    same = np.zeros(len(segment), dtype=bool)
    if rows < len(segment):
        same[: len(segment) - rows] = segment[: len(segment) - rows] == segment[rows:]
    return same


def complete_windows(panel: Panel, length: int) -> Rows:
    """Last rows, (n,), of all windows of `length` rows that lie in one segment and hold no missing value."""
    index = np.arange(len(panel))
    whole = torch.isfinite(panel.values).all(dim=1).numpy()
    first = np.ones(len(panel), dtype=bool)
    first[1:] = np.diff(panel.segment) != 0
    segment_start = np.maximum.accumulate(np.where(first, index, 0))
    last_hole = np.maximum.accumulate(np.where(whole, -1, index))
    run = index - np.maximum(last_hole, segment_start - 1)
    return np.flatnonzero(run >= length)


def labelled(panel: Panel, rows: Rows) -> NDArray[np.bool_]:
    """Whether all labels of each row are known, both (n,)."""
    return torch.isfinite(panel.labels[torch.from_numpy(rows)]).all(dim=1).numpy()


def cut_windows(values: Tensor, rows: Tensor, length: int) -> Tensor:
    """The windows that end at the given rows, by one gather on the device of the panel.

    Overlapping windows are rows of one strided view, so that `index_select` copies each window as one block.

    Args:
        values: Panel of features, (N, F), contiguous.
        rows: Last row of each window, (B,) int64, each at least `length - 1`.
        length: Rows of a window, T.

    Returns:
        Windows, (B, T, F).

    Example:
        >>> panel = torch.arange(4.0).reshape(4, 1)
        >>> cut_windows(panel, torch.tensor([1, 3]), 2).squeeze(-1).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    count, width = values.shape
    overlapping = values.as_strided((count - length + 1, length * width), (width, 1))
    return overlapping.index_select(0, rows - (length - 1)).view(-1, length, width)


# -- batches -----------------------------------------------------------------------------------------------------------


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
    ) -> None:
        # not its constructor: that one asks for the process group, which may be there only when batches are read
        self.rows = torch.from_numpy(np.ascontiguousarray(rows))
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self._rank, self._world_size = rank, world_size
        self.strides = strides if shuffle else None
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
        order = torch.randperm(len(rows), generator=generator)
        for step in range(len(self)):
            start = step * self.batch_size * self.world_size
            stop = min(start + self.batch_size * self.world_size, len(order))
            yield rows[order[start + self.rank : stop : self.world_size]]


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


def make_loader(dataset: WindowDataset, batches: RowBatches) -> DataLoader[Batch]:
    """Loader that cuts one batch per step in the training process: workers only slow a gather down.

    The generator is the loader's own, so that starting an epoch leaves the random state of the model alone.
    """
    return DataLoader(dataset, batch_size=None, sampler=batches, collate_fn=lambda b: b, generator=torch.Generator())
