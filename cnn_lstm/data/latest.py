"""What is known of the newest row of each symbol, from its last rows alone: what a stream computes for each bar.

Shapes: n rows of a symbol, C columns of a bar, F features, H targets, S symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnn_lstm.data.features import Feature, evaluate_feature, needed_history
from cnn_lstm.data.targets import MEMORY, Target
from cnn_lstm.data.times import utc_index

Floats = npt.NDArray[np.float64]
FEW = 4  # symbols
TARGETS_OF_OURS = ("cnn_lstm.data.targets", "cnn_lstm.data.column_targets")


class LastRows(Protocol):
    """The last rows of one symbol."""

    @property
    def time(self) -> npt.NDArray[np.int64]:
        """Microseconds since 1970 in UTC, (n,)."""

    @property
    def bars(self) -> Floats:
        """Columns of the bars, (n, C)."""

    @property
    def seen(self) -> int:
        """Rows of the symbol so far, of which these are the last."""


def last_rows(
    tails: Mapping[str, LastRows], columns: pd.Index, rows: int | None, *, keys: bool
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """The last rows of symbols below each other, and where the last one of each lies, (S,).

    Args:
        tails: What is kept of each symbol.
        columns: Names of the columns of a bar, (C,).
        rows: Rows of a symbol, at most; None for all.
        keys: Whether the table has the columns `symbol` and `timestamp`.
    """
    parts = [tail.bars if rows is None else tail.bars[-rows:] for tail in tails.values()]
    lengths = [len(part) for part in parts]
    # each column in one piece of memory, as those of a whole table are
    table = pd.DataFrame(np.concatenate(parts).T.copy().T, columns=columns, copy=False)
    if keys:
        names = np.repeat(np.array(list(tails), dtype=object), lengths)
        times = [tail.time if rows is None else tail.time[-rows:] for tail in tails.values()]
        table.insert(0, "symbol", pd.Series(names, dtype="str"))
        table.insert(1, "timestamp", utc_index(np.concatenate(times)))
    return table, np.cumsum(lengths) - 1


class _Columns:
    """What features and targets of ours use of a table of bars, whose columns are made once and not at each look.

    Args:
        values: The columns, (n, C), by the places of their names.
        places: The place of each name.
    """

    def __init__(self, values: Floats, places: Mapping[str, int]) -> None:
        self.index = pd.RangeIndex(len(values))
        self._values, self._places, self._made = values, places, dict[str, pd.Series]()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, name: str) -> pd.Series:
        if name not in self._made:
            # in one piece of memory, as a column of a whole table is
            column = self._values[:, self._places[name]].copy()
            self._made[name] = pd.Series(column, index=self.index, copy=False)
        return self._made[name]


def _joined(bars: Sequence[Floats], rows: int, places: Mapping[str, int]) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """`last_rows` for what looks at columns alone."""
    parts = [of_symbol[-rows:] for of_symbol in bars]
    columns = _Columns(np.concatenate(parts), places)
    return cast(pd.DataFrame, columns), np.cumsum([len(part) for part in parts]) - 1


class LatestFeatures:
    """Computes the last row of `compute_features` of each symbol, with the same bits.

    A feature whose value follows from its warm-up and its own row is computed for all symbols in one go: their last
    rows stand below each other in one table, and what is known of a symbol's last row owes nothing to another symbol's.
    One that looks further back is computed symbol by symbol.

    Args:
        features: What to compute, (F,).
        columns: Names of the columns of a bar, (C,).
    """

    def __init__(self, features: Sequence[Feature], columns: Sequence[str]) -> None:
        self._features, self._columns = features, pd.Index(list(columns))
        self._places = {name: place for place, name in enumerate(columns)}
        self._warmups = np.array([item.warmup for item in features])
        every = list(enumerate(features))
        far = [number for number, item in every if item.running or item.reads_all_rows]
        # what sees more than the columns: the names of symbols, the times, or whatever a user's function looks at
        wide = [number for number, item in every if item.cross_sectional or item.reads_all_rows or not item.inputs]
        self._apart = [number for number in far if not features[number].cross_sectional]
        self._crossing = [number for number in wide if number not in self._apart]
        self._windows = [number for number, _ in every if number not in {*self._apart, *self._crossing}]

    def values(self, tails: Mapping[str, LastRows]) -> Floats:
        """The features of the last row of each symbol, (S, F); NaN where not known.

        Args:
            tails: Of each symbol with a row at the latest timestamp, in the order of their names, at least the last
                `needed_history` rows.

        Raises:
            ConfigError: A function of the user's own failed, or did not return one number per row.
        """
        values = np.full((len(tails), len(self._features)), np.nan)
        known = np.array([tail.seen for tail in tails.values()])[:, None] > self._warmups
        with np.errstate(all="ignore"):  # log of 0 and division by 0 give a missing value
            self._fill_windows(values, [tail.bars for tail in tails.values()])
            for number in self._crossing:
                item = self._features[number]
                rows = None if item.reads_all_rows or item.running else item.warmup + 1
                table, ends = last_rows(tails, self._columns, rows, keys=True)
                values[:, number] = evaluate_feature(item, table)[ends]
            for number in self._apart:
                for place, (symbol, tail) in enumerate(tails.items()):
                    if known[place, number]:
                        values[place, number] = self._of_symbol(self._features[number], symbol, tail)
        return np.where(known & np.isfinite(values), values, np.nan)

    def _fill_windows(self, values: Floats, bars: Sequence[Floats]) -> None:
        """Fills the features that look at a window of one symbol's columns, each (S, F)."""
        shared = len(bars) <= FEW  # more rows for most features, but fewer tables
        longest = max((self._features[number].warmup for number in self._windows), default=0)
        tables: dict[int, tuple[pd.DataFrame, npt.NDArray[np.int64]]] = {}
        for number in self._windows:
            item = self._features[number]
            rows = (longest if shared else item.warmup) + 1
            if rows not in tables:
                tables[rows] = _joined(bars, rows, self._places)
            table, ends = tables[rows]
            values[:, number] = evaluate_feature(item, table)[ends]

    def _of_symbol(self, item: Feature, symbol: str, tail: LastRows) -> float:
        """Value of the last row of a symbol, of a feature that looks far back."""
        if item.reads_all_rows:
            table, _ = last_rows({symbol: tail}, self._columns, None, keys=True)
        else:
            rows = needed_history([item], tail.seen - 1)
            table = cast(pd.DataFrame, _Columns(tail.bars[-rows:], self._places))
        return float(evaluate_feature(item, table)[-1])


class KnownTargets(NamedTuple):
    """What is known of each target at the last row of each symbol, each (S, H) float32.

    Attributes:
        present: Latest value of the same quantity.
        volatility: Volatility of one bar.
        ended: The label that has ended with the row, of the decision `reach` rows before.
    """

    present: npt.NDArray[np.float32]
    volatility: npt.NDArray[np.float32]
    ended: npt.NDArray[np.float32]


class LatestTargets:
    """Computes what the last row of a panel knows of the targets of each symbol, with the same bits.

    Args:
        targets: The targets, (H,).
        columns: Names of the columns of a bar, (C,).

    Attributes:
        rows: Rows of a symbol that they are computed from; None for all, which a target of the user's own may read.
    """

    def __init__(self, targets: Sequence[Target], columns: Sequence[str]) -> None:
        self._targets, self._columns = targets, pd.Index(list(columns))
        self._places = {name: place for place, name in enumerate(columns)}
        bounded = all(type(target).__module__ in TARGETS_OF_OURS and target.bounded for target in targets)
        self.rows = max(MEMORY, *(target.reach for target in targets)) + 2 if bounded else None

    def values(self, tails: Mapping[str, LastRows]) -> KnownTargets:
        """What is known at the last row of each symbol; the ended label is NaN where a symbol has too few rows.

        Args:
            tails: What is kept of each symbol, the last `rows` rows at least.
        """
        known = KnownTargets(*(np.full((len(tails), len(self._targets)), np.nan, dtype=np.float32) for _ in range(3)))
        for places, some in self._groups(tails):
            if self.rows is None:  # a user's own may look at anything
                table, ends = last_rows(some, self._columns, None, keys=True)
            else:
                table, ends = _joined([tail.bars for tail in some.values()], self.rows, self._places)
            for k, target in enumerate(self._targets):
                known.present[places, k] = target.present(table)[ends]
                known.volatility[places, k] = target.volatility(table)[ends]
                enough = ends[0] >= target.reach
                known.ended[places, k] = target.future(table)[ends - target.reach] if enough else np.nan
        return known

    def _groups(self, tails: Mapping[str, LastRows]) -> Iterator[tuple[list[int], Mapping[str, LastRows]]]:
        """Symbols whose rows may stand below each other, with their numbers.

        The first rows of a symbol know less than those behind another one would.
        """
        whole = [self.rows is not None and len(tail.time) >= self.rows for tail in tails.values()]
        together = [place for place, fits in enumerate(whole) if fits]
        names = list(tails)
        for places in ([together] if together else []) + [[place] for place, fits in enumerate(whole) if not fits]:
            yield places, {names[place]: tails[names[place]] for place in places}
