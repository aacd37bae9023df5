"""Volume next to its past, and price weighted by volume. A window without any volume has no value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    HLCV,
    FloatArray,
    correlation,
    from_talib,
    log_change,
    log_ratio,
    log_returns,
    mean_of_last,
    memory,
    over_windows,
    rolling_mean,
    rolling_std,
    rolling_sum,
    share_of_range,
    typical_price,
)


@feature(inputs=("volume",), warmup=lambda period: period - 1)
def volume_ratio(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Volume / its mean of n bars - 1."""
    return bars["volume"] / rolling_mean(bars["volume"], period) - 1


@feature(inputs=("volume",), warmup=lambda period: period - 1)
def log_volume_ratio(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Log(volume / its mean of n bars); no value on a bar without volume."""
    return log_change(bars["volume"], rolling_mean(bars["volume"], period))


@feature(inputs=("volume",), warmup=lambda period: period - 1, at_least=2)
def volume_zscore(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Volume minus its mean of n bars, in their deviations."""
    surplus = bars["volume"] - rolling_mean(bars["volume"], period)
    return surplus / rolling_std(bars["volume"], period)


@feature(inputs=("close", "volume"), warmup=lambda period: period)
def obv_change(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Change of the on-balance volume over n bars / volume of n bars, -1 to 1 (Granville 1963)."""
    signed = pd.Series(bars["volume"] * np.sign(bars["close"].diff()))
    return rolling_sum(signed, period) / rolling_sum(bars["volume"], period)


@feature(inputs=HLCV, warmup=lambda period: period - 1)
def chaikin_money_flow(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Volume weighted place of the close in the bar over n bars, -1 to 1 (Chaikin)."""
    place = 2 * share_of_range(bars["close"] - bars["low"], bars, neutral=0.5) - 1
    return rolling_sum(place * bars["volume"], period) / rolling_sum(bars["volume"], period)


@feature(
    inputs=HLCV,
    warmup=lambda fast, slow: max(fast, slow) + memory(2 / (max(fast, slow) + 1), 1e-12),
    at_least=2,
    running=True,
)
def ad_oscillator(bars: pd.DataFrame, fast: int = 3, slow: int = 10) -> pd.Series:
    """Chaikin's accumulation/distribution oscillator / mean volume of the slow span (Chaikin)."""
    oscillator = from_talib(talib.ADOSC, [bars[name] for name in HLCV], fast, slow)
    return pd.Series(oscillator / rolling_mean(bars["volume"], max(fast, slow)))


@feature(inputs=HLCV, warmup=lambda period: period)
def mfi(bars: pd.DataFrame, period: int = 14) -> pd.Series:
    """Money flow index: share of the money that came with a rising typical price, 0 to 100 (Quong 1989)."""
    # not TA-Lib's: it returns 0 where the flow is below 1.0 in the currency of the table
    price = typical_price(bars)
    change = price.diff()
    flow = price * bars["volume"]
    rising = rolling_sum(flow.where(change > 0, 0.0).where(change.notna()), period)
    moving = rolling_sum(flow.where(change != 0, 0.0).where(change.notna()), period)
    return 100 * rising / moving


@feature(inputs=HLCV, warmup=lambda period: period - 1)
def vwap_distance(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Close / volume weighted average price of n bars - 1."""
    money = rolling_sum(typical_price(bars) * bars["volume"], period)
    return bars["close"] * rolling_sum(bars["volume"], period) / money - 1


@feature(inputs=("close", "volume"), warmup=lambda short, long: max(short, long))
def amihud_ratio(bars: pd.DataFrame, short: int = 5, long: int = 60) -> pd.Series:
    """Log(short / long mean of |return| / traded money): is it dearer to trade than usual (Amihud 2002)."""
    impact = log_returns(bars).abs() / (bars["close"] * bars["volume"])
    return log_change(rolling_mean(impact, short), rolling_mean(impact, long))


@feature(inputs=("close", "volume"), warmup=lambda period: period - 1)
def dollar_volume_ratio(bars: pd.DataFrame, period: int = 60) -> pd.Series:
    """Close * volume / its mean of n bars - 1."""
    money = bars["close"] * bars["volume"]
    return money / rolling_mean(money, period) - 1


@feature(inputs=("close", "volume"), warmup=lambda period: period, at_least=3)
def price_volume_correlation(bars: pd.DataFrame, period: int = 20) -> FloatArray:
    """Correlation of log return and volume over n bars, -1 to 1."""
    return over_windows(correlation, period, log_returns(bars), bars["volume"])


@feature(inputs=("volume",), warmup=lambda short, long: max(short, long) - 1)
def volume_trend(bars: pd.DataFrame, short: int = 5, long: int = 20) -> FloatArray:
    """Log(short / long mean of volume)."""
    volume = bars["volume"].to_numpy()
    return log_ratio(mean_of_last(volume, short), mean_of_last(volume, long))
