"""Timestamps between pandas and NumPy: UTC in both, in microseconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Times = NDArray[np.datetime64]


def utc_times(column: pd.Series) -> Times:
    """Timestamps of a column with a time zone, in UTC, (n,) datetime64[us].

    Example:
        >>> utc_times(pd.Series(pd.to_datetime(["2024-01-02 09:30"]).tz_localize("Asia/Tokyo"))).astype(str).tolist()
        ['2024-01-02T00:30:00.000000']
    """
    times: Times = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return times


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
