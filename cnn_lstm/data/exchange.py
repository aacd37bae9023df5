"""The sessions of an exchange, by `exchange_calendars`: how far two bars lie apart, and where in a session a bar lies.

Shapes: n moments, S sessions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.errors import ConfigError, DataError, require
from cnn_lstm.hints import one_of

WHERE = "data.exchange"
ALWAYS_OPEN = "24/7"
DAY, MINUTE = 86_400_000_000, 60_000_000  # microseconds
YEARS = 10  # a calendar begins with such a span of years, so that tables of one age share it
Integers = NDArray[np.int64]


def known_exchange(code: str | None) -> str:
    """The code of an exchange, empty for None.

    Args:
        code: As exchange_calendars names it: a market identifier such as XNYS, or an alias such as NYSE.

    Raises:
        ConfigError: E230, if it is unknown or never closed, or the package is not installed.
    """
    if code is None:
        return ""
    package, fix = _package(), "leave it out: a market that never closes has no sessions"
    names = package.get_calendar_names(include_aliases=True)
    require(code in names, f"unknown exchange {code!r}", WHERE, one_of(code, names), code=230)
    resolved = str(package.resolve_alias(code))
    require(resolved != ALWAYS_OPEN, f"exchange {code} is open on every day", WHERE, fix, code=230)
    return resolved


def elapsed(times: Integers, exchange: str) -> Integers:
    """Where moments lie on the scale on which pauses are measured, (n,): differences are microseconds.

    Without an exchange it is time itself. With one, each session is a day, and between two sessions there is nothing:
    from one bar to one in the next session it is one day, whatever holidays lie between.

    Args:
        times: Moments, (n,), in microseconds since 1970 in UTC.
        exchange: Its code; empty for none.

    Raises:
        DataError: E388, if the calendar does not know a moment.
    """
    return sessions_of(exchange, times).number(times) * DAY if exchange else times


def unit_of_pauses(exchange: str) -> str:
    """What limits of gaps count: days, or sessions of an exchange."""
    return f"sessions of {exchange}" if exchange else "days"


@dataclass(frozen=True)
class Sessions:
    """The sessions of an exchange, all in UTC.

    Attributes:
        code: The exchange.
        zone: Its time zone.
        dates: Date of each session, in days since 1970, (S,), ascending.
        opens: When it opens, in microseconds since 1970, (S,).
        closes: When it closes, (S,); early closes are known.
        breaks: Length of its break, in microseconds, (S,); 0 without one.
    """

    code: str
    zone: str
    dates: Integers
    opens: Integers
    closes: Integers
    breaks: Integers

    def number(self, times: Integers) -> Integers:
        """The first session that is not over at each moment, (n,); numbers never fall as time goes on.

        The date of a session, which is midnight UTC, lies behind the close of the session before it, and before or
        within the session itself: in Asia, and where a session begins in the evening before. So dates and moments have
        one rule.

        Args:
            times: Moments or dates, (n,), in microseconds since 1970.
        """
        begins_day = (times % DAY == 0).astype(np.int64)  # where a session ends at midnight, the next one has the date
        number: Integers = np.searchsorted(self.closes, times + begins_day)
        return number

    def of_dates(self, days: Integers) -> Integers:
        """The session of each date, (n,), in days since 1970; -1 for none."""
        found = np.searchsorted(self.dates, days).clip(max=len(self.dates) - 1)
        return np.where(self.dates[found] == days, found, -1).astype(np.int64)

    def around(self, times: Integers) -> Integers:
        """The session whose day each moment lies in, (n,): also before its open and after its close; -1 for none.

        Args:
            times: Moments, (n,), in microseconds since 1970.
        """
        after = np.searchsorted(self.opens, times, side="right") - 1
        inside = (after >= 0) & (times <= self.closes[after.clip(min=0)])
        zoned = pd.DatetimeIndex(times.astype("datetime64[us]"), tz="UTC").tz_convert(self.zone)
        days = zoned.tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64)
        return np.where(inside, after, self.of_dates(days)).astype(np.int64)


def sessions_of(exchange: str, times: Integers) -> Sessions:
    """The sessions of an exchange that moments need.

    Args:
        exchange: Its code, from `known_exchange`.
        times: Moments, (n,), in microseconds since 1970.

    Raises:
        ConfigError: E230, if the package is not installed, or does not know the exchange.
        DataError: E388, if the calendar does not reach so far.

    Example:
        >>> moments = pd.to_datetime(["2012-10-26", "2012-10-31"]).as_unit("us").astype("int64").to_numpy()
        >>> np.diff(sessions_of("XNYS", moments).number(moments))  # two days of hurricane Sandy lie between
        array([1])
    """
    if not len(times):
        times = np.array([pd.Timestamp.now("UTC").value // 1000])
    first, last = (np.datetime64(int(one), "us") for one in (times.min(), times.max()))
    year = int(str(first)[:4]) // YEARS * YEARS
    sessions = _sessions(exchange, year, pd.Timestamp.now("UTC").year)
    known = sessions.dates[[0, -1]].astype("datetime64[D]")
    if first < known[0] - np.timedelta64(10, "D") or last > known[1] + np.timedelta64(1, "D"):
        odd = first if first < known[0] else last
        what = f"{str(odd)[:10]} lies outside of the calendar of {exchange}, {known[0]} to {known[1]}"
        fix = "update exchange_calendars, choose dates within it by data.start and data.end, or leave data.exchange out"
        raise DataError(what, WHERE, fix, code=388)
    return sessions


@lru_cache(maxsize=32)
def _sessions(exchange: str, year: int, now: int) -> Sessions:
    """The sessions from a year on, or from the first one that the calendar knows, to a year from now.

    Args:
        exchange: Its code.
        year: The first year.
        now: This year: a process that runs for longer asks again.
    """
    package = _package()
    if exchange not in package.get_calendar_names(include_aliases=True):
        raise ConfigError(f"unknown exchange {exchange!r}", WHERE, "update exchange_calendars", code=230)
    with warnings.catch_warnings():  # 4.13 under pandas 3.1: Series.values of times with a zone
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = package.get_calendar(exchange)
        bound = calendar.bound_min()
        start = pd.Timestamp(year, 1, 1) - pd.Timedelta(days=31)
        start = start if bound is None else max(start, bound)
        if start < calendar.first_session:
            calendar = package.get_calendar(exchange, start=start)
        return _of_calendar(exchange, calendar)


def _of_calendar(exchange: str, calendar: Any) -> Sessions:
    days = calendar.sessions_nanos // (DAY * 1000)
    opens, closes, starts, ends = (
        getattr(calendar, f"{name}_nanos") // 1000 for name in ("opens", "closes", "break_starts", "break_ends")
    )
    breaks = np.where(calendar.break_starts_nanos == pd.NaT.value, 0, ends - starts)
    return Sessions(exchange, str(calendar.tz), days, opens, closes, breaks)


def _package() -> ModuleType:
    if find_spec("exchange_calendars") is None:
        what, fix = "data.exchange needs exchange_calendars", 'pip install "cnn-lstm[calendars]"'
        raise ConfigError(what, WHERE, fix, code=230)
    import exchange_calendars

    package: ModuleType = exchange_calendars
    return package
