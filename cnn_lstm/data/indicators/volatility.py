"""Volatility per bar, as a share of price; nothing is annualised."""

from __future__ import annotations

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import (
    HLC,
    OHLC,
    FloatArray,
    from_talib,
    lagged,
    log_change,
    log_memory,
    log_ratio,
    log_returns,
    log_root_mean_square,
    mean_of_last,
    memory,
    rolling_mean,
    rolling_std,
    rolling_sum,
    std_of_last,
    true_range,
    wilder_memory,
)


def _root(variance: pd.Series) -> pd.Series:
    """Square root; a hair below zero is rounding."""
    return pd.Series(_root_of(variance.to_numpy()), index=variance.index, copy=False)


def _root_of(variance: FloatArray) -> FloatArray:
    """`_root` of an array, (n,)."""
    values: FloatArray = np.where(variance < 0.0, 0.0, variance) ** 0.5
    return values


@feature("true_range", inputs=HLC, warmup=1)
def true_range_share(bars: pd.DataFrame) -> pd.Series:
    """True range / previous close (Wilder 1978)."""
    return true_range(bars) / bars["close"].shift(1)


@feature(inputs=HLC, warmup=wilder_memory, at_least=2, running=True)
def atr(bars: pd.DataFrame, period: int = 14) -> FloatArray:
    """Average true range / close, Wilder's smoothing (Wilder 1978)."""
    return from_talib(talib.NATR, [bars[name] for name in HLC], period) / 100


@feature(warmup=lambda period: period, at_least=2, kind="volatility")
def realised_volatility(bars: pd.DataFrame, period: int = 20) -> FloatArray:
    """Standard deviation of the last n log returns."""
    close = bars["close"].to_numpy()
    return std_of_last(log_ratio(close, lagged(close, 1)), period)


@feature(warmup=lambda span: memory(2 / (span + 1)) + 1, at_least=2, kind="volatility", running=True)
def ewma_volatility(bars: pd.DataFrame, span: int = 33) -> pd.Series:
    """Root of the exponential average of squared log returns; span 33 is decay 0.94 (RiskMetrics 1996)."""
    return _root((log_returns(bars) ** 2).ewm(span=span, min_periods=span).mean())


@feature(warmup=log_memory, kind="log_volatility")
def log_realised_volatility(bars: pd.DataFrame, period: int = 5) -> pd.Series:
    """Log of the root mean square of the last n log returns, which is at least 0.1 of that of 63 (Corsi 2009).

    With n of 1, 5 and 22 these are the inputs of log-HAR; with n of its horizon it is what a `RealizedVolatility`
    target with `log: true` was last. A row without a move has no logarithm; the floor changes about one row in twelve
    where n is 1, and hardly any where n is 5.

    Source:
        Corsi (2009), A Simple Approximate Long-Memory Model of Realized Volatility.
    """
    return log_root_mean_square(log_returns(bars), period)


@feature(warmup=log_memory(22), kind="log_volatility")
def har_log_volatility(bars: pd.DataFrame) -> pd.Series:
    """Mean of `log_realised_volatility` of a day, a week and a month: log-HAR with equal weights (Corsi 2009).

    A value to anchor a volatility target on, which is less noisy than the last week's.
    """
    return sum((log_realised_volatility(bars, period) for period in (1, 5, 22)), start=pd.Series(0.0, bars.index)) / 3


@feature(inputs=("high", "low"), warmup=lambda period: period - 1, kind="volatility")
def parkinson_volatility(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Volatility from high and low over n bars (Parkinson 1980)."""
    squares = log_change(bars["high"], bars["low"]) ** 2
    return _root(rolling_mean(squares, period) / (4 * np.log(2)))


@feature(inputs=("high", "low"), warmup=lambda period: log_memory(period) - 1, kind="log_volatility")
def log_parkinson_volatility(bars: pd.DataFrame, period: int = 5) -> pd.Series:
    """Log of the Parkinson volatility of n bars, at least 0.1 of that of 63."""
    return log_root_mean_square(log_change(bars["high"], bars["low"]) / np.sqrt(4 * np.log(2)), period)


def _garman_klass(bars: pd.DataFrame) -> FloatArray:
    """Variance of each bar; a consistent bar has none below 0."""
    spread, body = (
        log_ratio(bars[later].to_numpy(), bars[earlier].to_numpy()) ** 2
        for later, earlier in (("high", "low"), ("close", "open"))
    )
    variance: FloatArray = spread / 2 - (2 * np.log(2) - 1) * body
    return variance


@feature(inputs=OHLC, warmup=lambda period: period - 1, kind="volatility")
def garman_klass_volatility(bars: pd.DataFrame, period: int = 20) -> FloatArray:
    """Volatility from open, high, low and close over n bars (Garman and Klass 1980)."""
    return _root_of(mean_of_last(_garman_klass(bars), period))


@feature(inputs=OHLC, warmup=lambda period: log_memory(period) - 1, kind="log_volatility")
def log_garman_klass_volatility(bars: pd.DataFrame, period: int = 5) -> pd.Series:
    """Log of the Garman-Klass volatility of n bars, at least 0.1 of that of 63."""
    return log_root_mean_square(pd.Series(_root_of(_garman_klass(bars)), index=bars.index), period)


def _rogers_satchell(bars: pd.DataFrame) -> pd.Series:
    up = log_change(bars["high"], bars["open"]) * log_change(bars["high"], bars["close"])
    return up + log_change(bars["low"], bars["open"]) * log_change(bars["low"], bars["close"])


@feature(inputs=OHLC, warmup=lambda period: period - 1, kind="volatility")
def rogers_satchell_volatility(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Volatility from open, high, low and close over n bars, free of drift (Rogers and Satchell 1991)."""
    return _root(rolling_mean(_rogers_satchell(bars), period))


@feature(inputs=OHLC, warmup=lambda period: period, at_least=2, kind="volatility")
def yang_zhang_volatility(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Volatility from gaps and ranges over n bars, free of drift (Yang and Zhang 2000)."""
    weight = 0.34 / (1.34 + (period + 1) / (period - 1))
    gap = rolling_std(log_change(bars["open"], bars["close"].shift(1)), period) ** 2
    body = rolling_std(log_change(bars["close"], bars["open"]), period) ** 2
    inside = rolling_mean(_rogers_satchell(bars), period)
    return _root(gap + weight * body + (1 - weight) * inside)


@feature(warmup=lambda short, long: max(short, long), at_least=2)
def volatility_ratio(bars: pd.DataFrame, short: int = 10, long: int = 60) -> FloatArray:
    """Short realised volatility / long one."""
    return realised_volatility(bars, short) / realised_volatility(bars, long)


@feature(warmup=lambda period, window: period + window - 1, at_least=2)
def volatility_of_volatility(bars: pd.DataFrame, period: int = 20, window: int = 60) -> FloatArray:
    """Deviation / mean of the realised volatility of n bars over a window."""
    realised = realised_volatility(bars, period)
    return std_of_last(realised, window) / mean_of_last(realised, window)


@feature(warmup=lambda period: period)
def downside_volatility(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """Root of the mean square of the negative log returns of n bars, gains counting as 0 (Sortino 1991)."""
    return _root(rolling_mean(log_returns(bars).clip(upper=0.0) ** 2, period))


@feature(warmup=lambda period: period, at_least=2)
def jump_share(bars: pd.DataFrame, period: int = 20) -> pd.Series:
    """1 - bipower variation / realised variance over n bars: share due to jumps (Barndorff-Nielsen 2004)."""
    size = log_returns(bars).abs()
    bipower = np.pi / 2 * rolling_sum(size * size.shift(1), period - 1) * period / (period - 1)
    return 1 - bipower / rolling_sum(size**2, period)
