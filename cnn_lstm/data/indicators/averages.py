"""The close next to its averages and extremes, as a share: 0.02 is 2 % above."""

from __future__ import annotations

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    FloatArray,
    ema_memory,
    from_talib,
    mean_of_last,
    over_windows,
    rolling_mean,
    rolling_sum,
)

# rows that Kaufman's average looks back, in periods
_KAMA_SPAN = 10


@feature(warmup=lambda period: period - 1)
def close_to_sma(bars: pd.DataFrame, period: int = 20) -> FloatArray:
    """Close / simple moving average - 1."""
    close = bars["close"].to_numpy()
    ratio: FloatArray = close / mean_of_last(close, period) - 1
    return ratio


@feature(warmup=lambda period: ema_memory(period, 1e-9), at_least=2, running=True)
def close_to_ema(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Close / exponential moving average - 1."""
    return bars["close"] / from_talib(talib.EMA, [bars["close"]], period) - 1


@feature(warmup=lambda period: period - 1, at_least=2, running=True)
def close_to_wma(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Close / linearly weighted moving average - 1."""
    return bars["close"] / from_talib(talib.WMA, [bars["close"]], period) - 1


@feature(warmup=lambda period: (_KAMA_SPAN + 1) * period - 1, at_least=2)
def close_to_kama(bars: pd.DataFrame, period: int = 10) -> pd.Series:
    """Close / Kaufman's adaptive average (2 and 30 bars) over the last 10 n rows - 1 (Kaufman 1995).

    The textbook recursion may remember thousands of rows in a market without direction; this one ends.
    """
    close = bars["close"]
    path = rolling_sum(close.diff().abs(), period)
    efficiency = (close.diff(period).abs() / path).mask(path == 0, 1.0).clip(upper=1.0)
    speed = (efficiency * (2 / 3 - 2 / 31) + 2 / 31) ** 2
    return close / over_windows(_weighted_by_speed, _KAMA_SPAN * period, close, speed) - 1


def _weighted_by_speed(close: FloatArray, speed: FloatArray) -> FloatArray:
    later = np.ones_like(speed)
    later[:, :-1] = np.cumprod(1 - speed[:, :0:-1], axis=1)[:, ::-1]
    weights = speed * later
    average: FloatArray = (weights * close).sum(axis=1) / weights.sum(axis=1)
    return average


@feature(warmup=lambda fast, slow: max(fast, slow) - 1)
def sma_cross(bars: pd.DataFrame, fast: int = 10, slow: int = 50) -> pd.Series:
    """Fast simple moving average / slow one - 1."""
    return rolling_mean(bars["close"], fast) / rolling_mean(bars["close"], slow) - 1


@feature(warmup=lambda period: period - 1, at_least=2, running=True)
def trend_slope(bars: pd.DataFrame, period: int = 20) -> FloatArray:
    """Slope of the straight line through the last n log closes, in log return per bar."""
    log_close = pd.Series(np.log(bars["close"]))
    return from_talib(talib.LINEARREG_SLOPE, [log_close], period)


@feature(inputs=("high", "close"), warmup=lambda period: period - 1)
def close_to_max(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Close / highest high of the last n bars - 1, never positive."""
    return bars["close"] / bars["high"].rolling(period).max() - 1


@feature(inputs=("low", "close"), warmup=lambda period: period - 1)
def close_to_min(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Close / lowest low of the last n bars - 1, never negative."""
    return bars["close"] / bars["low"].rolling(period).min() - 1
