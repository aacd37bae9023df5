"""Variance forecasts next to volatility forecasts, in the predictions table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cnn_lstm.evaluation.baselines.fit import with_variances

KINDS = {"volatility_5": "volatility", "log_volatility_5": "log_volatility", "return_1": "return"}


def table() -> pd.DataFrame:
    given = pd.DataFrame(
        {"target": list(KINDS), "y_pred": [-0.5, np.log(0.5), 0.5], "y_har": [0.5, np.log(0.1), np.nan]}
    )
    given.attrs = {"targets": {name: {"kind": kind} for name, kind in KINDS.items()}}
    return given


def test_a_variance_is_the_factor_times_the_squared_volatility() -> None:
    factors = {"volatility_5": {"y_pred": 2.0, "y_har": 3.0}, "log_volatility_5": {"y_pred": 4.0, "y_har": 5.0}}
    variances = with_variances(table(), factors)
    np.testing.assert_allclose(variances["variance_pred"], [0.0, 1.0, np.nan])  # a volatility below zero is none
    np.testing.assert_allclose(variances["variance_har"], [0.75, 0.05, np.nan])
    assert variances.attrs == table().attrs
    pd.testing.assert_frame_equal(variances[["target", "y_pred", "y_har"]], table())


def test_factors_that_come_later_leave_the_others_as_they_are() -> None:
    variances = with_variances(table(), {"volatility_5": {"y_har": 3.0}})
    variances = with_variances(variances, {"log_volatility_5": {"y_har": 5.0}, "return_1": {"y_har": 7.0}})
    np.testing.assert_allclose(variances["variance_har"], [0.75, 0.05, np.nan])
    assert "variance_pred" not in variances


def test_returns_have_no_variance() -> None:
    assert list(with_variances(table(), {"return_1": {"y_pred": 1.0}})) == ["target", "y_pred", "y_har"]
