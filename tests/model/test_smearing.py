"""The smearing factor removes the bias of a variance forecast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cnn_lstm.model.calibration import smearing


def factor(true: NDArray[np.float64], forecast: NDArray[np.float64], kind: str = "volatility") -> float:
    return smearing(kind, torch.from_numpy(true), torch.from_numpy(forecast))


def test_factor_has_the_lowest_qlike() -> None:
    random = np.random.default_rng(0)
    forecast = np.exp(random.normal(-4, 0.5, 500))
    true = forecast * np.exp(random.normal(0, 0.4, 500))

    def qlike(log_factor: float) -> float:
        ratio = true**2 / (np.exp(log_factor) * forecast**2)
        return float(np.mean(ratio - np.log(ratio) - 1))

    best = minimize_scalar(qlike, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    assert factor(true, forecast) == pytest.approx(np.exp(best), rel=1e-6)


def test_factor_of_a_log_normal_error() -> None:
    random = np.random.default_rng(1)
    true = np.exp(random.normal(-4, 0.3, 200_000))
    assert factor(true, np.full(len(true), np.exp(-4.0))) == pytest.approx(np.exp(2 * 0.3**2), rel=0.01)


def test_rows_without_a_forecast_are_left_out() -> None:
    true, forecast = np.array([2.0, 5.0, 5.0, np.nan, 5.0]), np.array([1.0, 0.0, np.nan, 1.0, -1.0])
    assert factor(true, forecast) == 4.0
    assert factor(true[1:3], forecast[1:3]) == 1.0


def test_logarithms_have_the_factor_of_their_volatilities() -> None:
    true, forecast = np.array([0.01, 0.04, np.nan]), np.array([0.02, 0.03, 0.02])
    assert factor(np.log(true), np.log(forecast), "log_volatility") == pytest.approx(factor(true, forecast))


def test_other_kinds_have_no_factor() -> None:
    assert factor(np.array([2.0]), np.array([1.0]), "return") == 1.0
