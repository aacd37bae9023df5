"""All baselines together: their columns, no look-ahead, factors, and bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.prices import Checks
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility, Target
from cnn_lstm.evaluation.baselines import fit
from cnn_lstm.evaluation.baselines.fit import fit_baselines
from cnn_lstm.evaluation.baselines.linear import ridge_baseline
from cnn_lstm.evaluation.baselines.trivial import naive_errors
from cnn_lstm.model.smearing import log_ratios, smearing
from tests.evaluation.baselines.inputs import FEATURES, inputs_of, with_other_future
from tests.markets import market, walk

CASES: dict[str, tuple[list[Target], list[str]]] = {
    "numbers": ([ForwardReturn(), RealizedVolatility(), RealizedVolatility(log=True)], []),
    "classes": ([Direction([-0.005, 0.005])], []),
    "anchored level": ([ForwardValue("close")], ["close"]),
}
MODELS = {"y_seasonal", "y_dlinear", "y_ridge"}
PROBABILITIES = {f"{name}_p{k}" for name in ("prior", "dlinear", "logistic") for k in range(3)}
NAIVE = {"naive_mae", "naive_mse"}
COLUMNS = {
    "return": MODELS | {"y_zero"},
    "volatility": MODELS | {"y_har", "y_log_har"},
    "log_volatility": MODELS | {"y_har", "y_log_har"},
    "class": PROBABILITIES | {"y_seasonal", "y_dlinear", "y_logistic"},
    "level": MODELS,
}


@pytest.fixture(autouse=True)
def without_boosting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional extra is tested by itself; here the columns must not depend on it."""
    if "boosted" not in request.fixturenames:
        monkeypatch.setattr(fit, "installed", lambda: False)


@pytest.fixture
def boosted() -> None:
    pytest.importorskip("lightgbm")


@pytest.mark.parametrize("name", CASES)
def test_columns_are_complete_and_finite(name: str) -> None:
    targets, anchor = CASES[name]
    data = inputs_of(market(300), *targets, features=[*FEATURES, "close"], anchor=anchor)
    result = fit_baselines(data).forecast(data.parts.test)
    assert list(result) == [target.name for target in targets]
    for target in targets:
        columns = result[target.name]
        assert set(columns) == COLUMNS[target.kind] | NAIVE
        for column in columns.values():
            assert column.shape == data.parts.test.shape
            assert column.dtype == np.float64
            assert np.isfinite(column).all()
        assert (result[target.name]["naive_mae"] > 0).all()
        assert len(np.unique(result[target.name]["naive_mse"])) == 3


@pytest.mark.parametrize("name", CASES)
def test_forecasts_know_nothing_of_the_test_part(name: str) -> None:
    targets, anchor = CASES[name]
    data = inputs_of(market(300), *targets, features=[*FEATURES, "close"], anchor=anchor)
    rows = np.concatenate([data.parts.train, data.parts.validation])
    before = fit_baselines(data)
    after = fit_baselines(with_other_future(data))
    known, changed = before.forecast(rows), after.forecast(rows)
    for target in targets:
        for column, values in known[target.name].items():
            np.testing.assert_array_equal(values, changed[target.name][column], err_msg=column)
        np.testing.assert_array_equal(known[target.name]["naive_mae"], changed[target.name]["naive_mae"])
    assert before.smearing == after.smearing


def test_boosting_knows_nothing_of_the_test_part(boosted: None) -> None:
    data = inputs_of(market(300), ForwardReturn())
    rows = data.parts.validation
    known, changed = (fit_baselines(each).forecast(rows)["return_1"] for each in (data, with_other_future(data)))
    np.testing.assert_array_equal(known["y_gbm"], changed["y_gbm"])


def test_coefficients_come_from_training_labels_alone() -> None:
    """Other validation labels may choose another penalty, not other coefficients of the same penalty."""
    data = inputs_of(market(300), RealizedVolatility())
    labels = data.panel.labels.clone()
    labels[data.parts.validation] *= 1.0001
    other = replace(data, panel=replace(data.panel, labels=labels))
    first, second = (fit_baselines(each).forecast(data.parts.test)["volatility_5"] for each in (data, other))
    for column in ("y_ridge", "y_har", "y_log_har", "y_seasonal"):
        np.testing.assert_array_equal(first[column], second[column])


@pytest.mark.parametrize("log", [False, True], ids=["volatility", "log volatility"])
def test_factors_follow_from_the_errors_on_training_and_validation_rows(log: bool) -> None:
    target = RealizedVolatility(log=log)
    data = inputs_of(market(400), target)
    fitted = fit_baselines(data)
    parts = []
    for rows in (data.parts.validation, data.parts.train):
        columns = {name: values for name, values in fitted.forecast(rows)[target.name].items() if name not in NAIVE}
        columns |= {"y_last": data.present(rows, 0), "y_mean": np.full(len(rows), float(data.statistics.y_mean[0]))}
        truth, date = torch.from_numpy(data.labels(rows, 0)), torch.from_numpy(data.panel.time[rows].astype(np.int64))
        parts.append({name: log_ratios(target.kind, truth, torch.from_numpy(v), date) for name, v in columns.items()})
    factors = fitted.smearing[target.name]
    assert set(factors) == set(parts[0])
    for name, factor in factors.items():
        assert factor == pytest.approx(smearing(parts[0][name], parts[1][name]), rel=1e-12), name
        alone = sorted(smearing(part[name]) for part in parts)
        assert alone[0] * 0.9 < factor < alone[1] * 1.1


def test_forecast_volatilities_are_positive() -> None:
    """A label that rises ever faster with a feature pulls a line below zero where the feature is low."""
    data = inputs_of(market(300), RealizedVolatility(horizon=1))
    feature = data.panel.values[:, :1]
    labels = torch.where(data.panel.labels.isnan(), torch.nan, (200 * feature).exp())
    convex = replace(data, panel=replace(data.panel, labels=labels))
    assert ridge_baseline(convex).forecast(data.parts.test)[0]["y_ridge"].min() < 0
    columns = fit_baselines(convex).forecast(data.parts.test)["volatility_1"]
    least = labels[data.parts.train].min().item()
    assert all(column.min() >= least for name, column in columns.items() if name not in NAIVE)


def test_naive_errors_are_those_of_each_rows_symbol_and_target() -> None:
    data = inputs_of(market(300), ForwardReturn(), RealizedVolatility())
    rows = data.parts.test[::7]
    result, naive, symbol = fit_baselines(data).forecast(rows), naive_errors(data), data.panel.symbol[rows]
    for k, target in enumerate(data.targets):
        np.testing.assert_array_equal(result[target.name]["naive_mae"], naive.mae[symbol, k])
        np.testing.assert_array_equal(result[target.name]["naive_mse"], naive.mse[symbol, k])


def test_a_symbol_without_training_rows_is_forecast_like_the_others() -> None:
    table = pd.concat([walk(400), walk(60, "LATE", start="2011-04-01")], ignore_index=True)
    data = inputs_of(table, RealizedVolatility(), checks=Checks(on_short="skip"))
    late = data.parts.test[data.panel.symbol[data.parts.test] == 1]
    assert len(late) > 10
    assert not (data.panel.symbol[data.parts.train] == 1).any()
    result = fit_baselines(data).forecast(late)
    assert all(np.isfinite(column).all() for column in result["volatility_5"].values())
    everyone = np.abs(data.labels(data.parts.train, 0) - data.present(data.parts.train, 0)).mean()
    np.testing.assert_allclose(result["volatility_5"]["naive_mae"], everyone)


def test_without_prices_there_is_no_har() -> None:
    data = replace(inputs_of(market(300), RealizedVolatility()), prices=None)
    assert not {"y_har", "y_log_har"} & set(fit_baselines(data).forecast(data.parts.test)["volatility_5"])


def test_no_row_gives_empty_columns() -> None:
    data = inputs_of(market(300), RealizedVolatility())
    columns = fit_baselines(data).forecast(data.parts.test[:0])["volatility_5"]
    assert set(columns) == COLUMNS["volatility"] | NAIVE
    assert all(column.shape == (0,) for column in columns.values())


def test_a_given_season_replaces_the_guessed_one() -> None:
    data = inputs_of(market(300), ForwardReturn())
    one, five = (fit_baselines(data, season).forecast(data.parts.test)["return_1"] for season in (1, 5))
    np.testing.assert_array_equal(one["y_seasonal"], data.present(data.parts.test, 0))
    assert (one["y_seasonal"] != five["y_seasonal"]).any()
