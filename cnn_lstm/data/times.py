"""Timestamps between pandas and NumPy: UTC in both, in microseconds."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.errors import DataError

Times = NDArray[np.datetime64]
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 and 9999, since 1970
_INSTANT = pd.Timedelta(1, unit="us")


def utc_times(column: pd.Series) -> Times:
    """Timestamps of a column with a time zone, in UTC, (n,) datetime64[us].

    Example:
        >>> utc_times(pd.Series(pd.to_datetime(["2024-01-02 09:30"]).tz_localize("Asia/Tokyo"))).astype(str).tolist()
        ['2024-01-02T00:30:00.000000']
    """
    times: Times = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return times


def microseconds(column: pd.Series) -> NDArray[np.int64]:
    """Microseconds since 1970, (n,), of a column with a time zone.

    Example:
        >>> microseconds(pd.Series(pd.to_datetime(["1970-01-02"], utc=True))).tolist()
        [86400000000]
    """
    numbers: NDArray[np.int64] = column.dt.as_unit("us").astype("int64").to_numpy()
    return numbers


def utc_or_dates(local: pd.Series, daily: bool | None = None) -> pd.Series:
    """The one time rule: local times that are all midnight are dates and stay these; others are moments in UTC.

    Midnight is the first instant of a local day. Where a clock jumps over 0:00, as in Beirut, that is 1:00.

    Args:
        local: Timestamps with a time zone.
        daily: Whether times at midnight are dates, where that is known: a single one could be either. None looks at
            all of `local`.

    Returns:
        UTC, microseconds.

    Example:
        >>> days = pd.Series(pd.to_datetime(["2024-01-02", "2024-01-03"]).tz_localize("Asia/Tokyo"))
        >>> utc_or_dates(days).iloc[0], utc_or_dates(days, daily=False).iloc[0]
        (Timestamp('2024-01-02 00:00:00+0000', tz='UTC'), Timestamp('2024-01-01 15:00:00+0000', tz='UTC'))
    """
    moments = cast(pd.Series, local.dt.tz_convert("UTC").dt.as_unit("us"))
    if daily is False:
        return moments
    first = at_midnight(local)
    if daily is None and not first.all():
        return moments
    dates = local.dt.tz_localize(None).dt.normalize().dt.tz_localize("UTC").dt.as_unit("us")
    return moments.where(~first, dates)


def at_midnight(local: pd.Series) -> pd.Series[bool]:
    """Which local times are the first instant of their day; one that is not known counts as such.

    Args:
        local: Timestamps with a time zone.

    Example:
        >>> at_midnight(pd.Series(pd.date_range("2024-01-02", periods=2, freq="9h", tz="Asia/Tokyo"))).tolist()
        [True, False]
    """
    clock = local.dt.tz_localize(None)
    days = clock.dt.normalize()
    first: pd.Series[bool] = (clock == days) | clock.isna()
    if not first.all():
        first |= (local - _INSTANT).dt.tz_localize(None).dt.normalize() != days
    return first


def require_years(moments: pd.Series, where: str) -> None:
    """Refuses timestamps that no calendar can print, most often numbers of another unit than they were read in.

    Args:
        moments: Timestamps, with or without a zone.
        where: Where they come from, for the message.

    Raises:
        DataError: E311, one lies outside of the years 1 to 9999.
    """
    seconds = moments.dt.tz_localize(None).dt.as_unit("s").dropna().to_numpy().astype(np.int64)
    odd = (seconds < FIRST_SECOND) | (seconds > LAST_SECOND)
    if odd.any():
        year = seconds[int(odd.argmax())].astype("datetime64[s]").astype("datetime64[Y]")
        rows = "1 row" if odd.sum() == 1 else f"{int(odd.sum())} rows"
        raise DataError(f"the year {year}", f"{where}, {rows}", "correct the dates, or the unit of numbers", code=311)


def utc_index(times: NDArray[np.datetime64] | NDArray[np.int64]) -> pd.DatetimeIndex:
    """The way back: an index in UTC of times, or of microseconds since 1970, (n,)."""
    return pd.DatetimeIndex(times.astype("datetime64[us]"), tz="UTC")


def time_text(time: np.datetime64) -> str:
    """A timestamp to the minute, or its date alone where it is midnight.

    Example:
        >>> time_text(np.datetime64("2010-01-05T00:00")), time_text(np.datetime64("2010-01-05T14:30"))
        ('2010-01-05', '2010-01-05T14:30')
    """
    return str(time.astype("datetime64[m]")).replace("T00:00", "")
