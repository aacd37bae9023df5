"""Higher moments of the log returns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    FloatArray,
    correlation,
    log_returns,
    over_windows,
    rolling_mean,
    standardised,
)


@feature(warmup=lambda period: period, at_least=3)
def skewness(bars: pd.DataFrame, period: int = 60) -> FloatArray:
    """Skewness of the last n log returns (third standardised moment)."""
    return over_windows(lambda windows: (standardised(windows) ** 3).mean(axis=1), period, log_returns(bars))


@feature(warmup=lambda period: period, at_least=4)
def kurtosis(bars: pd.DataFrame, period: int = 60) -> FloatArray:
    """Excess kurtosis of the last n log returns (fourth standardised moment - 3)."""
    return over_windows(lambda windows: (standardised(windows) ** 4).mean(axis=1) - 3, period, log_returns(bars))


@feature(warmup=lambda period, lag: period + lag, at_least=(3, 1))
def autocorrelation(bars: pd.DataFrame, period: int = 60, lag: int = 1) -> FloatArray:
    """Correlation of the last n log returns with those `lag` bars before."""
    returns = log_returns(bars)
    return over_windows(correlation, period, returns, returns.shift(lag))


@feature(warmup=lambda period: period)
def max_return(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Largest of the last n log returns (Bali, Cakici and Whitelaw 2011)."""
    return log_returns(bars).rolling(period).max()


@feature(warmup=lambda period: period)
def min_return(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Smallest of the last n log returns."""
    return log_returns(bars).rolling(period).min()


@feature(warmup=lambda period: period)
def up_share(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Share of rising bars among the last n, 0 to 1."""
    returns = log_returns(bars)
    return rolling_mean(pd.Series(np.where(returns.isna(), np.nan, returns > 0)), period)
