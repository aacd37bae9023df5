"""Bars of one moment, and which may follow those that a stream has seen.

Shapes: S symbols, C columns of a bar.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import day
from cnn_lstm.data.prices import is_long
from cnn_lstm.data.times import FIRST_SECOND, LAST_SECOND
from cnn_lstm.errors import DataError
from cnn_lstm.hints import counted


@dataclass(frozen=True)
class Arrived:
    """Bars of one moment.

    Attributes:
        moment: Their time, in microseconds since 1970 in UTC.
        symbols: Their symbols, as they came.
        values: Their columns, (S, C).
    """

    moment: int
    symbols: list[str]
    values: NDArray[np.float64]

    def in_order(self) -> Arrived:
        """The bars in the order of their symbols."""
        order = sorted(range(len(self.symbols)), key=self.symbols.__getitem__)
        return Arrived(self.moment, [self.symbols[place] for place in order], self.values[order])


def arrived_plainly(bars: object, columns: Sequence[str]) -> Arrived | None:
    """The bars of a table that `price_table` and `check_structure` would pass as it is; None for any other.

    Args:
        bars: What the user gave.
        columns: What is needed next to symbol and timestamp, C of them.
    """
    if not (isinstance(bars, pd.DataFrame) and len(bars) and set(columns) <= set(bars.columns) and is_long(bars)):
        return None
    moments = bars["timestamp"].to_numpy(dtype="datetime64[us]").view(np.int64)
    moment = int(moments[0])
    if (moments != moment).any() or not FIRST_SECOND <= moment // 1_000_000 <= LAST_SECOND:  # NaT is below
        return None
    values = np.stack([bars[name].to_numpy() for name in columns], axis=1)
    return Arrived(moment, bars["symbol"].tolist(), values)


def moment_of(bars: pd.DataFrame) -> int:
    """The timestamp that all bars share, in microseconds since 1970 in UTC.

    Raises:
        DataError: If there are several.
    """
    moments = bars["timestamp"].dt.as_unit("us").astype("int64").unique()  # in UTC, whatever the zone
    if len(moments) > 1:
        raise _refused(f"bars of {len(moments)} moments", "", "give the bars of one timestamp at a time")
    return int(moments[0])


def require_next(arrived: Sequence[str], moment: int, symbols: Sequence[str], last: Mapping[str, int]) -> None:
    """Refuses bars that were given already, come late, come twice or are of an unknown symbol.

    Args:
        arrived: Symbol of each bar.
        moment: Their time, in microseconds.
        symbols: Symbols that may come.
        last: Time of the last bar of each symbol that has come, in microseconds.

    Raises:
        DataError: Naming the symbol and its date.
    """
    seen, may_come = set[str](), frozenset(symbols)
    for symbol in arrived:
        if symbol in seen:
            raise _refused("two bars of one moment", f"{symbol} @ {_day(moment)}", "give one")
        seen.add(symbol)
    for symbol in arrived:
        if symbol not in may_come:
            known = ", ".join(symbols[:5])
            raise _refused(f"unknown symbol {symbol!r}", f"known: {known}", "start with a history that holds it")
        if symbol in last and moment <= last[symbol]:
            what = "a bar that was given already" if moment == last[symbol] else "a late bar"
            where = f"{symbol} @ {_day(moment)}, the last is of {_day(last[symbol])}"
            raise _refused(what, where, "give bars in the order of time, each once")


def require_absent(absent: Collection[str], arrived: Collection[str], symbols: Sequence[str]) -> None:
    """Refuses names of absent symbols that are unknown, or have a bar.

    Raises:
        DataError: Naming the first of them.
    """
    may_come, there = frozenset(symbols), frozenset(arrived)
    for symbol in sorted(absent):
        if symbol not in may_come or symbol in there:
            what = "given and absent at once" if symbol in there else "unknown"
            raise _refused(f"absent {symbol!r} is {what}", "absent", f"symbols of {', '.join(symbols[:5])}")


def require_together(
    arrived: Collection[str],
    absent: Collection[str],
    moment: int,
    *,
    symbols: Sequence[str],
    latest: int | None,
    feature: str,
) -> None:
    """Refuses a moment that is over or not complete, where a feature compares the symbols.

    Args:
        arrived: Symbols that have a bar.
        absent: Symbols that are known to have none.
        moment: The time of the bars, in microseconds.
        symbols: All symbols.
        latest: Time of the last bar of any symbol, in microseconds; None before the first one.
        feature: Name of a feature that compares the symbols.

    Raises:
        DataError: Naming the symbols that are missing.
    """
    if latest is not None and moment <= latest:
        what = f"a moment that is over, and {feature} compares the symbols"
        raise _refused(what, _day(moment), "give the bars of all symbols in one call, in the order of time")
    missing = sorted({*symbols} - {*arrived} - {*absent})
    if missing:
        what = f"no bar of {', '.join(missing[:5])}, and {feature} compares the symbols"
        fix = "give the bars of all symbols in one call; name those that do not trade in absent"
        raise _refused(what, f"{len(arrived)} of {counted(len(symbols), 'symbol')}", fix)


def _refused(what: str, where: str, fix: str) -> DataError:
    """The error of bars that a stream does not take."""
    return DataError(what, where, fix, code=338)


def _day(moment: int) -> str:
    return day(pd.Timestamp(moment, unit="us", tz="UTC"))
