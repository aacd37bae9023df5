"""The values of features: columns of a price table that know nothing of later rows.

Shapes: F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.several_cores import in_processes, shared_out
from cnn_lstm.data.symbol_rows import Places, rows_by_symbol
from cnn_lstm.errors import CnnLstmError, ConfigError, require
from cnn_lstm.hints import counted

# `feature` is declared elsewhere; users import it from here
__all__ = [
    "Feature",
    "compute_features",
    "feature",
    "fill_features",
    "most_history",
    "needed_history",
]

FAMILY_OF_USER = "own"
# rows of a symbol that a running feature is computed over in one go, see `compute_features`
BLOCK = 2048
# a block starts behind so many warm-ups: its values owe the rows before it less than a float32 can tell
_WARMUPS = 2
_CODE = 225


@dataclass(frozen=True)
class Feature:
    """One column to be computed.

    Attributes:
        name: Name of the column, as the user wrote it.
        function: Gives one value per row from the bars of one symbol (cross-sectional: from the whole table).
        warmup: Rows at the start of each symbol that are NaN.
        inputs: Columns that the function reads.
        family: Kind of feature; "columns" for a raw column, "own" for a user's function.
        cross_sectional: Whether rows of other symbols with the same timestamp count.
        kind: Name of the kind of quantity, see `cnn_lstm.data.quantities`; empty where nobody knows.
        running: Whether the last bits of a value depend on rows before its warm-up.
    """

    name: str
    function: Callable[[pd.DataFrame], Any]
    warmup: int
    inputs: tuple[str, ...]
    family: str
    cross_sectional: bool = False
    kind: str = ""
    running: bool = False

    @property
    def reads_all_rows(self) -> bool:
        """Whether it takes all rows of a symbol at once: nobody knows how far back a user's function looks."""
        return self.family == FAMILY_OF_USER


def compute_features(table: pd.DataFrame, features: Sequence[Feature]) -> pd.DataFrame:
    """The columns of a price table.

    Infinite values become NaN, and so do the first `warmup` rows of each symbol.

    Every value is a function of `needed_history` rows, bit for bit: of its warm-up and its own row. Averages that never
    end and running sums owe their last bits to the whole past. Offered features of this kind (`running`) are therefore
    computed in blocks of `BLOCK` rows, counted from the first row of each symbol, with two warm-ups before each block.
    A user's own function is given all rows.

    Args:
        table: `symbol`, `timestamp` and numeric columns, sorted by symbol and timestamp.
        features: What to compute, (F,), from `resolve_features`.

    Returns:
        One float64 column per feature, named after it and in its order, on the index of the table: (n, F).

    Raises:
        ConfigError: A function failed, or did not return one number per row.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=3, tz="UTC")
        >>> table = pd.DataFrame({"symbol": "A", "timestamp": days, "close": [1.0, 2.0, 1.0]})
        >>> twice = Feature("twice", lambda bars: 2 * bars["close"], 0, ("close",), "own")
        >>> compute_features(table, [twice])["twice"].tolist()
        [2.0, 4.0, 2.0]
    """
    values = np.empty((len(features), len(table)))
    fill_features(table, features, values.T)
    return pd.DataFrame(values.T, index=table.index, columns=[item.name for item in features])


def fill_features(table: pd.DataFrame, features: Sequence[Feature], values: npt.NDArray[np.floating[Any]]) -> None:
    """`compute_features` into an array that is there already, which may be of float32: no second copy is made.

    Args:
        table: As for `compute_features`.
        features: As for `compute_features`.
        values: What is filled, (n, F).

    Raises:
        ConfigError: As `compute_features`.
    """
    symbols = rows_by_symbol(table["symbol"])
    own = [column for column, item in enumerate(features) if not item.cross_sectional]
    if own:
        _fill_own(table, symbols, [features[column] for column in own], own, values)
    with np.errstate(all="ignore"):  # log of 0 and division by 0 give a missing value
        for column, item in enumerate(features):
            if item.cross_sectional:
                values[:, column] = _crossed(item, table, symbols)


def _fill_own(
    table: pd.DataFrame,
    symbols: Places,
    features: Sequence[Feature],
    columns: Sequence[int],
    values: npt.NDArray[np.floating[Any]],
) -> None:
    """Fills the columns of the features that look at one symbol; on several cores where that pays."""
    parts = shared_out(symbols, len(features))
    shares = [(table.iloc[part], features, values.dtype) for part in parts]
    done = in_processes(_values_of_symbols, shares) if len(parts) > 1 else None
    if done is not None:
        for part, found in zip(parts, done, strict=True):
            for place, column in enumerate(columns):
                values[part, column] = found[place]
        return
    for rows in symbols:
        found = _values_of_symbol(table.iloc[rows], features)
        for place, column in enumerate(columns):
            values[rows, column] = found[place]


def _values_of_symbols(
    share: tuple[pd.DataFrame, Sequence[Feature], npt.DTypeLike],
) -> npt.NDArray[np.floating[Any]]:
    """Values of features of one symbol each, (F, n), over a stretch of a table."""
    table, features, kind = share
    values = np.empty((len(features), len(table)), dtype=kind)
    for rows in rows_by_symbol(table["symbol"]):
        values[:, rows] = _values_of_symbol(table.iloc[rows], features)
    return values


def _values_of_symbol(bars: pd.DataFrame, features: Sequence[Feature]) -> npt.NDArray[np.float64]:
    """Values of features, (F, n), of the bars of one symbol."""
    bars = bars.reset_index(drop=True)
    values = np.empty((len(features), len(bars)))
    with np.errstate(all="ignore"):  # log of 0 and division by 0 give a missing value
        for place, item in enumerate(features):
            values[place] = _in_blocks(item, bars)
            values[place, : item.warmup] = np.nan
    values[~np.isfinite(values)] = np.nan
    return values


def _crossed(item: Feature, table: pd.DataFrame, symbols: Places) -> npt.NDArray[np.float64]:
    """Values of a cross-sectional feature, (n,)."""
    values = evaluate_feature(item, table)
    values = np.where(np.isfinite(values), values, np.nan)
    for rows in symbols if item.warmup else ():
        if isinstance(rows, slice):
            values[rows.start : min(rows.start + item.warmup, rows.stop)] = np.nan
        else:
            values[rows[: item.warmup]] = np.nan
    return values


def _in_blocks(item: Feature, bars: pd.DataFrame) -> npt.NDArray[np.float64]:
    rows = len(bars)
    if rows <= BLOCK or item.reads_all_rows or not item.running:
        return evaluate_feature(item, bars)
    values = np.empty(rows)
    for start in range(0, rows, BLOCK):
        first, stop = _first_row(item, start), min(start + BLOCK, rows)
        part = bars.iloc[first:stop].reset_index(drop=True)
        values[start:stop] = evaluate_feature(item, part)[start - first :]
    return values


def _first_row(item: Feature, row: int) -> int:
    """First row of a symbol that the value of a row is computed from."""
    if item.reads_all_rows:
        return 0
    return max(0, row // BLOCK * BLOCK - _WARMUPS * item.warmup if item.running else row - item.warmup)


def needed_history(features: Sequence[Feature], row: int) -> int:
    """Number of rows of a symbol, up to and with the given one, that its features are computed from.

    Args:
        features: From `resolve_features`.
        row: Number of the row, from 0 at the first one of the symbol.

    Example:
        >>> change, average = (
        ...     Feature(name, lambda bars: bars["close"], 19, ("close",), "returns", running=running)
        ...     for name, running in (("change", False), ("average", True))
        ... )
        >>> needed_history([change], 100), needed_history([average], 100), needed_history([average], 2 * BLOCK - 1)
        (20, 101, 2086)
    """
    return row + 1 - min(_first_row(item, row) for item in features)


def most_history(features: Sequence[Feature]) -> int | None:
    """The largest `needed_history` of any row; None where a user's own function takes all rows."""
    if any(item.reads_all_rows for item in features):
        return None
    return max(BLOCK + _WARMUPS * item.warmup if item.running else item.warmup + 1 for item in features)


def evaluate_feature(item: Feature, bars: pd.DataFrame) -> npt.NDArray[np.float64]:
    """What the function of a feature makes of bars in one go, (n,), before anything is blanked.

    Args:
        item: The feature.
        bars: Bars of one symbol; of all symbols for a cross-sectional feature.

    Raises:
        ConfigError: The function failed, or did not return one number per row.
    """
    try:
        # a shallow copy: what a user's function writes into its bars must not reach the next function
        column = item.function(bars.copy(deep=False) if item.reads_all_rows else bars)
        if isinstance(column, pd.Series | np.ndarray) and column.dtype == np.float64 and column.shape == (len(bars),):
            return np.asarray(column)
        column = column if isinstance(column, pd.Series) else pd.Series(column)
    except CnnLstmError:
        raise
    except Exception as error:  # a user's function may fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"feature {item.name!r} failed", reason, "repair the function", code=_CODE) from error
    what = f"feature {item.name!r} returned {counted(len(column), 'value')} for {counted(len(bars), 'row')}"
    require(len(column) == len(bars), what, "", "return one value per row", code=_CODE)
    numeric = pd.api.types.is_numeric_dtype(column.dtype)
    require(numeric, f"feature {item.name!r} is not numeric", f"dtype {column.dtype}", "return numbers", code=_CODE)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
