"""What an exchange's calendar says of a price table: sessions without a bar, bars without a session, short sessions.

Shapes: n rows of a symbol, S sessions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from cnn_lstm.data.exchange import DAY, Integers, Sessions, sessions_of
from cnn_lstm.data.symbol_rows import symbol_slices
from cnn_lstm.data.times import microseconds
from cnn_lstm.errors import Defect
from cnn_lstm.hints import counted

SHOWN = 5  # dates of a message
ROUNDING = 1e-9


def session_defects(table: pd.DataFrame, exchange: str) -> Iterator[Defect]:
    """Warnings of a table by the calendar of an exchange, symbol by symbol; none of them is fatal.

    Bars that are usually more than a session apart, such as weekly ones, are not looked at.

    Args:
        table: Sorted by symbol and timestamp, UTC.
        exchange: Its code; empty for none.

    Raises:
        DataError: E388, if the calendar does not know a date.
    """
    if not exchange or table.empty:
        return
    times = microseconds(table["timestamp"])
    daily, sessions = not (times % DAY).any(), sessions_of(exchange, times)
    number = sessions.of_dates(times // DAY) if daily else sessions.around(times)
    for rows in symbol_slices(table["symbol"]):
        yield from _of_symbol(str(table["symbol"].iloc[rows.start]), times[rows], number[rows], sessions)


def _of_symbol(symbol: str, times: Integers, number: Integers, sessions: Sessions) -> Iterator[Defect]:
    if len(times) < 2 or np.median(np.diff(sessions.number(times))) > 1:
        return
    closed = np.unique(times[number < 0] // DAY)
    if len(closed):
        bars, days = counted(int((number < 0).sum()), "bar"), counted(len(closed), "day")
        what = f"{bars} on {days} without a session of {sessions.code}"
        fix = "remove them, or choose another data.exchange"
        yield Defect(389, what, f"{symbol} @ {_dates(closed)}", fix, fatal=False)
    found, counts = np.unique(number[number >= 0], return_counts=True)
    every = np.arange(found[0], found[-1] + 1) if len(found) else found
    missing = np.setdiff1d(every, found)
    if len(missing):
        what = f"{counted(len(missing), 'session')} of {sessions.code} without a bar, of {len(every)}"
        fix = "supply the bars, if the symbol was traded"
        yield Defect(389, what, f"{symbol} @ {_dates(sessions.dates[missing])}", fix, fatal=False)
    if (times % DAY).any():
        yield from _short(symbol, times, sessions, found, counts)


def _short(symbol: str, times: Integers, sessions: Sessions, found: Integers, bars: Integers) -> Iterator[Defect]:
    """Sessions with fewer bars than they have room for; an early close has room for fewer, and so has a break."""
    step = int(np.median(np.diff(times)))
    if not 0 < step < DAY:
        return
    length = (sessions.closes - sessions.opens - sessions.breaks)[found]
    room = -(-length // step)
    usual = min(1.0, float(np.median(bars / room)))  # a vendor may always leave out the last bar
    short = found[bars < np.floor(room * usual + ROUNDING)]
    if len(short):
        few = counted(len(short), "session")
        what = f"{few} of {sessions.code} with too few bars for their length, of {len(found)}"
        yield Defect(389, what, f"{symbol} @ {_dates(sessions.dates[short])}", "supply the bars", fatal=False)


def _dates(days: Integers) -> str:
    """The first ones of many days."""
    names = [str(day) for day in days[:SHOWN].astype("datetime64[D]")]
    more = f" and {len(days) - SHOWN} more" if len(days) > SHOWN else ""
    return ", ".join(names) + more
