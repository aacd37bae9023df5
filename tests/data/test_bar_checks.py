"""The short way of single bars lets nothing through that the checks of a table would refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data import checks
from cnn_lstm.data.checks import BAR_CHECKS, Checks
from cnn_lstm.data.prices import check_bars
from cnn_lstm.data.times import microseconds
from cnn_lstm.errors import DefectsError
from tests.markets import walk

COLUMNS = ["open", "high", "low", "close", "volume"]


def two_bars() -> tuple[pd.DataFrame, pd.DataFrame]:
    table = walk(2)
    return table.iloc[:1].reset_index(drop=True), table.iloc[1:].reset_index(drop=True)


def plainly_sound(bars: pd.DataFrame, latest: pd.DataFrame) -> bool:
    """Of bars of one symbol, and its last one if there is one."""
    columns = {name: bars[name].to_numpy() for name in COLUMNS}
    before = latest["close"].to_numpy() if len(latest) else np.array([np.nan])
    return checks.plainly_sound(columns, int(microseconds(bars["timestamp"])[0]), before)


def test_an_ordinary_bar_takes_the_short_way() -> None:
    latest, bars = two_bars()
    assert plainly_sound(bars, latest)
    assert plainly_sound(bars, latest.iloc[:0])
    pd.testing.assert_frame_equal(check_bars(bars, latest, Checks(), COLUMNS)[COLUMNS], bars[COLUMNS])


@pytest.mark.parametrize("factor", np.round(np.geomspace(0.009, 110, 80), 4).tolist())
def test_no_move_that_looks_like_a_split_takes_the_short_way(factor: float) -> None:
    latest, bars = two_bars()
    for columns in (COLUMNS[:4], ["open"], ["close"]):
        moved = bars.assign(**{name: bars[name] * factor for name in columns})
        joined = pd.concat([latest, moved], ignore_index=True)
        defects = [defect for check in BAR_CHECKS for defect in check(joined, Checks())]
        assert not (defects and plainly_sound(moved, latest))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 0.0])
def test_no_impossible_value_takes_the_short_way(name: str, value: float) -> None:
    latest, bars = two_bars()
    assert not plainly_sound(bars.assign(**{name: value}), latest)


@pytest.mark.parametrize("when", ["1899-12-31", "2999-01-01"])
def test_no_strange_date_takes_the_short_way(when: str) -> None:
    latest, bars = two_bars()
    strange = bars.assign(timestamp=pd.Timestamp(when, tz="UTC"))
    assert not plainly_sound(strange, latest)
    with pytest.raises(DefectsError, match=r"date in the future|date before 1900"):
        check_bars(strange, latest.iloc[:0], Checks(), COLUMNS)


def test_another_column_may_start_later_but_not_stop() -> None:
    latest, bars = two_bars()
    unknown = bars.assign(rate=np.nan)
    found = check_bars(unknown, latest.assign(rate=np.nan), Checks(), [*COLUMNS, "rate"])
    assert found["rate"].isna().all()
    with pytest.raises(DefectsError, match="rate is missing"):
        check_bars(unknown, latest.assign(rate=1.0), Checks(), [*COLUMNS, "rate"])
