"""The smearing factor removes the bias of a variance forecast."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.evaluation.baselines.smearing import smearing, volatility_of


def test_factor_has_the_lowest_qlike() -> None:
    random = np.random.default_rng(0)
    forecast = np.exp(random.normal(-4, 0.5, 500))
    true = forecast * np.exp(random.normal(0, 0.4, 500))

    def qlike(log_factor: float) -> float:
        ratio = true**2 / (np.exp(log_factor) * forecast**2)
        return float(np.mean(ratio - np.log(ratio) - 1))

    best = minimize_scalar(qlike, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    assert smearing(true, forecast) == pytest.approx(np.exp(best), rel=1e-6)


def test_factor_of_a_log_normal_error() -> None:
    random = np.random.default_rng(1)
    true = np.exp(random.normal(-4, 0.3, 200_000))
    assert smearing(true, np.full(len(true), np.exp(-4.0))) == pytest.approx(np.exp(2 * 0.3**2), rel=0.01)


def test_rows_without_a_forecast_are_left_out() -> None:
    true, forecast = np.array([2.0, 5.0, 5.0, np.nan, 5.0]), np.array([1.0, 0.0, np.nan, 1.0, -1.0])
    assert smearing(true, forecast) == 4.0
    assert smearing(true[1:3], forecast[1:3]) == 1.0


@pytest.mark.parametrize("log", [False, True])
def test_volatility_of_both_units(log: bool) -> None:
    volatility = np.array([0.01, 0.02])
    values = np.log(volatility) if log else volatility
    np.testing.assert_allclose(volatility_of(RealizedVolatility(log=log), values), volatility)
