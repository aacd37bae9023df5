"""Timestamps between pandas and NumPy, and a few of many positions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.times import time_text, utc_index, utc_times


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_times_are_in_utc_whatever_the_zone(zone: str) -> None:
    index = pd.date_range("2024-03-09 23:00", periods=4, freq="h", tz="UTC")
    times = utc_times(pd.Series(index.tz_convert(zone)))
    assert times.dtype == "datetime64[us]"
    assert times.tolist() == index.tz_localize(None).to_pydatetime().tolist()


def test_the_way_back_is_the_same_index() -> None:
    index = pd.date_range("2024-03-09", periods=3, freq="D", tz="UTC").as_unit("us")
    times = utc_times(pd.Series(index))
    assert utc_index(times).equals(index)
    assert utc_index(times.astype(np.int64)).equals(index)


def test_midnight_is_left_out_of_a_text() -> None:
    assert time_text(np.datetime64("2010-01-05T00:00:00.000000", "us")) == "2010-01-05"
    assert time_text(np.datetime64("2010-01-05T00:01:59", "us")) == "2010-01-05T00:01"


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("most", [1, 2, 7, 30, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 8, 365])
def test_picks_are_evenly_spread_with_the_first_and_the_last(count: int, most: int, down: bool) -> None:
    picks = evenly_spread(count, most, down)
    assert len(picks) == min(most, count)
    assert picks.dtype == np.int64
    if count:
        assert picks[0] == 0
    if min(most, count) > 1:
        assert picks[-1] == count - 1
        assert np.ptp(np.diff(picks)) <= 1
