"""HAR against statsmodels on components computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.column_targets import RealizedMeasure
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from cnn_lstm.evaluation.baselines.har import LEAST_ROWS, fit_har, least_squares, one_bar_moves, realised
from tests.evaluation.baselines.inputs import inputs_of
from tests.markets import bars_of, days, market


def components_by_hand(data: BaselineInputs) -> np.ndarray:
    """Realised volatility of 1, 5, 22 bars by pandas, segment by segment."""
    assert data.prices is not None
    frame = pd.DataFrame({"segment": data.panel.segment, "log": np.log(data.prices["close"].to_numpy())})
    returns = frame.groupby("segment")["log"].diff()
    square = returns**2
    columns = [
        square.groupby(frame["segment"]).transform(lambda x, bars=bars: x.rolling(bars, min_periods=1).mean())
        for bars in (1, 5, 22)
    ]
    return np.asarray(np.sqrt(np.stack(columns, axis=1)))


def expected(data: BaselineInputs, rows: np.ndarray, test: np.ndarray, log: bool, unit_log: bool) -> np.ndarray:
    components = components_by_hand(data)
    labels = data.labels(rows, 0)
    volatility = np.exp(labels) if unit_log else labels
    moves = components[rows, 0]
    floor = np.quantile(moves[moves > 0], 0.01)
    if log:
        fit = sm.OLS(
            np.log(np.maximum(volatility, floor)), sm.add_constant(np.log(np.maximum(components[rows], floor)))
        )
        forecast = np.exp(fit.fit().predict(sm.add_constant(np.log(np.maximum(components[test], floor)))))
    else:
        fit = sm.OLS(volatility, sm.add_constant(components[rows]))
        forecast = np.maximum(fit.fit().predict(sm.add_constant(components[test])), volatility[volatility > 0].min())
    return np.asarray(np.log(forecast) if unit_log else forecast)


@pytest.mark.parametrize("unit_log", [False, True], ids=["volatility", "log volatility"])
@pytest.mark.parametrize("rows", [250, 600], ids=["pooled", "own equations"])
def test_har_is_ordinary_least_squares(rows: int, unit_log: bool) -> None:
    data = inputs_of(market(rows, seed=3), RealizedVolatility(horizon=5, log=unit_log))
    assert data.prices is not None
    fitted = fit_har(data, data.prices)
    test, train = data.parts.test, data.parts.train
    columns = fitted.forecast(test)[0]
    for code in range(3):
        alone = data.panel.symbol[test] == code
        group = train[data.panel.symbol[train] == code] if rows == 600 else train
        assert (len(group) >= LEAST_ROWS) or rows == 250
        for name, log in (("y_har", False), ("y_log_har", True)):
            want = expected(data, group, test[alone], log, unit_log)
            np.testing.assert_allclose(columns[name][alone], want, rtol=1e-6)


def test_components_do_not_bridge_segments() -> None:
    data = inputs_of(market(250, gaps=True), RealizedVolatility(), checks=None)
    assert data.prices is not None
    moves = one_bar_moves(data.prices, data.targets[0], data.panel)
    first = np.flatnonzero(np.diff(data.panel.segment, prepend=-1) != 0)
    assert len(first) > 3  # the second symbol has a hole of four weeks
    assert np.isnan(moves[first]).all()
    assert np.isnan(realised(moves, data.panel.segment)[first]).all()
    np.testing.assert_allclose(realised(moves, data.panel.segment), components_by_hand(data), atol=1e-12)


def test_calm_days_do_not_break_the_logarithms() -> None:
    random = np.random.default_rng(0)
    steps = random.normal(0, 0.01, 500) * (random.random(500) > 0.3)
    table = bars_of(100 * np.exp(np.cumsum(steps)), days(500))
    data = inputs_of(table, RealizedVolatility(horizon=1))
    assert data.prices is not None
    columns = fit_har(data, data.prices).forecast(data.parts.test)[0]
    assert all(np.isfinite(column).all() and (column > 0).all() for column in columns.values())


def test_clusters_of_volatility_are_found() -> None:
    random = np.random.default_rng(1)
    state = np.zeros(3000)
    for row in range(1, 3000):
        state[row] = 0.98 * state[row - 1] + random.normal(0, 0.2)
    table = bars_of(
        100 * np.exp(np.cumsum(0.01 * np.exp(state - state.mean()) * random.normal(size=3000))),
        days(3000, "1990-01-01"),
    )
    for column in ("open", "high", "low"):
        table[column] = table["close"]
    data = inputs_of(table, RealizedVolatility(log=True), ForwardReturn(), features=["log_return_1"])
    assert data.prices is not None
    columns, nothing = fit_har(data, data.prices).forecast(data.parts.test)
    truth = data.labels(data.parts.test, 0)
    last = data.present(data.parts.test, 0)
    assert nothing == {}
    assert np.mean((truth - columns["y_log_har"]) ** 2) < 0.95 * np.mean((truth - last) ** 2)
    assert np.mean((truth - columns["y_log_har"]) ** 2) < 0.6 * truth.var()


def test_a_linear_forecast_below_zero_is_the_least_training_volatility() -> None:
    components = np.array([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.3, 0.1, 0.1]])
    equation = least_squares(np.array([0.05, 0.25, 0.45]), components, log=False)
    forecast = equation.volatility(np.array([[0.001, 0.1, 0.1], [0.2, 0.1, 0.1]]))
    np.testing.assert_allclose(forecast, [0.05, 0.25])


@pytest.mark.parametrize("log", [False, True], ids=["volatility", "log volatility"])
def test_har_of_a_measure_is_fitted_on_the_measure_itself(log: bool) -> None:
    """Oracle: statsmodels on the root mean variances of 1, 5 and 22 rows of the column; the prices play no part."""
    table = market(700, symbols=("AAA",), gaps=False)
    random, level = np.random.default_rng(5), np.zeros(len(table))
    for row in range(1, len(table)):
        level[row] = 0.95 * level[row - 1] + random.normal(0, 0.3)
    table["rv"] = 1e-4 * np.exp(level)
    data = inputs_of(table, RealizedMeasure("rv", horizon=2, log=log))
    assert data.prices is not None
    train, test = data.parts.train, data.parts.test
    found = fit_har(data, data.prices).forecast(test)[0]
    variance = pd.Series(table["rv"].to_numpy())
    parts = np.column_stack([np.sqrt(variance.rolling(rows, min_periods=1).mean()) for rows in (1, 5, 22)])
    truth = np.sqrt((variance.shift(-1) + variance.shift(-2)) / 2).to_numpy()
    floor = np.quantile(parts[train, 0], 0.01)
    design = sm.add_constant(np.log(np.maximum(parts, floor)))
    fit = sm.OLS(np.log(np.maximum(truth[train], floor)), design[train]).fit()
    wanted = fit.predict(design[test])
    np.testing.assert_allclose(found["y_log_har"], wanted if log else np.exp(wanted), rtol=1e-5)
    plain = sm.OLS(truth[train], sm.add_constant(parts)[train]).fit().predict(sm.add_constant(parts)[test])
    wanted = np.maximum(plain, truth[train].min())
    np.testing.assert_allclose(found["y_har"], np.log(wanted) if log else wanted, rtol=1e-5)
    shuffled = table.assign(close=table["close"][::-1].to_numpy())
    other = inputs_of(shuffled, RealizedMeasure("rv", horizon=2, log=log), checks=Checks(allow_ohlc=True))
    assert other.prices is not None
    again = fit_har(other, other.prices).forecast(test)[0]
    np.testing.assert_array_equal(again["y_har"], found["y_har"])


def test_the_last_value_of_a_measure_is_the_measure() -> None:
    table = market(300, symbols=("AAA",), gaps=False)
    table["rv"] = np.log(table["high"] / table["low"]) ** 2
    data = inputs_of(table, RealizedMeasure("rv", log=False))
    rows = data.parts.test
    np.testing.assert_allclose(data.present(rows, 0), np.sqrt(table["rv"].to_numpy()[rows]), rtol=1e-6)
    np.testing.assert_allclose(data.labels(rows, 0), np.sqrt(table["rv"].to_numpy()[rows + 1]), rtol=1e-6)
