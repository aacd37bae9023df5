"""Why a part has no window: the message names what keeps rows from being windows, and the setting that helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import Checks, check_prices
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import CnnLstmError
from tests.markets import TableSource, bars_of, walk


def bars(rows: int, freq: str, symbol: str = "AAA", start: str = "1990-01-01") -> pd.DataFrame:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, rows)))
    return bars_of(close, pd.date_range(start, periods=rows, freq=freq, tz="UTC").as_unit("us"), symbol)


def data(table: pd.DataFrame, **options: Any) -> MarketDataModule:
    values: dict[str, Any] = {"features": ["log_return_1"], "window": 5} | options
    return MarketDataModule(TableSource(table), **values)


def message(table: pd.DataFrame, code: int, **options: Any) -> str:
    with pytest.raises(CnnLstmError) as info:
        data(table, **options).setup()
    line = str(info.value).splitlines()[0]
    assert f"[E{code}]" in line, line
    assert len(line) <= 400
    return line


@pytest.mark.parametrize(("freq", "days"), [("MS", 31), ("QS", 91), ("14D", 14)])
def test_bars_that_are_further_apart_than_the_limit_name_it(freq: str, days: int) -> None:
    table = bars(250, freq, start="1955-01-01")
    line = message(table, 323, checks=Checks(max_gap_days=10))
    assert "249 gaps of more than 10 days" in line
    assert "at most 1 row in a row, and one window takes 7" in line
    fix = f"bars are {days} days apart: set data.checks.max_gap_days: "
    assert fix in line
    limit = float(line.split(fix)[1].split(",")[0])
    for good in (limit, None):
        data(table, checks=Checks(max_gap_days=good)).setup()


@pytest.mark.parametrize(
    ("freq", "limit"),
    [("h", 10), ("B", 10), ("D", 10), ("W", 21), ("14D", 45), ("MS", 90), ("BME", 90), ("QE", 270), ("YS", 1100)],
)
def test_the_limit_of_gaps_follows_the_step_of_the_bars(freq: str, limit: float) -> None:
    table = pd.concat([bars(100, freq, name, start="1901-01-05") for name in ("AAA", "BBB")], ignore_index=True)
    assert [Checks().gap_limit(table.iloc[:rows]) for rows in (30, 60, 100, 101, 200)] == [limit] * 5
    assert Checks(max_gap_days=7.5).gap_limit(table) == 7.5, "a number that is given stays"
    missing_one = table.drop(index=[50, 150]).reset_index(drop=True)
    ready = data(missing_one)
    ready.setup()
    assert ready.recipe.checks.max_gap_days == limit
    assert len(np.unique(ready.panel.segment)) == 2, "one missing bar is not a gap"
    assert Checks().gap_limit(table[:1]) == 10, "one bar has no step"


def test_a_longer_pause_of_slow_bars_is_still_a_gap() -> None:
    table = bars(250, "MS").drop(index=range(120, 124)).reset_index(drop=True)
    checked = check_prices(table, Checks())
    assert [(one.code, one.what) for one in checked.warnings] == [(320, "gap of more than 90 days in AAA")]
    ready = data(table)
    ready.setup()
    assert len(np.unique(ready.panel.segment)) == 2


def test_a_checkpoint_decides_where_the_settings_name_no_limit() -> None:
    table = bars(300, "W-FRI").drop(index=range(100, 300, 40)).reset_index(drop=True)
    fresh, read, own = data(table), data(table), data(table, checks=Checks(max_gap_days=30))
    read.setup()
    assert len(np.unique(read.panel.segment)) == 1
    for module in (fresh, read, own):
        module.keep_gap_limit(None)
        module.keep_gap_limit(10.0)
        module.setup()
    assert [module.recipe.checks.max_gap_days for module in (fresh, read, own)] == [10, 10, 30]
    assert [len(np.unique(module.panel.segment)) for module in (fresh, read, own)] == [6, 6, 1]
    assert fresh.contract() == read.contract()


def test_gaps_in_daily_bars_name_the_longest_stretch() -> None:
    table = pd.concat([walk(30, start=f"20{year}-01-04") for year in range(10, 20)], ignore_index=True)
    line = message(table, 323, window=40)
    assert "9 gaps of more than 10 days" in line
    assert "at most 30 rows in a row, and one window takes 42" in line


def test_a_feature_of_a_volume_that_is_nothing_but_zeros_is_named() -> None:
    table = bars(700, "B").assign(volume=0.0)
    line = message(table, 323, features=None, window=20)
    assert "volume_trend_5_20: no value in any of 700 rows: is the volume 0 throughout?" in line
    assert "leave it out of data.features" in line


def test_what_reads_a_missing_column_is_named() -> None:
    line = message(bars(700, "B").drop(columns="volume"), 303, features=None, window=20)
    assert "no column volume" in line
    assert line.endswith("or leave out what reads it: volume_trend_5_20")


def test_a_feature_that_is_empty_too_often_is_named() -> None:
    table = bars(400, "B")
    table.loc[::4, "volume"] = 0.0
    line = message(table, 323, features=["log_return_1", "log_volume_ratio_1"], window=20)
    assert "log_volume_ratio_1 is empty in" in line
    assert "never known for 20 rows in a row" in line


def test_a_long_warm_up_on_weekly_bars_is_named() -> None:
    table = bars(400, "W-FRI")
    line = message(table, 323, features=["log_return_1", "macd_hist_12_26_9"], window=20)
    assert "the train part has no window" in line
    assert "warm-up of macd_hist_12_26_9 275 rows + window 20" in line
    assert "features with a long warm-up" in line


def test_dates_that_leave_no_window_keep_their_message() -> None:
    split = DateSplit("2010-06-01", "2010-06-04")
    line = message(walk(200), 323, split=split, targets=[ForwardReturn(5)])
    assert line.endswith("move the dates of data.split, or shorten data.window or the horizon")


def test_a_symbol_without_a_window_in_a_part_says_where_its_windows_are() -> None:
    table = pd.concat([walk(400), walk(120, "GONE"), walk(120, "LATE", start="2011-02-01")], ignore_index=True)
    line = message(table, 306)
    assert "no window in the validation part — GONE: its windows end from 2010-01-" in line
