"""A price table is either sound or refused with every defect named: E302..E321 of docs/troubleshooting.md."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import (
    BAR_CHECKS,
    BARS,
    KEYS,
    PRICES,
    Checks,
    at_row,
    count_rows,
    day,
    places,
)
from cnn_lstm.data.missing import listed, missing_runs, unlabelled
from cnn_lstm.data.screening import CHUNK, row_defects
from cnn_lstm.data.session_checks import session_defects
from cnn_lstm.data.sources.base import TIME_DTYPE, validate_symbol
from cnn_lstm.data.symbol_rows import key_order, symbol_slices
from cnn_lstm.data.times import microseconds, require_years, utc_or_dates
from cnn_lstm.errors import DataError, Defect, DefectsError
from cnn_lstm.hints import counted, nearest

__all__ = ["CheckedPrices", "Checks", "check_bars", "check_prices", "check_structure", "data_fingerprint"]


@dataclass(frozen=True)
class CheckedPrices:
    """A sound price table.

    Attributes:
        table: Sorted by symbol and timestamp, one row for each pair, with a fresh RangeIndex.
        warnings: What was repaired or looks odd.
    """

    table: pd.DataFrame
    warnings: tuple[Defect, ...]


def check_prices(
    table: pd.DataFrame,
    checks: Checks,
    required: Collection[str] = (),
    labels: Collection[str] = (),
    warn: bool = True,
    exchange: str = "",
) -> CheckedPrices:
    """Find every defect of a price table in one pass; sort, deduplicate and fill what `checks` allow.

    Args:
        table: Long table: `symbol`, `timestamp` (with a time zone), numeric columns. It is not changed. Times are read
            by the one time rule, see `utc_or_dates`; `price_table` reads frames of other forms.
        checks: What is tolerated.
        required: Columns that must be there, next to `symbol` and `timestamp`; or what reads each of them, by its name.
        labels: Columns whose empty cells are labels that are not known: they are never filled.
        warn: Whether rows that only look odd are looked for; a table that was made to look odd has many.
        exchange: The exchange whose sessions are looked for; empty for none.

    Returns:
        The sound table and the warnings.

    Raises:
        DefectsError: E3xx, all fatal defects together.
        ConfigError: E231, a symbol is not allowed.

    Example:
        >>> when = pd.Timestamp("2024-01-02", tz="UTC")
        >>> bars = pd.DataFrame({"symbol": ["A", "A"], "timestamp": [when, when], "close": [1.0, 2.0]})
        >>> check_prices(bars, Checks())
        Traceback (most recent call last):
        ...
        cnn_lstm.errors.DefectsError: error[E308]: conflicting rows — A @ 2024-01-02, 1 row — close is 1.0 ...
    """
    check_structure(table, required)
    for name in table["symbol"].unique():
        validate_symbol(name)
    table, defects = _sorted(_normalised(table), checks)
    if checks.on_unlisted == "skip":
        table, unlisted = listed(table)
        defects += unlisted
    defects += row_defects(table, checks, symbol_slices(table["symbol"]), warn, exchange)
    defects += session_defects(table, exchange) if warn else ()
    defects += [defect for name in labels for defect in unlabelled(table, name, checks)]
    filled, gaps = _filled(table, checks, labels)
    _refuse(defects + gaps)
    return CheckedPrices(filled, tuple(defects + gaps))


def check_bars(
    bars: pd.DataFrame, latest: pd.DataFrame, checks: Checks, columns: Sequence[str], labels: Collection[str] = ()
) -> pd.DataFrame:
    """Find the defects of new bars that follow others; a missing value is never filled.

    Defects that only a whole table shows, such as mixed intervals, are not looked for.

    Args:
        bars: Table of at most one new bar per symbol, with times in UTC: one bar alone does not say whether midnight
            is a date.
        latest: The last bar of each symbol that has one, sound.
        checks: What is tolerated.
        columns: What to keep next to symbol and timestamp.
        labels: Those of them whose labels are not known yet.

    Returns:
        The sound bars in the order of their symbols: symbol, timestamp and `columns`.

    Raises:
        DefectsError: E3xx, all fatal defects together.
    """
    check_structure(bars, columns)
    sound = _normalised(bars[[*KEYS, *columns]], daily=False).sort_values(KEYS, ignore_index=True)
    joined = sound if latest.empty else pd.concat([latest, sound]).sort_values(KEYS, kind="stable", ignore_index=True)
    defects = [defect for check in BAR_CHECKS for defect in check(joined, checks)]
    _refuse(defects + list(_unfilled(sound, latest, [name for name in columns if name not in labels])))
    return sound


def require_table(table: object) -> pd.DataFrame:
    """The table itself; refuses what is not a table at all, such as the name of a file.

    Raises:
        DataError: E338.
    """
    if not isinstance(table, pd.DataFrame):
        fix = "give a DataFrame of pandas or Polars (a LazyFrame after .collect()), or an Arrow table"
        raise DataError(f"prices are {type(table).__name__}", "", fix, code=338)
    return table


def is_long(table: pd.DataFrame) -> bool:
    """Whether a table has the names and types that tables have inside the package, as `price_table` makes them."""
    kinds: dict[Any, Any] = dict(zip(table.columns, table.dtypes, strict=True))
    if len(kinds) < table.shape[1] or kinds.get("symbol") != "str" or kinds.get("timestamp") != TIME_DTYPE:
        return False
    names = [name for name in kinds if name not in KEYS]
    plain = all(isinstance(name, str) and (name in BARS or name.lower() not in BARS) for name in names)
    return plain and all(kinds[name] == np.float64 for name in names)


def check_structure(table: pd.DataFrame, required: Collection[str]) -> None:
    """Refuses a table without the required columns, without a row, or with columns of another kind.

    Raises:
        DefectsError: E302, E303, E304, E309 or E310.
    """
    _refuse(list(_structure(table, required)))


def _unfilled(bars: pd.DataFrame, latest: pd.DataFrame, columns: Sequence[str]) -> Iterator[Defect]:
    """Missing values of single bars; a column that is neither a price nor the volume may start later, then goes on."""
    for name in columns:
        gap = bars[bars[name].isna()]
        if name not in {*PRICES, "volume"} and len(gap):
            gap = gap[gap["symbol"].isin(latest["symbol"][latest[name].notna()])]
        for symbol, when in zip(gap["symbol"], gap["timestamp"], strict=True):
            where = f"{symbol} @ {day(when)}"
            yield Defect(312, f"{name} is missing", where, "supply the value: single bars are not filled")


def data_fingerprint(table: pd.DataFrame) -> str:
    """SHA-256 over symbols, timestamps and all numeric columns, whatever the order of rows and columns.

    Args:
        table: Price table.

    Returns:
        64 hexadecimal digits, the same under every time zone and locale of the machine.

    Example:
        >>> when = pd.Timestamp("2024-01-02", tz="UTC")
        >>> bars = pd.DataFrame({"symbol": ["B", "A"], "timestamp": [when, when], "close": [1.0, 2.0]})
        >>> data_fingerprint(bars) == data_fingerprint(bars[::-1])
        True
    """
    numbers = sorted(table.columns.difference(KEYS))
    if key_order(table) is not None:
        table = table.sort_values(KEYS + numbers, kind="stable", ignore_index=True)
    digest = hashlib.sha256()
    for symbol, rows in table["symbol"].value_counts(sort=False).items():
        digest.update(f"{symbol}:{rows}\n".encode())
    digest.update(np.ascontiguousarray(microseconds(table["timestamp"]), dtype="<i8").data)
    for name in numbers:
        digest.update(f"{name}\n".encode())
        column = table[name].to_numpy()
        for start in range(0, len(column), CHUNK):
            digest.update(canonical(column[start : start + CHUNK].astype("<f8")))
    return digest.hexdigest()


def canonical(values: NDArray[np.float64]) -> bytes:
    """Numbers as bytes that are the same for equal numbers: -0.0 becomes 0.0, and NaN has one bit pattern."""
    values = values + 0.0
    values[np.isnan(values)] = np.nan
    return values.astype("<f8", copy=False).tobytes()


def _refuse(defects: list[Defect]) -> None:
    if fatal := [defect for defect in defects if defect.fatal]:
        raise DefectsError(fatal)


def _structure(table: pd.DataFrame, required: Collection[str]) -> Iterator[Defect]:
    """A table without rows, missing columns, unclear names, wrong types: then the rows cannot be looked at."""
    names = [str(name) for name in table.columns]
    for name in dict.fromkeys([*KEYS, *required]):
        if name not in names:
            hint = nearest(name, names) or "name the column that holds it"
            fix = f"{hint} (of files: data.source.columns)"
            if isinstance(required, Mapping) and name in required:
                fix = f"{fix}, or leave out what reads it: {required[name]}"
            yield Defect(303, f"no column {name}", f"found {_listed(names)}", fix)
    if table.empty:
        yield Defect(302, "0 rows", "", "give a table with at least one bar")
    elif names != list(table.columns) or len(set(names)) < len(names):
        yield Defect(303, "columns need one name each, as text", f"found {', '.join(names)}", "rename them")
    elif set(KEYS) <= set(names):
        yield from _types(table)


def _listed(names: Sequence[str]) -> str:
    """Names of columns for a message, cut off where they are long."""
    text = ", ".join(names)
    return text if len(text) <= 160 else text[:160] + "..."


def _types(table: pd.DataFrame) -> Iterator[Defect]:
    """Timestamps without a time zone or missing, and columns that do not hold numbers."""
    when = table["timestamp"]
    if not isinstance(when.dtype, pd.DatetimeTZDtype):
        fix = "give UTC timestamps: .dt.tz_localize('UTC')"
        if not pd.api.types.is_datetime64_any_dtype(when.dtype):
            fix = "give UTC timestamps: pd.to_datetime(prices['timestamp'], utc=True)"
        yield Defect(310, f"timestamp is {when.dtype}", "", fix)
    elif when.isna().any():
        yield Defect(309, "no timestamp", f"{count_rows(when.isna().sum())}", "remove or date these rows")
    else:
        try:
            require_years(when, "timestamp")
        except DataError as error:
            yield Defect(error.code, error.what, error.where, error.fix)
    for name, dtype in sorted(zip(table.columns, table.dtypes, strict=True), key=lambda pair: str(pair[0])):
        if name in KEYS:
            continue
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
            yield Defect(304, f"column {name} is {dtype}", "", "give numbers or remove the column")


def _normalised(table: pd.DataFrame, daily: bool | None = None) -> pd.DataFrame:
    if is_long(table):
        return table.reset_index(drop=True)
    numbers = dict.fromkeys(table.columns.difference(KEYS), "float64")
    if table["timestamp"].dtype != TIME_DTYPE:
        table = table.assign(timestamp=utc_or_dates(table["timestamp"], daily))
    return table.astype(numbers | {"symbol": "str"}).reset_index(drop=True)


def _sorted(table: pd.DataFrame, checks: Checks) -> tuple[pd.DataFrame, list[Defect]]:
    """The table by symbol and timestamp, each pair once, and what was wrong with its order; one pass if nothing was."""
    order = key_order(table)
    if order is None:
        return table, []
    defects = list(_order(table, checks))
    table = table.iloc[order].reset_index(drop=True)
    defects += _duplicates(table)
    return table[~table.duplicated(KEYS)].reset_index(drop=True), defects


def _order(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Rows of a symbol that are not in the order of time."""
    step = table.groupby("symbol")["timestamp"].diff()
    back = step < pd.Timedelta(0)
    if back.any():
        where = f"{at_row(table, back.idxmax())}, {counted(int(back.sum()), 'inversion')}"
        yield Defect(307, "rows are not in the order of time", where, "sorted", fatal=checks.refuse_unsorted)


def _duplicates(table: pd.DataFrame) -> Iterator[Defect]:
    """Rows that are there twice, and rows of one moment that differ, in a sorted table."""
    same = table.duplicated()
    for where in places(table, same):
        yield Defect(308, "identical rows", where, "dropped", fatal=False)
    left = table[~same]
    clash = left.duplicated(KEYS)
    for symbol, rows in left[clash].groupby("symbol", sort=True):
        key = rows[KEYS].iloc[0]
        pair = left[(left["symbol"] == symbol) & (left["timestamp"] == key["timestamp"])].iloc[:2]
        differ = [name for name in left.columns if pair[name].nunique(dropna=False) > 1]
        values = ", ".join(f"{name} is {pair[name].iloc[0]} and {pair[name].iloc[1]}" for name in differ)
        where = f"{symbol} @ {day(key['timestamp'])}, {count_rows(len(rows))}"
        yield Defect(308, "conflicting rows", where, f"{values}: keep one")


def _filled(table: pd.DataFrame, checks: Checks, labels: Collection[str]) -> tuple[pd.DataFrame, list[Defect]]:
    """Fills short runs of missing values from the past, and reports all others."""
    defects: list[Defect] = []
    columns: dict[str, pd.Series[float]] = {}
    for name in [name for name in table.columns if name not in {*KEYS, *labels}]:
        gap = table[name].isna()
        if not gap.any():
            continue
        runs = missing_runs(table, gap)
        if name not in {*PRICES, "volume"}:
            # another column may start later than the prices, but it must start
            runs = runs[~runs["leading"] | runs["never"]]
        short = (runs["rows"] <= checks.fill_max_gap) & ~runs["leading"]
        defects += _missing(table, name, runs[~short], checks)
        if short.any():
            runs = runs[short]
            spans = zip(runs["first"], runs["last"] + 1, strict=True)
            rows = np.concatenate([np.arange(first, stop) for first, stop in spans])
            columns[name] = values = table[name].copy()
            values.iloc[rows] = 0.0 if name == "volume" else values.groupby(table["symbol"]).ffill().iloc[rows]
            where = f"{at_row(table, rows[0])}, {count_rows(len(rows))}"
            defects.append(Defect(312, f"{name} was missing", where, "filled from the past", fatal=False))
    return (table.assign(**columns) if columns else table), defects


def _missing(table: pd.DataFrame, name: str, runs: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    for first, last, rows, leading in runs[["first", "last", "rows", "leading"]].to_numpy():
        where = f"{at_row(table, first)}..{day(table['timestamp'][last])}, {count_rows(rows)}"
        fix = f"supply the values, or raise data.checks.fill_max_gap (now {checks.fill_max_gap})"
        if leading:
            fix = "supply the values or start later: there is nothing before them to fill from"
        yield Defect(312, f"{name} is missing", where, fix)
