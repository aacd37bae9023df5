"""The newest row of features of each symbol, from the last rows of the symbols alone: what a stream computes per bar.

Shapes: n rows of a symbol, C columns of a bar, F features, S symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnn_lstm.data.features import Feature, evaluate_feature, needed_history
from cnn_lstm.data.times import utc_index

Floats = npt.NDArray[np.float64]


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
        self._features, self._columns = features, pd.Index(columns, dtype="str")
        self._places = {name: place for place, name in enumerate(columns)}
        self._apart: list[int] = []
        # numbers of the features, by the rows of a symbol that they look at and whether they see its name and the times
        self._together: dict[tuple[int | None, bool], list[int]] = {}
        for number, item in enumerate(features):
            far = item.running or item.reads_all_rows
            if far and not item.cross_sectional:
                self._apart.append(number)
                continue
            rows, keys = None if far else item.warmup + 1, item.cross_sectional or not item.inputs
            self._together.setdefault((rows, keys), []).append(number)

    def values(self, tails: Mapping[str, LastRows]) -> Floats:
        """The features of the last row of each symbol, (S, F); NaN where not known.

        Args:
            tails: Of each symbol with a row at the latest timestamp, in the order of their names, at least the last
                `needed_history` rows.

        Raises:
            ConfigError: A function of the user's own failed, or did not return one number per row.
        """
        values = np.full((len(tails), len(self._features)), np.nan)
        known = np.array([[tail.seen > item.warmup for item in self._features] for tail in tails.values()])
        with np.errstate(all="ignore"):  # log of 0 and division by 0 give a missing value
            for (rows, keys), numbers in self._together.items():
                table, ends = self._table(tails, rows, keys)
                for number in numbers:
                    values[:, number] = evaluate_feature(self._features[number], table)[ends]
            for number in self._apart:
                for place, (symbol, tail) in enumerate(tails.items()):
                    if known[place, number]:
                        values[place, number] = self._of_symbol(self._features[number], symbol, tail)
        return np.where(known & np.isfinite(values), values, np.nan)

    def _table(
        self, tails: Mapping[str, LastRows], rows: int | None, keys: bool
    ) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
        """The last rows of all symbols, and where the last one of each lies, (S,)."""
        parts = [tail.bars if rows is None else tail.bars[-rows:] for tail in tails.values()]
        lengths = [len(part) for part in parts]
        # each column in one piece of memory, as those of a whole table are
        table = pd.DataFrame(np.concatenate(parts).T.copy().T, columns=self._columns, copy=False)
        if keys:
            names = np.repeat(np.array(list(tails), dtype=object), lengths)
            times = [tail.time if rows is None else tail.time[-rows:] for tail in tails.values()]
            table.insert(0, "symbol", pd.array(names, dtype="str"))
            table.insert(1, "timestamp", utc_index(np.concatenate(times)))
        return table, np.cumsum(lengths) - 1

    def _of_symbol(self, item: Feature, symbol: str, tail: LastRows) -> float:
        """Value of the last row of a symbol, of a feature that looks far back."""
        if item.reads_all_rows:
            table, _ = self._table({symbol: tail}, None, True)
        else:
            rows = needed_history([item], tail.seen - 1)
            table = pd.DataFrame({name: tail.bars[-rows:, self._places[name]].copy() for name in item.inputs})
        return float(evaluate_feature(item, table)[-1])
