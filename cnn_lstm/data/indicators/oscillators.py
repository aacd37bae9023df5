"""Bounded oscillators of the price, in their textbook units."""

from __future__ import annotations

import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    HLC,
    FloatArray,
    from_talib,
    rolling_mean,
    rolling_sum,
    share_of_range,
    true_range,
    typical_price,
    wilder_memory,
)


@feature(warmup=wilder_memory, at_least=2, running=True)
def rsi(bars: pd.DataFrame, period: int = 14) -> FloatArray:
    """Relative strength index, 0 to 100 (Wilder 1978)."""
    return from_talib(talib.RSI, [bars["close"]], period)


@feature(inputs=HLC, warmup=lambda fast, slow: fast + slow - 2, running=True)
def stoch_k(bars: pd.DataFrame, fast: int = 14, slow: int = 3) -> FloatArray:
    """Slow stochastic %K, 0 to 100: place of the close in the range of n bars, averaged (Lane 1984)."""
    return from_talib(talib.STOCH, [bars[name] for name in HLC], fast, slow, 0, 1, 0)


@feature(inputs=HLC, warmup=lambda fast, slow, signal: fast + slow + signal - 3, running=True)
def stoch_d(bars: pd.DataFrame, fast: int = 14, slow: int = 3, signal: int = 3) -> FloatArray:
    """Slow stochastic %D, 0 to 100: moving average of %K."""
    return from_talib(talib.STOCH, [bars[name] for name in HLC], fast, slow, 0, signal, 0, output=1)


@feature(warmup=lambda period, window: wilder_memory(period, 1e-13) + window, at_least=(2, 1), running=True)
def stoch_rsi(bars: pd.DataFrame, period: int = 14, window: int = 14) -> FloatArray:
    """Place of the RSI in its own range of n bars, 0 to 100 (Chande and Kroll 1994)."""
    return from_talib(talib.STOCHRSI, [bars["close"]], period, window, 1, 0)


@feature(inputs=HLC, warmup=lambda period: period - 1, at_least=2)
def williams_r(bars: pd.DataFrame, period: int = 14) -> FloatArray:
    """Williams %R, -100 at the low of n bars to 0 at their high."""
    return from_talib(talib.WILLR, [bars[name] for name in HLC], period)


@feature(inputs=HLC, warmup=lambda period: period - 1, at_least=2, running=True)
def cci(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Commodity channel index: typical price minus its mean, in 0.015 mean deviations (Lambert 1980)."""
    window = typical_price(bars).rolling(period)
    values = pd.Series(from_talib(talib.CCI, [bars[name] for name in HLC], period))
    # on flat prices TA-Lib divides rounding by rounding
    return values.mask(window.max() == window.min(), 0.0)


@feature(warmup=lambda period: period)
def cmo(bars: pd.DataFrame, period: int = 14) -> pd.Series:
    """Chande's momentum: (gains - losses) / (gains + losses) over n bars, -100 to 100 (Chande 1994).

    As published, with plain sums; TA-Lib's smooths as Wilder does and so is 2 RSI - 100.
    """
    change = bars["close"].diff()
    return 100 * rolling_sum(change, period) / rolling_sum(change.abs(), period)


@feature(inputs=HLC, warmup=lambda short, middle, long: max(short, middle, long))
def ultimate_oscillator(bars: pd.DataFrame, short: int = 7, middle: int = 14, long: int = 28) -> pd.Series:
    """Buying pressure / true range over three windows, weighted 4:2:1, 0 to 100 (Williams 1985)."""
    pressure = bars["close"] - bars["low"].clip(upper=bars["close"].shift(1))
    spread = true_range(bars)
    first, second, third = (
        rolling_sum(pressure, period) / rolling_sum(spread, period) for period in (short, middle, long)
    )
    return 100 * (4 * first + 2 * second + third) / 7


@feature(inputs=("high", "low"), warmup=lambda period: period, at_least=2)
def aroon_up(bars: pd.DataFrame, period: int = 25) -> FloatArray:
    """How recent the highest high of n bars is: 100 now, 0 n bars ago (Chande 1995)."""
    return from_talib(talib.AROON, [bars["high"], bars["low"]], period, output=1)


@feature(inputs=("high", "low"), warmup=lambda period: period, at_least=2)
def aroon_down(bars: pd.DataFrame, period: int = 25) -> FloatArray:
    """How recent the lowest low of n bars is: 100 now, 0 n bars ago (Chande 1995)."""
    return from_talib(talib.AROON, [bars["high"], bars["low"]], period)


@feature(inputs=("high", "low"), warmup=lambda period: period, at_least=2)
def aroon_oscillator(bars: pd.DataFrame, period: int = 25) -> FloatArray:
    """Aroon up - Aroon down, -100 to 100 (Chande 1995)."""
    return from_talib(talib.AROONOSC, [bars["high"], bars["low"]], period)


@feature(inputs=("open", "high", "low", "close"), warmup=lambda period: period - 1)
def balance_of_power(bars: pd.DataFrame, period: int = 14) -> pd.Series:
    """Mean of (close - open) / (high - low) over n bars, -1 to 1 (Livshin 2001)."""
    return rolling_mean(share_of_range(bars["close"] - bars["open"], bars, neutral=0.0), period)
