"""MACD and the strength of a trend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    HLC,
    FloatArray,
    ema_memory,
    from_talib,
    rolling_sum,
    true_range,
    wilder_memory,
)


def _macd_memory(fast: int, slow: int, signal: int) -> int:
    return ema_memory(max(fast, slow, signal)) + min(max(fast, slow), signal)


def _macd(bars: pd.DataFrame, fast: int, slow: int, signal: int, output: int) -> FloatArray:
    lines = from_talib(talib.MACD, [bars["close"]], fast, slow, signal, output=output)
    share: FloatArray = lines / bars["close"].to_numpy(dtype=np.float64)
    return share


@feature(warmup=lambda fast, slow: _macd_memory(fast, slow, 1), at_least=2, running=True)
def macd(bars: pd.DataFrame, fast: int = 12, slow: int = 26) -> FloatArray:
    """(Fast - slow exponential average) / close (Appel 1979)."""
    return _macd(bars, fast, slow, 1, output=0)


@feature(warmup=_macd_memory, at_least=2, running=True)
def macd_signal(bars: pd.DataFrame, fast: int = 12, slow: int = 26, signal: int = 9) -> FloatArray:
    """Exponential average of the MACD / close (Appel 1979)."""
    return _macd(bars, fast, slow, signal, output=1)


@feature(warmup=_macd_memory, at_least=2, running=True)
def macd_hist(bars: pd.DataFrame, fast: int = 12, slow: int = 26, signal: int = 9) -> FloatArray:
    """(MACD - its signal line) / close (Appel 1979)."""
    return _macd(bars, fast, slow, signal, output=2)


@feature(inputs=HLC, warmup=lambda period: wilder_memory(period, stages=2), at_least=2, running=True)
def adx(bars: pd.DataFrame, period: int = 14) -> FloatArray:
    """Average directional index: strength of a trend either way, 0 to 100 (Wilder 1978)."""
    return from_talib(talib.ADX, [bars[name] for name in HLC], period)


@feature(inputs=HLC, warmup=wilder_memory, at_least=2, running=True)
def plus_di(bars: pd.DataFrame, period: int = 14) -> FloatArray:
    """Upward directional indicator, 0 to 100 (Wilder 1978)."""
    return from_talib(talib.PLUS_DI, [bars[name] for name in HLC], period)


@feature(inputs=HLC, warmup=wilder_memory, at_least=2, running=True)
def minus_di(bars: pd.DataFrame, period: int = 14) -> FloatArray:
    """Downward directional indicator, 0 to 100 (Wilder 1978)."""
    return from_talib(talib.MINUS_DI, [bars[name] for name in HLC], period)


@feature(warmup=lambda period: ema_memory(period, stages=3), at_least=2, running=True)
def trix(bars: pd.DataFrame, period: int = 15) -> FloatArray:
    """One-bar return of the triple exponential average (Hutson 1983)."""
    return from_talib(talib.TRIX, [bars["close"]], period) / 100


@feature(inputs=HLC, warmup=lambda period: period)
def vortex(bars: pd.DataFrame, period: int = 14) -> pd.Series:
    """(Upward - downward vortex movement) / true range over n bars (Botes and Siepman 2010)."""
    up = (bars["high"] - bars["low"].shift(1)).abs()
    down = (bars["low"] - bars["high"].shift(1)).abs()
    return rolling_sum(up - down, period) / rolling_sum(true_range(bars), period)


@feature(inputs=HLC, warmup=lambda period: period, at_least=2)
def choppiness(bars: pd.DataFrame, period: int = 14) -> pd.Series:
    """Choppiness index: 0 a straight line, 100 no progress at all over n bars (Dreiss 1993)."""
    spread = bars["high"].rolling(period).max() - bars["low"].rolling(period).min()
    path = rolling_sum(true_range(bars), period)
    return pd.Series(100 * np.log(path / spread) / np.log(period))
