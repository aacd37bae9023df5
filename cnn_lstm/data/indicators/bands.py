"""Channels around the price: where the close lies (0 lower band, 1 upper band) and how wide they are."""

from __future__ import annotations

import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    HLC,
    FloatArray,
    ema_memory,
    from_talib,
    mean_of_last,
    rolling_mean,
    rolling_std,
    std_of_last,
    wilder_memory,
)


@feature(warmup=lambda period, width: period - 1, at_least=(2, 1))
def bollinger_b(bars: pd.DataFrame, period: int = 20, width: int = 2) -> FloatArray:
    """Bollinger's %b: place of the close between mean -/+ k deviations (Bollinger 1983)."""
    # not TA-Lib's: it subtracts squared means, which loses all digits where the price hardly moves
    close = bars["close"].to_numpy()
    middle, deviation = mean_of_last(close, period), std_of_last(close, period, ddof=0)
    place: FloatArray = (close - middle) / (2 * width * deviation) + 0.5
    return place


@feature(warmup=lambda period, width: period - 1, at_least=(2, 1))
def bollinger_width(bars: pd.DataFrame, period: int = 20, width: int = 2) -> pd.Series:
    """Distance between the Bollinger bands / their middle (Bollinger 1983)."""
    middle = rolling_mean(bars["close"], period)
    return 2 * width * rolling_std(bars["close"], period, ddof=0) / middle


@feature(
    inputs=HLC,
    warmup=lambda period, width: max(ema_memory(period, 1e-9), wilder_memory(period, 1e-9)),
    at_least=(2, 1),
    running=True,
)
def keltner_position(bars: pd.DataFrame, period: int = 20, width: int = 2) -> pd.Series:
    """Place of the close between exponential average -/+ k average true ranges (Keltner 1960, Raschke)."""
    middle = from_talib(talib.EMA, [bars["close"]], period)
    reach = from_talib(talib.ATR, [bars[name] for name in HLC], period)
    return (bars["close"] - middle) / (2 * width * reach) + 0.5


@feature(inputs=HLC, warmup=lambda period: period - 1)
def donchian_position(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Place of the close between the lowest low and the highest high of n bars, 0 to 1 (Donchian)."""
    low = bars["low"].rolling(period).min()
    return (bars["close"] - low) / (bars["high"].rolling(period).max() - low)


@feature(inputs=HLC, warmup=lambda period: period - 1)
def donchian_width(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """(Highest high - lowest low of n bars) / close (Donchian)."""
    return (bars["high"].rolling(period).max() - bars["low"].rolling(period).min()) / bars["close"]
