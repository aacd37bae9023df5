"""Returns, gaps and the shape of a bar.

A bar without a range is neutral: 0.5 for a location, 0 for a length.
"""

from __future__ import annotations

import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    OHLC,
    FloatArray,
    lagged,
    log_change,
    log_ratio,
    log_returns,
    ratio_to_range,
    share_of_range,
)


@feature(warmup=lambda period: period)
def log_return(bars: pd.DataFrame, period: int = 1) -> FloatArray:
    """Log return of the close over the last n bars."""
    close = bars["close"].to_numpy()
    return log_ratio(close, lagged(close, period))


@feature(warmup=lambda period: period)
def simple_return(bars: pd.DataFrame, period: int = 1) -> pd.Series:
    """Return of the close over the last n bars: close / close n bars ago - 1."""
    return bars["close"] / bars["close"].shift(period) - 1


@feature(warmup=lambda period: period)
def abs_return(bars: pd.DataFrame, period: int = 1) -> pd.Series:
    """Absolute log return of the close over the last n bars."""
    return log_returns(bars, period).abs()


@feature(inputs=("open", "close"), warmup=1)
def overnight_gap(bars: pd.DataFrame) -> FloatArray:
    """Log return from the previous close to this open."""
    return log_ratio(bars["open"].to_numpy(), lagged(bars["close"].to_numpy(), 1))


@feature(inputs=("open", "close"))
def intraday_return(bars: pd.DataFrame) -> pd.Series:
    """Log return from open to close."""
    return log_change(bars["close"], bars["open"])


@feature(inputs=("high", "low"))
def high_low_range(bars: pd.DataFrame) -> pd.Series:
    """Log(high / low), never negative."""
    return log_change(bars["high"], bars["low"])


@feature(inputs=("high", "low", "close"))
def close_location(bars: pd.DataFrame) -> FloatArray:
    """Where the bar closed in its range: 0 at the low, 1 at the high."""
    return ratio_to_range(bars["close"].to_numpy() - bars["low"].to_numpy(), bars, neutral=0.5)


@feature(inputs=OHLC)
def candle_body(bars: pd.DataFrame) -> pd.Series:
    """Share of the range between open and close, 0 to 1."""
    return share_of_range((bars["close"] - bars["open"]).abs(), bars, neutral=0.0)


@feature(inputs=OHLC)
def upper_shadow(bars: pd.DataFrame) -> pd.Series:
    """Share of the range above open and close, 0 to 1."""
    return share_of_range(bars["high"] - bars["open"].clip(lower=bars["close"]), bars, neutral=0.0)


@feature(inputs=OHLC)
def lower_shadow(bars: pd.DataFrame) -> pd.Series:
    """Share of the range below open and close, 0 to 1."""
    return share_of_range(bars["open"].clip(upper=bars["close"]) - bars["low"], bars, neutral=0.0)
