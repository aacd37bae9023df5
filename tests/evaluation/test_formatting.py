"""Nouns of the report: hourly decisions are not dates, and one of anything is not several."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.evaluation.formatting import time_noun
from cnn_lstm.evaluation.report import _extent
from cnn_lstm.hints import counted


@pytest.mark.parametrize(
    ("start", "freq", "rows", "noun"),
    [
        ("2024-01-01", "B", 60, "date"),
        ("2024-01-01", "MS", 12, "date"),
        ("2024-01-01", "D", 1, "date"),
        ("2024-01-01 09:30", "h", 60, "timestamp"),
        ("2024-01-01", "h", 49, "timestamp"),  # from midnight to midnight
        ("2024-01-01", "5min", 289, "timestamp"),
        ("2024-01-01 16:00", "B", 60, "date"),  # a close of the day with its time
    ],
)
@pytest.mark.parametrize("symbols", [1, 3])
def test_the_noun_follows_the_interval(start: str, freq: str, rows: int, noun: str, symbols: int) -> None:
    when = pd.date_range(start, periods=rows, freq=freq, tz="UTC")
    table = pd.DataFrame({"symbol": np.repeat([*"ABC"][:symbols], rows), "as_of": np.tile(when, symbols)})
    assert time_noun(_extent(table, table, 1)) == noun


def test_one_of_anything_is_not_several() -> None:
    assert [counted(number, "bar") for number in (0, 1, 2, 1000)] == ["0 bars", "1 bar", "2 bars", "1,000 bars"]
