"""Rows before a listing, behind the last bar and without a label: refused by default, left out by a switch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.column_targets import LabelColumn, RealizedMeasure
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import check_prices
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.targets import Target
from cnn_lstm.errors import ConfigError, DataError, DefectsError
from tests.markets import TableSource, walk

BARS = ["open", "high", "low", "close", "volume"]
SKIP = Checks(on_unlisted="skip")


def listed_late(first: int = 5, last: int = 36, rows: int = 40) -> pd.DataFrame:
    """Two symbols; the second one has bars from one row to another only."""
    late = walk(rows, "BBB", seed=1)
    late.loc[(late.index < first) | (late.index > last), BARS] = np.nan
    return pd.concat([walk(rows), late], ignore_index=True)


def test_rows_before_a_listing_are_refused_by_default() -> None:
    with pytest.raises(DefectsError, match=r"E312.*close is missing — BBB @ 2010-01-04"):
        check_prices(listed_late(), Checks())


def test_rows_before_a_listing_and_behind_the_last_bar_are_left_out_with_a_warning() -> None:
    checked = check_prices(listed_late(), SKIP)
    whole = listed_late()
    pd.testing.assert_frame_equal(checked.table, whole.dropna().reset_index(drop=True), check_dtype=False)
    assert [(defect.what, defect.where) for defect in checked.warnings] == [
        ("no bar yet", "BBB @ 2010-01-04..2010-01-08, 5 rows"),
        ("no bar any more", "BBB @ 2010-02-24..2010-02-26, 3 rows"),
    ]


def test_a_hole_inside_is_refused_with_the_switch_too() -> None:
    table = listed_late()
    table.loc[60, "close"] = np.nan
    with pytest.raises(DefectsError, match=r"E312.*close is missing"):
        check_prices(table, SKIP)


def test_a_symbol_that_was_never_listed_is_left_out_and_a_table_of_such_is_refused() -> None:
    checked = check_prices(listed_late(first=40), SKIP)
    assert set(checked.table["symbol"]) == {"AAA"}
    assert [defect.what for defect in checked.warnings] == ["no bar at all"]
    with pytest.raises(DataError, match=r"E302.*no symbol has a bar"):
        check_prices(listed_late(first=40)[40:], SKIP)


def test_one_empty_price_is_enough_and_other_columns_do_not_count() -> None:
    table = walk(10).assign(spread=np.nan)
    table.loc[5:, "spread"] = 1.0
    table.loc[:1, "volume"] = np.nan
    assert len(check_prices(table, SKIP).table) == 8


def test_unsorted_rows_do_not_hide_a_listing() -> None:
    table = listed_late().sample(frac=1.0, random_state=0)
    assert len(check_prices(table, SKIP).table) == len(listed_late().dropna())


@pytest.mark.parametrize("name", ["on_unlisted", "on_unlabelled"])
def test_the_switches_have_two_positions(name: str) -> None:
    with pytest.raises(ConfigError, match=f"E206.*data.checks.{name} is 'drop'"):
        Checks(**{name: "drop"})  # type: ignore[arg-type]  # on purpose: not one of them


def test_checkpoints_of_the_time_before_the_switches_are_the_same_recipe() -> None:
    old = Checks().to_plain()
    assert not {"on_unlisted", "on_unlabelled"} & set(old)
    for checks in (Checks(), SKIP, Checks(on_unlabelled="skip")):
        assert Checks.from_plain(checks.to_plain()) == checks


# -- labels ------------------------------------------------------------------------------------------------------------


def labelled_table(rows: int = 120) -> pd.DataFrame:
    """Whether the close rose, with every third label empty, and those of the last four rows."""
    table = walk(rows)
    table["rose"] = (table["close"].diff() > 0).astype(float)
    table.loc[(table.index % 3 == 1) | (table.index >= rows - 4), "rose"] = np.nan
    return table


def module(table: pd.DataFrame, target: Target, **data: Any) -> MarketDataModule:
    values = {"features": ["log_return_1"], "window": 4, "checks": Checks(on_unlabelled="skip"), **data}
    return MarketDataModule(TableSource(table), targets=[target], **values)


def test_empty_labels_are_refused_by_default_but_for_the_last_rows() -> None:
    target = LabelColumn("rose", values=[0, 1])
    with pytest.raises(
        DefectsError, match=r"E312.*the label rose is missing — AAA @ 2010-01-05, 38 rows.*on_unlabelled"
    ):
        module(labelled_table(), target, checks=Checks()).setup()
    full = labelled_table()
    full["rose"] = (full["close"].diff() > 0).astype(float).where(full.index < 116)
    module(full, target, checks=Checks()).setup()


@pytest.mark.parametrize("fill", [0, 5])
def test_a_row_without_a_label_is_no_decision_and_stays_an_input(fill: int) -> None:
    data = module(labelled_table(), LabelColumn("rose"), checks=Checks(on_unlabelled="skip", fill_max_gap=fill))
    data.setup()
    decisions = np.sort(np.concatenate(list(data.parts.by_name.values())))
    ends = decisions + 1
    assert not (ends % 3 == 1).any(), "labels are never filled"
    assert set(np.diff(decisions)) >= {1, 2}
    assert len(data.windows) == 120 - 4, "windows go over rows without a label"
    assert any("the label rose is empty" in defect.what for defect in data.checked.warnings)


def test_the_purge_follows_the_declared_horizon() -> None:
    split = DateSplit("2010-03-22", "2010-05-03")
    for horizon, delay in ((1, 0), (3, 2)):
        data = module(labelled_table(), LabelColumn("rose", horizon, delay), split=split)
        data.setup()
        for part, stop in ((data.parts.train, "2010-03-22"), (data.parts.validation, "2010-05-03")):
            assert data.panel.time[part + horizon + delay].max() < np.datetime64(stop)


def test_a_label_that_is_not_a_class_is_refused() -> None:
    table = labelled_table()
    table.loc[8, "rose"] = 2.0
    with pytest.raises(DefectsError, match=r"E324.*2 is not a class of the labels — rose, AAA @ 2010-01-14, 1 row"):
        module(table, LabelColumn("rose", values=[0, 1])).setup()
    module(table, LabelColumn("rose")).setup()  # any number is a number


def test_a_measure_below_0_is_refused() -> None:
    table = walk(120).assign(rv=1.0)
    table.loc[[8, 9], "rv"] = -1.0
    with pytest.raises(DefectsError, match=r"E325.*rv < 0, as variance — AAA @ 2010-01-14, 2 rows"):
        module(table, RealizedMeasure("rv")).setup()


def test_a_column_of_labels_that_is_also_a_feature_is_a_column_like_any_other() -> None:
    with pytest.raises(DefectsError, match=r"E312.*rose is missing"):
        module(labelled_table(), LabelColumn("rose"), features=["log_return_1", "rose"]).setup()
