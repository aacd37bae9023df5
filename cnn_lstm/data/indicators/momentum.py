"""Momentum and mean reversion of the close."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    FloatArray,
    correlation,
    from_talib,
    log_change,
    log_returns,
    over_windows,
    rolling_mean,
    rolling_std,
    rolling_sum,
)


@feature(warmup=lambda period: period)
def roc(bars: pd.DataFrame, period: int = 10) -> FloatArray:
    """Rate of change: close / close n bars ago - 1."""
    return from_talib(talib.ROCP, [bars["close"]], period)


@feature(warmup=lambda period, skip: max(period, skip))
def momentum(bars: pd.DataFrame, period: int = 252, skip: int = 21) -> pd.Series:
    """Log return from n bars ago to `skip` bars ago (12-1 months; Jegadeesh and Titman 1993)."""
    return log_change(bars["close"].shift(skip), bars["close"].shift(period))


@feature(warmup=lambda period: period, at_least=2)
def risk_adjusted_momentum(bars: pd.DataFrame, period: int = 60) -> pd.Series:
    """Log return of n bars / (their deviation * root n)."""
    deviation = rolling_std(log_returns(bars), period) * math.sqrt(period)
    return log_returns(bars, period) / deviation


@feature(warmup=lambda period: period)
def efficiency_ratio(bars: pd.DataFrame, period: int = 10) -> pd.Series:
    """Net move / path length over n bars, 0 (noise) to 1 (straight line) (Kaufman 1995)."""
    close = bars["close"]
    return close.diff(period).abs() / rolling_sum(close.diff().abs(), period)


@feature(warmup=lambda period: period - 1, at_least=2)
def price_zscore(bars: pd.DataFrame, period: int = 60) -> pd.Series:
    """Log close minus its mean of n bars, in their deviations."""
    log_close = pd.Series(np.log(bars["close"]))
    return (log_close - rolling_mean(log_close, period)) / rolling_std(log_close, period)


@feature(warmup=lambda period: period - 1, at_least=3)
def trend_fit(bars: pd.DataFrame, period: int = 60) -> FloatArray:
    """Correlation of the last n log closes with time: 1 a straight rise, -1 a straight fall."""
    time = np.arange(period, dtype=np.float64)[None]
    log_close = pd.Series(np.log(bars["close"]))
    return over_windows(lambda windows: correlation(windows, time), period, log_close)
