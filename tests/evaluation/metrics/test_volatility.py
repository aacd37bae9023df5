"""Figures of volatility, by their formulas and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics

from cnn_lstm.evaluation.metrics.errors import qlike, volatility_metrics


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = int(random.integers(3, 200))
    true = 0.2 * np.exp(random.normal(0, 0.6, rows))
    return true, true**0.7 * 0.2**0.3 * np.exp(random.normal(0, 0.3, rows))


def test_metrics_are_those_of_scikit_learn() -> None:
    for seed in range(200):
        true, forecast = draw(seed)
        variance = 1.2 * forecast**2
        expected = {
            # half the gamma deviance is QLIKE
            "qlike": metrics.mean_gamma_deviance(true**2, variance) / 2,
            "r2_log": metrics.r2_score(np.log(true), np.log(forecast)),
            "mae": metrics.mean_absolute_error(true, forecast),
            "rmse": metrics.root_mean_squared_error(true, forecast),
        }
        assert volatility_metrics(true, forecast, variance) == pytest.approx(expected, rel=1e-6)


def test_losses_are_those_of_the_formula() -> None:
    true, forecast = draw(0)
    ratio = (true / forecast) ** 2
    np.testing.assert_allclose(qlike(true**2, forecast**2), ratio - np.log(ratio) - 1, rtol=1e-6)


def test_qlike_is_least_at_the_mean_variance_and_asks_more_for_too_little() -> None:
    variance = draw(1)[0] ** 2
    best = minimize_scalar(lambda forecast: qlike(variance, np.full_like(variance, forecast)).mean(), bounds=(1e-3, 1))
    assert best.x == pytest.approx(variance.mean(), rel=1e-3)
    assert qlike([1.0], [0.5])[0] > qlike([1.0], [2.0])[0]
    assert qlike([1.0], [1.0])[0] == 0


def test_a_unit_changes_nothing() -> None:
    true, forecast = draw(2)
    np.testing.assert_allclose(qlike(1e4 * true, 1e4 * forecast), qlike(true, forecast), rtol=1e-9)


@pytest.mark.parametrize("forecast", [0.0, -1.0, 1e-300, 3.9e-6])
def test_a_variance_forecast_of_nothing_costs_as_much_as_a_ten_thousandth(forecast: float) -> None:
    assert qlike([0.04], [forecast])[0] == pytest.approx(1e4 - np.log(1e4) - 1)
    assert qlike([0.04], [5e-6])[0] < qlike([0.04], [4e-6])[0]


def test_a_volatility_forecast_of_nothing_counts_as_a_hundredth() -> None:
    values = volatility_metrics([0.1, 0.4], [-0.1, 0.4], [0.01, 0.16])
    assert values["r2_log"] == pytest.approx(metrics.r2_score(np.log([0.1, 0.4]), np.log([0.001, 0.4])))
    assert values["mae"] == pytest.approx(0.1)


def test_r2_of_a_constant_truth_is_unknown() -> None:
    assert np.isnan(volatility_metrics([0.2, 0.2], [0.1, 0.3], [0.01, 0.09])["r2_log"])
    assert np.isnan(volatility_metrics([0.2], [0.1], [0.01])["r2_log"])
