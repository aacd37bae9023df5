"""Rows of a price table that have nothing to say: before a listing, behind the last bar, or without a label."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cnn_lstm.data.checks import BARS, Checks, at_row, count_rows, day, present
from cnn_lstm.errors import DataError, Defect
from cnn_lstm.hints import counted


def listed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Defect]]:
    """The table without the first and last rows of a symbol in which a price or the volume is missing.

    Args:
        table: Sorted by symbol and timestamp, with a RangeIndex.

    Returns:
        The rows that stay, and a warning for each run of rows that does not. A symbol without any bar is gone.

    Raises:
        DataError: If no row is left.

    Example:
        >>> when = pd.date_range("2024-01-01", periods=4, tz="UTC")
        >>> table = pd.DataFrame({"symbol": "A", "timestamp": when, "close": [None, 1.0, 2.0, None]})
        >>> kept, warnings = listed(table)
        >>> kept["close"].tolist(), [defect.what for defect in warnings]
        ([1.0, 2.0], ['no bar yet', 'no bar any more'])
    """
    gap = table[present(table, BARS)].isna().any(axis=1)
    if not gap.any():
        return table, []
    runs = missing_runs(table, gap)
    runs = runs[runs["leading"] | runs["trailing"]]
    inside = pd.Series(True, index=table.index)
    defects = []
    for first, last, leading, never in runs[["first", "last", "leading", "never"]].to_numpy():
        inside.loc[first:last] = False
        what = "no bar at all" if never else "no bar yet" if leading else "no bar any more"
        where = f"{at_row(table, first)}..{day(table['timestamp'][last])}, {count_rows(last - first + 1)}"
        defects.append(Defect(312, what, where, "left out", fatal=False))
    if not inside.any():
        raise DataError("0 rows", "no symbol has a bar", "give a table with at least one bar", code=302)
    return table[inside].reset_index(drop=True), defects


def unlabelled(table: pd.DataFrame, name: str, checks: Checks) -> Iterator[Defect]:
    """Empty cells of a column of labels, but for the first and last rows of each symbol.

    A column may start later than the prices, and the last labels are not known yet.

    Args:
        table: Sorted by symbol and timestamp, with a RangeIndex.
        name: The column.
        checks: Whether they are tolerated.
    """
    gap = table[name].isna()
    if not gap.any():
        return
    runs = missing_runs(table, gap)
    runs = runs[~(runs["leading"] | runs["trailing"]) | runs["never"]]
    symbols = runs.groupby(table["symbol"][runs["first"]].to_numpy())
    if checks.on_unlabelled == "skip" and len(runs):  # labels may be rare by design: one line is enough
        where = f"{count_rows(int(runs['rows'].sum()))} of {counted(symbols.ngroups, 'symbol')}"
        yield Defect(312, f"the label {name} is empty", where, "no decision there", fatal=False)
        return
    for symbol, of_symbol in symbols:
        first = day(table["timestamp"][of_symbol["first"].iloc[0]])
        where = f"{symbol} @ {first}, {count_rows(int(of_symbol['rows'].sum()))}"
        yield Defect(312, f"the label {name} is missing", where, "supply it, or set data.checks.on_unlabelled: skip")


def missing_runs(table: pd.DataFrame, gap: pd.Series[bool]) -> pd.DataFrame:
    """Runs of missing values of a column, (n,) flags, of a table sorted by symbol and time.

    Returns:
        One row per run: first and last row, number of rows, and whether it is leading (no value came before it),
        trailing (none comes after it), or never ends (the symbol has no value at all).
    """
    symbol = table["symbol"]
    starts = symbol.ne(symbol.shift())
    number = (gap.ne(gap.shift()) | starts).cumsum()
    row = table.index.to_series()
    groups = row[gap].groupby(number[gap])
    runs = pd.DataFrame({"first": groups.min(), "last": groups.max(), "rows": groups.size()})
    runs["leading"] = starts[runs["first"]].to_numpy()
    runs["trailing"] = symbol.ne(symbol.shift(-1))[runs["last"]].to_numpy()
    size = symbol.groupby(symbol).transform("size")[runs["first"]]
    runs["never"] = runs["rows"].to_numpy() == size.to_numpy()
    return runs
