"""One fast pass that finds the symbols whose rows may have a defect, so that the checks of rows look at these alone.

A symbol that is not found has no defect that the checks of rows know: each limit here is stricter than theirs.

Shapes: n rows, S symbols.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import (
    BARS,
    KEYS,
    PRICES,
    TABLE_CHECKS,
    Checks,
    RowCheck,
    gaps_of,
    intervals,
    only_warnings,
    twins,
)
from cnn_lstm.data.odd_bars import LOUD, ODD_CHECKS, volumes
from cnn_lstm.data.times import microseconds
from cnn_lstm.errors import Defect

CHUNK = 1 << 20  # rows that are looked at in one go
# below the smallest overnight move, of 3:2 less its tolerance, and the smallest span that any check names
QUIET_STEP, QUIET_SPAN = math.exp(0.3), math.exp(0.4)
FIRST = np.datetime64("1900-01-02", "us").astype(np.int64)
DAY = 86_400_000_000  # microseconds
ALIKE = 1.9  # the checks name intervals of which one is twice another

Numbers = NDArray[np.float64]
Times = NDArray[np.int64]
Flags = NDArray[np.bool_]


def row_defects(
    table: pd.DataFrame, checks: Checks, symbols: Sequence[slice], warn: bool = True, exchange: str = ""
) -> Iterator[Defect]:
    """Defects of the rows of a table, as the checks find them in all rows of all symbols.

    Args:
        table: Sorted by symbol and timestamp, without doubles, with a RangeIndex; symbols as text, UTC in microseconds.
        checks: What is tolerated.
        symbols: Rows of each symbol, (S,), in order.
        warn: Whether to look for what is never more than a warning.
        exchange: The exchange whose sessions gaps are counted in; empty for days.
    """
    checks = checks.on(table, exchange)
    # no day has two sessions, and a moment may belong to the session after it
    found = _Screened.of(table, checks.gap_limit() - bool(exchange), symbols)
    few = table if found.rows.all() else table[found.rows].reset_index(drop=True)
    needless: list[RowCheck] = [] if warn else [*ODD_CHECKS, *only_warnings(checks)]
    needless += [check for check, found_none in ((intervals, found.alike), (volumes, found.quiet)) if found_none]
    for check in (*TABLE_CHECKS, *ODD_CHECKS):
        whole = check in (twins, intervals, volumes)
        if check not in needless and (whole or len(few)):
            looked_at = table if whole else few
            yield from gaps_of(few, checks, exchange) if check is gaps_of else check(looked_at, checks)


@dataclass(frozen=True)
class _Screened:
    """What the pass has found.

    Attributes:
        rows: Whether a row is one of a symbol that may have a defect, (n,).
        alike: Whether all symbols surely have one interval.
        quiet: Whether surely no volume is far above the usual one of its symbol.
    """

    rows: Flags
    alike: bool
    quiet: bool

    @classmethod
    def of(cls, table: pd.DataFrame, limit: float, symbols: Sequence[slice]) -> _Screened:
        """Looks at all rows; arguments as for `row_defects`, and the longest distance in days that is not a gap."""
        names = [str(name) for name in table.columns if name not in KEYS]
        columns = {name: table[name].to_numpy(dtype=np.float64) for name in names}
        time = microseconds(table["timestamp"])
        rows, steps, quiet = np.zeros(len(table), dtype=bool), list[float](), True
        for part in _chunks(symbols):
            first, stop = part[0].start, part[-1].stop
            starts = np.array([one.start - first for one in part])
            inside = {name: values[first:stop] for name, values in columns.items()}
            usual = _medians(np.diff(time[first:stop], prepend=time[first]), starts, skipped=1)
            odd = _odd_values(inside, starts, stop - first) | _odd_moves(inside, starts, stop - first)
            odd |= _odd_steps(time[first:stop], starts, limit, usual)
            rows[first:stop] = _of_symbols(np.logical_or.reduceat(odd, starts), starts, stop - first)
            quiet = quiet and ("volume" not in inside or _quiet(inside["volume"], starts))
            steps += usual[~np.isnan(usual)].tolist()
        return cls(rows, not steps or max(steps) <= ALIKE * min(steps), quiet)


def _chunks(symbols: Sequence[slice]) -> Iterator[Sequence[slice]]:
    """Symbols that lie together, of some `CHUNK` rows."""
    first = 0
    for k, rows in enumerate(symbols):
        if rows.stop - symbols[first].start >= CHUNK or k == len(symbols) - 1:
            yield symbols[first : k + 1]
            first = k + 1


def _medians(values: Numbers | Times, starts: Times, skipped: int = 0) -> Numbers:
    """Median of the values of each symbol, (S,), without its first ones; NaN where none is left."""
    parts = np.split(values, starts[1:])
    return np.array([np.median(part[skipped:]) if len(part) > skipped else np.nan for part in parts])


def _of_symbols(values: NDArray[Any], starts: Times, rows: int) -> NDArray[Any]:
    """The value of its symbol for each row, (S,) -> (n,)."""
    return np.repeat(values, np.diff([*starts, rows]))


def _odd_values(columns: dict[str, Numbers], starts: Times, rows: int) -> Flags:
    """Rows of values that are missing, infinite or out of range, or of bars that contradict themselves, (n,)."""
    odd = np.zeros(rows, dtype=bool)
    with np.errstate(invalid="ignore"):
        for name, values in columns.items():
            odd |= ~np.isfinite(values) if name in BARS else np.isinf(values)
            odd |= values <= 0 if name in PRICES else (values < 0) & (name == "volume")
        for name in ("open", "low", "close"):
            if name in columns and "high" in columns:
                odd |= columns[name] > columns["high"]
            if name in columns and "low" in columns:
                odd |= columns[name] < columns["low"]
    if "volume" in columns:
        odd[starts] |= np.maximum.reduceat(columns["volume"], starts) <= 0
    return odd


def _odd_moves(columns: dict[str, Numbers], starts: Times, rows: int) -> Flags:
    """Rows that are far from the close before, or whose high is far from their low, (n,)."""
    odd = np.zeros(rows, dtype=bool)
    with np.errstate(all="ignore"):  # other rows were found by their values
        if "close" in columns:
            change = columns["close"][1:] / columns["close"][:-1]
            odd[1:] = (change > QUIET_STEP) | (change < 1 / QUIET_STEP)
            odd[starts] = False
        if "high" in columns and "low" in columns:
            odd |= columns["high"] > QUIET_SPAN * columns["low"]
    return odd


def _odd_steps(time: Times, starts: Times, limit: float, usual: Numbers) -> Flags:
    """Rows with odd dates, behind a gap, or within half of the usual step of their symbol, (n,)."""
    step = np.diff(time, prepend=time[:1])
    far = (step > limit * DAY - 2) | (step <= _of_symbols(usual, starts, len(time)) / 2 + 1)
    far[starts] = False
    return far | (time < FIRST) | (time > np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us").astype(np.int64))


def _quiet(volume: Numbers, starts: Times) -> bool:
    """Whether no volume is far above the usual one of its symbol; the zeros count here, which makes that one lower."""
    return bool((np.maximum.reduceat(volume, starts) <= LOUD * _medians(volume, starts)).all())
