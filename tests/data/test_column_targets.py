"""Targets that a column gives: their numbers by hand, and what is known of them when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.column_targets import LabelColumn, RealizedMeasure
from cnn_lstm.data.feature_catalogue import resolve_features
from cnn_lstm.data.features import compute_features
from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.errors import ConfigError
from tests.markets import walk

SPANS = [(1, 0), (3, 0), (5, 2)]


def measured(rows: int = 60) -> pd.DataFrame:
    """A table whose measure is the squared return of each bar: then the target is realised volatility."""
    table = walk(rows)
    return table.assign(rv=np.log(table["close"]).diff() ** 2)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("horizon", "delay"), SPANS)
def test_of_squared_returns_the_measure_is_realised_volatility(horizon: int, delay: int, log: bool) -> None:
    bars = measured()
    ours, known = RealizedMeasure("rv", horizon, delay, log), RealizedVolatility(horizon, delay, log)
    np.testing.assert_allclose(ours.future(bars), known.future(bars), rtol=1e-9)
    np.testing.assert_allclose(ours.present(bars), known.present(bars), rtol=1e-9)
    np.testing.assert_allclose(ours.volatility(bars), known.volatility(bars), rtol=1e-9)
    np.testing.assert_allclose(ours.bar_move(bars), known.bar_move(bars), rtol=1e-9)
    assert (ours.kind, ours.unit) == (known.kind, known.unit)


def test_a_volatility_is_squared_before_it_is_averaged() -> None:
    bars = measured().assign(size=lambda table: np.sqrt(table["rv"]))
    one, other = RealizedMeasure("rv", 5), RealizedMeasure("size", 5, measure="volatility")
    np.testing.assert_allclose(one.future(bars), other.future(bars), rtol=1e-12)


def test_a_measure_of_0_has_no_logarithm_and_one_below_0_is_unknown() -> None:
    bars = pd.DataFrame({"rv": [1.0, 0.0, -1.0, 4.0]})
    assert np.array_equal(RealizedMeasure("rv").present(bars), [0.0, np.nan, np.nan, np.log(2)], equal_nan=True)
    plain = RealizedMeasure("rv", log=False)
    assert np.array_equal(plain.present(bars), [1.0, 0.0, np.nan, 2.0], equal_nan=True)


@pytest.mark.parametrize("value", ["std", ""])
def test_a_measure_says_what_it_is(value: str) -> None:
    with pytest.raises(ConfigError, match=r"E224.*variance or volatility"):
        RealizedMeasure("rv", measure=value)  # type: ignore[arg-type]  # on purpose: not one of them


@pytest.mark.parametrize(("horizon", "delay"), SPANS)
def test_a_label_at_its_decision_equals_the_same_label_at_its_end(horizon: int, delay: int) -> None:
    random = np.random.default_rng(0)
    label = pd.Series(random.integers(0, 3, 50).astype(float)).where(random.random(50) < 0.7)
    reach = horizon + delay
    early = LabelColumn("label", horizon, delay, values=[2, 0, 1], stands="decision")
    late = LabelColumn("label", horizon, delay, values=[2, 0, 1])
    at_decision, at_end = pd.DataFrame({"label": label}), pd.DataFrame({"label": label.shift(reach)})
    assert np.array_equal(early.future(at_decision), late.future(at_end), equal_nan=True)
    assert np.array_equal(early.present(at_decision), late.present(at_end), equal_nan=True)
    wanted = label[: 50 - reach].map({2: 0, 0: 1, 1: 2}).to_numpy()
    assert np.array_equal(early.future(at_decision)[: 50 - reach], wanted, equal_nan=True)


def test_the_latest_label_is_the_last_that_is_not_empty() -> None:
    bars = pd.DataFrame({"label": [np.nan, 1.0, np.nan, 0.0]})
    target = LabelColumn("label", values=[0, 1])
    assert np.array_equal(target.present(bars), [np.nan, 1, 1, 0], equal_nan=True)
    assert np.array_equal(target.future(bars), [1, np.nan, 0, np.nan], equal_nan=True)


def test_labels_know_nothing_of_later_rows() -> None:
    bars = pd.DataFrame({"label": np.arange(20.0)})
    for stands in ("end", "decision"):
        target = LabelColumn("label", 2, 1, stands=stands)
        changed = bars.assign(label=bars["label"].where(bars.index < 10, 99.0))
        known = 10 if stands == "end" else 13
        assert np.array_equal(target.present(bars)[:known], target.present(changed)[:known], equal_nan=True)


def test_a_position_is_taken_on_the_price_and_on_nothing_else() -> None:
    bars = walk(30).assign(label=1.0)
    assert np.isnan(LabelColumn("label", values=[0, 1]).bar_return(bars)).all()
    assert np.isnan(LabelColumn("label", price="close").bar_return(bars)).all(), "a number is not a position"
    found = LabelColumn("label", 1, 1, values=[0, 1], price="close").bar_return(bars)
    close = bars["close"].to_numpy()
    np.testing.assert_allclose(found[:-2], close[2:] / close[1:-1] - 1)
    assert LabelColumn("label", price="close").columns == ("label", "close")


@pytest.mark.parametrize("values", [[1], [1, 1], []])
def test_classes_are_at_least_two_different_values(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="E224"):
        LabelColumn("label", values=values)


# -- functions of any column -------------------------------------------------------------------------------------------


def test_functions_of_a_column_are_means_of_its_last_rows() -> None:
    table = walk(40).assign(rv=lambda one: np.log(one["high"] / one["low"]) ** 2)
    names = ["mean_5:rv", "log_mean_1:rv", "log_mean_22:rv"]
    features = resolve_features(names, table.columns)
    assert [(one.warmup, one.inputs, one.reads_all_rows) for one in features] == [
        (4, ("rv",), False),
        (0, ("rv",), False),
        (21, ("rv",), False),
    ]
    found = compute_features(table, features)
    np.testing.assert_allclose(found["mean_5:rv"], table["rv"].rolling(5).mean(), rtol=1e-9)
    np.testing.assert_allclose(found["log_mean_1:rv"], np.log(table["rv"]), rtol=1e-12)
    np.testing.assert_allclose(found["log_mean_22:rv"], np.log(table["rv"].rolling(22).mean()), rtol=1e-9)


@pytest.mark.parametrize("name", ["log_mean:rv", "log_mean_0:rv", "median_5:rv", "log_mean_x:rv", "5:rv", ":rv"])
def test_an_unknown_function_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"E225.*mean_ROWS:COLUMN"):
        resolve_features([name], ["rv"])


def test_a_function_of_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"E225.*needs the column 'rv'"):
        resolve_features(["mean_5:rv"], ["close"])
