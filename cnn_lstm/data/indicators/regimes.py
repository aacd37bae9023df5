"""Where the market stands in comparison with its past."""

from __future__ import annotations

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.averages import sma_cross
from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import FloatArray, from_talib, max_of_last
from cnn_lstm.data.indicators.volatility import realised_volatility


@feature(warmup=lambda fast, slow: max(fast, slow) - 1)
def trend_regime(bars: pd.DataFrame, fast: int = 20, slow: int = 100) -> pd.Series:
    """Sign of fast - slow simple moving average: 1, 0 or -1."""
    return pd.Series(np.sign(sma_cross(bars, fast, slow)))


@feature(warmup=lambda period, window: period + window - 1, at_least=2)
def volatility_regime(bars: pd.DataFrame, period: int = 20, window: int = 252) -> pd.Series:
    """Percentile of the realised volatility of n bars among those of a window, 0 calm to 1 wild."""
    return pd.Series(realised_volatility(bars, period)).rolling(window).rank(pct=True)


@feature(warmup=lambda period: period - 1)
def drawdown(bars: pd.DataFrame, period: int = 252) -> FloatArray:
    """Close / highest close of n bars - 1, never positive."""
    close = bars["close"].to_numpy()
    fall: FloatArray = close / max_of_last(close, period) - 1
    return fall


@feature(warmup=lambda period: period, at_least=2)
def bars_since_high(bars: pd.DataFrame, period: int = 252) -> FloatArray:
    """Bars since the highest close of n bars / n: 0 now, 1 n bars ago."""
    return 1 - from_talib(talib.AROON, [bars["close"], bars["close"]], period, output=1) / 100


@feature(warmup=lambda period: period, at_least=2)
def bars_since_low(bars: pd.DataFrame, period: int = 252) -> FloatArray:
    """Bars since the lowest close of n bars / n: 0 now, 1 n bars ago."""
    return 1 - from_talib(talib.AROON, [bars["close"], bars["close"]], period) / 100
