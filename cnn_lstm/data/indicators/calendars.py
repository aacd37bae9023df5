"""The timestamp of the bar, in UTC.

Nothing here needs to know which sessions follow, as the last session of a month would.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import FloatArray


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
