"""Spans of time: what users write, and the moments that lie so far apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.durations import Duration
from cnn_lstm.errors import ConfigError

DAYS = pd.bdate_range("2020-01-01", periods=300).to_numpy().astype("datetime64[us]")


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("3mo", Duration(3, "months")),
        ("20 bars", Duration(20, "bars")),
        ("1Y", Duration(1, "years")),
        (" 2w ", Duration(2, "weeks")),
        ("12h", Duration(12, "hours")),
    ],
)
def test_what_users_write(text: str, span: Duration) -> None:
    assert Duration.parse(text, "--every") == span
    assert Duration.parse(str(span), "--every") == span


@pytest.mark.parametrize("text", ["", "0d", "-1mo", "mo", "3", "3m", "1.5y", "99999d", "3mo 1d", "2020-01-01"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="E236"):
        Duration.parse(text, "--every")


@pytest.mark.parametrize("unit", ["days", "weeks", "months", "years", "hours"])
def test_calendar_spans_are_those_of_pandas(unit: str) -> None:
    first = np.datetime64("2019-10-31T05:00:00", "us")
    for times in (-3, 0, 1, 7):
        wanted = pd.Timestamp(first) + pd.DateOffset(**{unit: 4 * times})  # type: ignore[arg-type]  # units by name
        assert Duration(4, unit).shifted(first, times, DAYS) == wanted.to_datetime64()  # type: ignore[arg-type]  # a Unit


def test_a_months_end_does_not_drift() -> None:
    ends = [str(Duration(1, "months").shifted(np.datetime64("2020-01-31", "us"), k, DAYS))[:10] for k in range(4)]
    assert ends == ["2020-01-31", "2020-02-29", "2020-03-31", "2020-04-30"]


def test_bars_are_counted_where_they_are() -> None:
    span = Duration(20, "bars")
    assert span.shifted(DAYS[100], 2, DAYS) == DAYS[140]
    assert span.shifted(DAYS[100], -5, DAYS) == DAYS[0]
    assert span.shifted(DAYS[100], -6, DAYS) is None
    assert span.shifted(DAYS[290], 1, DAYS) is None
    assert span.shifted(np.datetime64("2020-01-04", "us"), 0, DAYS) == np.datetime64("2020-01-06")  # a Saturday


def test_bars_that_are_not_there_yet_take_as_long_as_the_last_ones() -> None:
    assert Duration(5, "bars").beyond(DAYS[-1], DAYS) - DAYS[-1] == np.timedelta64(7, "D")
    assert Duration(500, "bars").beyond(DAYS[-1], DAYS) > DAYS[-1] + np.timedelta64(690, "D")
    assert Duration(5, "bars").beyond(DAYS[0], DAYS[:1]) == DAYS[0]
    # nothing after the moment matters
    assert Duration(5, "bars").beyond(DAYS[100], DAYS) == Duration(5, "bars").beyond(DAYS[100], DAYS[:101])
