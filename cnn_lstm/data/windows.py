"""The panel: every symbol's rows behind one another, stored once; a window is only its last row number.

Loaders run over these row numbers: they shuffle, shard and cut without a copy of any window.

Shapes: N panel rows, F features, H targets, T window length, B windows in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.exchange import elapsed
from cnn_lstm.data.features import Feature, fill_features
from cnn_lstm.data.row_numbers import Rows, stretches
from cnn_lstm.data.symbol_rows import rows_by_symbol, symbol_edges
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import utc_times

# makes an array of a panel, given its name, shape and type: in memory, or in a file that is mapped
Allocate = Callable[[str, tuple[int, ...], Any], NDArray[Any]]
TENSORS = ("values", "labels", "present", "volatility", "bar_return")
ARRAYS = (*TENSORS, "symbol", "time", "segment")  # those of a panel, by the names of its attributes
CHUNK = 1 << 16  # rows that are looked at in one go
CHUNK_BYTES = 32 << 20  # of windows that are cut at once, to spare memory


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

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], symbols: tuple[str, ...]) -> Panel:
        """A panel that holds the given arrays, wherever their memory is.

        Args:
            arrays: Those of `ARRAYS`, of the types that `build_panel` gives.
            symbols: Names of the symbols.
        """
        parts: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in TENSORS}
        return cls(symbols=symbols, **{**arrays, **parts})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of `ARRAYS`, not copied."""
        return {name: getattr(self, name).numpy() if name in TENSORS else getattr(self, name) for name in ARRAYS}

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Edges between the symbols, (S + 1,): the rows of symbol k run from edge k to edge k + 1."""
        return symbol_edges(self.symbol, len(self.symbols))

    def first_of(self, rows: Rows, count: int) -> Rows:
        """The first of the last so many rows of a symbol, (n,), up to each of some rows, (n,)."""
        return np.maximum(rows - (count - 1), self.edges[self.symbol[rows]])

    def rows_of(self, symbol: int) -> slice:
        """The rows of a symbol, given its position in `symbols`."""
        return slice(int(self.edges[symbol]), int(self.edges[symbol + 1]))

    def edges_among(self, rows: Rows) -> NDArray[np.int64]:
        """Edges between the symbols among ascending rows (n,), (S + 1,)."""
        return np.searchsorted(rows, self.edges).astype(np.int64)


def build_panel(
    prices: pd.DataFrame,
    features: Sequence[Feature],
    targets: Sequence[Target],
    max_gap_days: float,
    allocate: Allocate = lambda name, shape, dtype: np.empty(shape, dtype),
    exchange: str = "",
) -> Panel:
    """Computes features and labels of a checked price table.

    Args:
        prices: Long table sorted by symbol and timestamp, as `check_prices` returns it.
        features: Columns to compute, in order.
        targets: What is forecast, in order.
        max_gap_days: A longer pause between two rows of a symbol ends a segment.
        allocate: Makes the arrays that are filled; in memory by default.
        exchange: The exchange whose sessions pauses are counted in; empty for days.
    """
    rows, (codes, names) = len(prices), pd.factorize(prices["symbol"])
    kinds = {"symbol": np.dtype(np.int32), "time": np.dtype("datetime64[us]"), "segment": np.dtype(np.int32)}
    widths = {name: len(features) if name == "values" else len(targets) for name in TENSORS}
    arrays = {name: allocate(name, (rows, width), np.float32) for name, width in widths.items()}
    arrays |= {name: allocate(name, (rows,), kind) for name, kind in kinds.items()}
    arrays["symbol"][:] = codes
    arrays["time"][:] = utc_times(prices["timestamp"])
    moments = elapsed(arrays["time"].view(np.int64), exchange)
    arrays["segment"][:] = _segments(arrays["symbol"], moments, max_gap_days)
    fill_features(prices, features, arrays["values"])
    _fill_targets(prices, targets, arrays)
    return Panel.of_arrays(arrays, tuple(str(name) for name in names))


def _segments(symbol: NDArray[np.int32], time: NDArray[np.int64], max_gap_days: float) -> NDArray[np.int32]:
    """Number of the gap-free stretch of each row, (N,), from moments in microseconds, see `elapsed`."""
    limit = round(max_gap_days * 86_400e6)
    starts = np.ones(len(symbol), dtype=bool)
    starts[1:] = (symbol[1:] != symbol[:-1]) | (np.diff(time) > limit)
    return np.cumsum(starts, dtype=np.int32)


def _fill_targets(prices: pd.DataFrame, targets: Sequence[Target], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Fills what is known of each target: labels, present, volatility and bar_return, each (N, H)."""
    known = {name: arrays[name] for name in TENSORS if name != "values"}
    for rows in rows_by_symbol(prices["symbol"]):
        bars = prices.iloc[rows].reset_index(drop=True)
        for column, target in enumerate(targets):
            columns = target.future(bars), target.present(bars), target.volatility(bars), target.bar_return(bars)
            for values, of_target in zip(known.values(), columns, strict=True):
                values[rows, column] = of_target
    labels, segment = known["labels"], arrays["segment"]
    for column, target in enumerate(targets):
        labels[~_reaches(segment, target.reach), column] = np.nan
        known["bar_return"][~_reaches(segment, target.delay + 1), column] = np.nan
    labels[~np.isfinite(labels)] = np.nan


def _reaches(segment: NDArray[np.int32], rows: int) -> NDArray[np.bool_]:
    """Whether the row that many rows ahead lies in the same segment, (N,)."""
    same = np.zeros(len(segment), dtype=bool)
    if rows < len(segment):
        same[: len(segment) - rows] = segment[: len(segment) - rows] == segment[rows:]
    return same


def complete_windows(panel: Panel, length: int) -> Rows:
    """Last rows, (n,), of all windows of `length` rows that lie in one segment and hold no missing value."""
    return np.concatenate([np.empty(0, dtype=np.int64), *windows_by_stretch(panel, length)])


def windows_by_stretch(panel: Panel, length: int) -> Iterator[Rows]:
    """`complete_windows`, stretch by stretch of a panel that may be larger than memory."""
    for part in stretches(panel.symbol):
        yield part.start + _complete(panel.values[part], panel.segment[part], length)


def _complete(values: Tensor, segment: NDArray[np.int32], length: int) -> Rows:
    """Last rows, (n,), of the complete windows of a stretch of a panel, (N, F) and (N,)."""
    index = np.arange(len(values))
    whole = all_finite(values)
    first = np.ones(len(values), dtype=bool)
    first[1:] = np.diff(segment) != 0
    segment_start = np.maximum.accumulate(np.where(first, index, 0))
    last_hole = np.maximum.accumulate(np.where(whole, -1, index))
    run = index - np.maximum(last_hole, segment_start - 1)
    return np.flatnonzero(run >= length)


def all_finite(values: Tensor) -> NDArray[np.bool_]:
    """Whether each row of values, (N, F), holds numbers only, (N,); in chunks, to spare memory."""
    whole = np.empty(len(values), dtype=bool)
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK].numpy()
        np.isfinite(part).all(axis=1, out=whole[start : start + CHUNK])
    return whole


def labelled(panel: Panel, rows: Rows) -> NDArray[np.bool_]:
    """Whether all labels of each row are known, both (n,)."""
    if not len(rows):
        return np.empty(0, dtype=bool)
    first, last = int(rows.min()), int(rows.max())
    return all_finite(panel.labels[first : last + 1])[rows - first]


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
