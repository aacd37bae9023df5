"""The timestamp of the bar, in UTC or in the zone of `data.calendar_zone`.

Nothing here needs to know which sessions follow, as the last session of a month would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import FloatArray

WINTER, SUMMER = (12, 1, 2), (6, 7, 8)
NIGHT = pd.Timedelta(hours=4)


def in_zone(function: Callable[[pd.DataFrame], Any], zone: str, bars: pd.DataFrame) -> Any:
    """A function of bars whose timestamps are times of a zone, so that a session has the same hours all year.

    Args:
        function: One of this module.
        zone: Name of the zone, for example America/New_York.
        bars: Bars of moments; the date of a daily bar has no zone, and would become another.

    Example:
        >>> when = pd.to_datetime(["2024-01-02 14:30", "2024-07-02 13:30"]).tz_localize("UTC")
        >>> in_zone(minute_of_day_sin, "America/New_York", pd.DataFrame({"timestamp": when})).round(2).tolist()
        [0.61, 0.61]
    """
    return function(bars.assign(timestamp=bars["timestamp"].dt.tz_convert(zone)))


def wandering_sessions(timestamps: pd.Series) -> tuple[str, str] | None:
    """When the sessions begin in winter and in summer, if a clock change lies between; None if none shows.

    A session begins after a pause of `NIGHT` or more; a market that never closes has none.

    Args:
        timestamps: Moments in UTC.

    Example:
        >>> winter, summer = (pd.bdate_range(f"2024-{month}", periods=20, tz="UTC") for month in ("01", "06"))
        >>> wandering_sessions(pd.Series([*(winter + pd.Timedelta("14.5h")), *(summer + pd.Timedelta("13.5h"))]))
        ('14:30', '13:30')
    """
    times = timestamps.drop_duplicates().sort_values()
    first = times[times.diff() >= NIGHT]
    usual = []
    for months in (WINTER, SUMMER):
        begins = first[first.dt.month.isin(months)].dt.strftime("%H:%M").value_counts(normalize=True)
        if begins.empty or begins.iloc[0] <= 0.5:
            return None
        usual.append(str(begins.index[0]))
    minutes = [int(time[:2]) * 60 + int(time[3:]) for time in usual]
    return (usual[0], usual[1]) if abs(minutes[0] - minutes[1]) == 60 else None


def _angle(share: pd.Series) -> FloatArray:
    return 2 * np.pi * share.to_numpy(dtype=np.float64)


def _day_share(bars: pd.DataFrame) -> pd.Series:
    time = bars["timestamp"].dt
    return pd.Series((time.hour * 60 + time.minute) / 1440)


@feature(inputs=())
def day_of_week_sin(bars: pd.DataFrame) -> FloatArray:
    """Sine of the day of the week, Monday 0, period 7 days."""
    return np.sin(_angle(bars["timestamp"].dt.day_of_week / 7))


@feature(inputs=())
def day_of_week_cos(bars: pd.DataFrame) -> FloatArray:
    """Cosine of the day of the week, Monday 1, period 7 days."""
    return np.cos(_angle(bars["timestamp"].dt.day_of_week / 7))


@feature(inputs=())
def month_sin(bars: pd.DataFrame) -> FloatArray:
    """Sine of the month, January 0, period 12 months."""
    return np.sin(_angle((bars["timestamp"].dt.month - 1) / 12))


@feature(inputs=())
def month_cos(bars: pd.DataFrame) -> FloatArray:
    """Cosine of the month, January 1, period 12 months."""
    return np.cos(_angle((bars["timestamp"].dt.month - 1) / 12))


@feature(inputs=())
def day_of_month(bars: pd.DataFrame) -> pd.Series:
    """Place of the day in its month: 0 the first, 1 the last calendar day."""
    time = bars["timestamp"].dt
    return pd.Series((time.day - 1) / (time.days_in_month - 1))


@feature(inputs=())
def turn_of_month(bars: pd.DataFrame, days: int = 3) -> pd.Series:
    """1 on the first and last n calendar days of a month, else 0 (Lakonishok and Smidt 1988)."""
    time = bars["timestamp"].dt
    return pd.Series((time.day <= days) | (time.day > time.days_in_month - days), dtype="float64")


@feature(inputs=())
def hour_sin(bars: pd.DataFrame) -> FloatArray:
    """Sine of the hour of the day, period 24 hours."""
    return np.sin(_angle(bars["timestamp"].dt.hour / 24))


@feature(inputs=())
def hour_cos(bars: pd.DataFrame) -> FloatArray:
    """Cosine of the hour of the day, period 24 hours."""
    return np.cos(_angle(bars["timestamp"].dt.hour / 24))


@feature(inputs=())
def minute_of_day_sin(bars: pd.DataFrame) -> FloatArray:
    """Sine of the minute of the day, period 1440 minutes."""
    return np.sin(_angle(_day_share(bars)))


@feature(inputs=())
def minute_of_day_cos(bars: pd.DataFrame) -> FloatArray:
    """Cosine of the minute of the day, period 1440 minutes."""
    return np.cos(_angle(_day_share(bars)))


@feature(inputs=(), warmup=1)
def days_since_bar(bars: pd.DataFrame) -> pd.Series:
    """Days since the symbol's previous bar: 3 on a Monday of daily bars."""
    return pd.Series(bars["timestamp"].diff().dt.total_seconds() / 86_400)
