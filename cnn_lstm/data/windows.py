"""The panel: every symbol's rows behind one another, stored once; a window is only its last row number.

Shapes: N panel rows, F features, H targets, T window length, B windows in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.features import Feature, compute_features
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
    segment = _segments(codes, time, max_gap_days)
    known = _target_columns(prices, codes, targets, segment)
    return Panel(
        values=torch.from_numpy(np.ascontiguousarray(values)),
        **{name: torch.from_numpy(column) for name, column in known.items()},
        symbols=tuple(str(name) for name in names),
        symbol=codes.astype(np.int32),
        time=time,
        segment=segment,
    )


def _segments(codes: NDArray[np.int64], time: NDArray[np.datetime64], max_gap_days: float) -> NDArray[np.int32]:
    """Number of the gap-free stretch of each row, (N,), of symbols and timestamps (N,)."""
    limit = np.timedelta64(round(max_gap_days * 86_400e6), "us")
    starts = np.ones(len(codes), dtype=bool)
    starts[1:] = (np.diff(codes) != 0) | (np.diff(time) > limit)
    return np.cumsum(starts, dtype=np.int32)


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
            known["labels"][rows, column] = target.future(bars)
            known["present"][rows, column] = target.present(bars)
            known["volatility"][rows, column] = target.volatility(bars)
            known["bar_return"][rows, column] = target.bar_return(bars)
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
