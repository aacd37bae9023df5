"""Bars that no market makes are warned of by symbol and date, and bars of real markets are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.odd_bars import ODD_CHECKS
from cnn_lstm.data.prices import Checks, check_prices
from cnn_lstm.data.sources import SkfolioBars
from cnn_lstm.data.sources.sample import SampleBars
from cnn_lstm.errors import Defect

PRICES = ["open", "high", "low", "close"]
ROW = 3500  # GOOG @ 2005-07-25


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return check_prices(SampleBars().load(None, None, None), Checks()).table


def scaled(values: pd.Series[float], row: int, factor: float) -> pd.Series[float]:
    """The values, with one of them times a factor."""
    return values.where(values.index != row, values * factor)


def odd(table: pd.DataFrame) -> list[Defect]:
    checks = Checks(allow_ohlc=True, allow_jumps=True)
    return [one for one in check_prices(table, checks).warnings if one.code in (317, 347, 348)]


def at(table: pd.DataFrame, row: int = ROW) -> str:
    return f"{table['symbol'][row]} @ {table['timestamp'][row]:%Y-%m-%d}"


@pytest.mark.parametrize("factor", [1.6, 5.0, 50.0, 1e300])
@pytest.mark.parametrize("row", [0, ROW, -1])
def test_a_high_or_low_far_from_the_other_is_named(sample: pd.DataFrame, factor: float, row: int) -> None:
    row %= len(sample)
    for name, power in (("high", 1), ("low", -1)):
        table = sample.copy()
        table[name] = scaled(table[name], row, factor**power)
        (found,) = odd(table)
        assert (found.code, found.where, found.fatal) == (347, f"{at(table, row)}, 1 row", False)


def test_all_highs_of_a_symbol_at_once_are_named(sample: pd.DataFrame) -> None:
    for factor in (3, 100):
        table = sample.assign(high=sample["high"].where(sample["symbol"] != "IBM", sample["high"] * factor))
        (found,) = odd(table)
        assert found.where == "IBM @ 2000-03-01, 3,270 rows"
        assert "times the low" in found.what


@pytest.mark.parametrize("factor", [1e4, 1e9, 1e200])
def test_a_volume_far_above_those_around_it_is_named(sample: pd.DataFrame, factor: float) -> None:
    table = sample.copy()
    table["volume"] = scaled(table["volume"], ROW, factor)
    (found,) = odd(table)
    assert (found.code, found.where) == (348, f"{at(table)}, 1 row")
    table.loc[ROW, "volume"] = 1e308
    assert [one.code for one in odd(table)] == [348]


@pytest.mark.parametrize("factor", [37.0, 1 / 37, 1e6, 1e300, 1e-300])
def test_a_bar_of_another_scale_is_named(sample: pd.DataFrame, factor: float) -> None:
    table = sample.copy()
    table = table.assign(**{name: scaled(table[name], ROW, factor) for name in PRICES})
    (found,) = odd(table)
    assert (found.code, found.where) == (347, f"{at(table)}, 2 rows")


@pytest.mark.parametrize(("factor", "kind"), [(1.5, "3:2"), (1 / 1.5, "2:3")])
@pytest.mark.parametrize("columns", [PRICES, ["close"]])
def test_a_split_3_to_2_is_named_and_not_refused(
    sample: pd.DataFrame, factor: float, kind: str, columns: list[str]
) -> None:
    table = sample[["symbol", "timestamp", *columns]].copy()
    rows = [row for row in range(130, len(sample), 130) if table["symbol"][row - 1] == table["symbol"][row]]
    assert len(rows) > 70
    for row in rows:
        later = (table.index >= row) & (table["symbol"] == table["symbol"][row])
        table.loc[later, columns] /= factor
    found = odd(table)
    named = {one.where.split(",")[0] for one in found if f"split {kind}" in one.what}
    assert named <= {at(table, row) for row in rows}
    assert len(named) / len(rows) >= (0.95 if "open" in columns else 0.8)
    assert {one.code for one in found} == {317}


@pytest.mark.parametrize("row", [ROW, -1])
def test_a_move_by_a_third_with_a_wild_day_is_no_split(sample: pd.DataFrame, row: int) -> None:
    row %= len(sample)
    table = sample.copy()
    later = (table.index >= row) & (table["symbol"] == table["symbol"][row])
    table.loc[later, PRICES] /= table["open"][row] / table["close"][row - 1] * 1.5
    assert [one.code for one in odd(table)] == [317], "the open is at 3:2 to the bit"
    table.loc[row, "low"] = table["low"][row] * 0.8
    assert odd(table) == []


def test_bars_of_real_markets_are_not_odd(sample: pd.DataFrame) -> None:
    assert odd(sample) == []
    for name in ("sp500_index", "factors"):
        assert odd(SkfolioBars(name).load(None, None, None)) == []
    stocks = SkfolioBars().load(None, None, None)
    assert [one.where[:16] for one in odd(stocks)] == ["RRC @ 1990-04-10"], "its fall to a third is refused elsewhere"


def test_volumes_that_grow_or_are_wild_by_nature_are_not_odd(sample: pd.DataFrame) -> None:
    random = np.random.default_rng(0)
    growing = sample["volume"] * np.geomspace(1, 1e7, len(sample))
    wild = np.exp(random.normal(5, 3.0, len(sample)))
    stepped = sample["volume"].where(sample.index < ROW, sample["volume"] * 1e6)  # lots became shares
    for volume in (growing, pd.Series(wild), stepped):
        assert odd(sample.assign(volume=volume)) == []


@pytest.mark.parametrize("check", ODD_CHECKS)
@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_no_value_breaks_the_checks(check: Callable[..., object], value: float, sample: pd.DataFrame) -> None:
    table = sample[:50].copy()
    for columns in (PRICES, ["volume"], ["close"]):
        table.loc[10:20, columns] = value
        list(check(table, Checks()))  # type: ignore[call-overload]  # pandas' stubs
    list(check(table[["symbol", "timestamp"]], Checks()))  # type: ignore[call-overload]  # pandas' stubs
