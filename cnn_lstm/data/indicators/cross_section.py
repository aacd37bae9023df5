"""A symbol next to the other symbols of the table at the same timestamp; the functions take the whole table.

The metrics depend on which symbols are in the table: use the same universe for training and for forecasts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import log_change, log_memory, log_root_mean_square, root_mean_square


def _returns(table: pd.DataFrame, period: int) -> pd.Series:
    return log_change(table["close"], table.groupby("symbol", sort=False)["close"].shift(period))


def _of_returns(function: Callable[[pd.Series, int], pd.Series], table: pd.DataFrame, period: int) -> pd.Series:
    """A function of one symbol's one-bar log returns and n, symbol by symbol; empty where it is infinite."""
    returns, values = _returns(table, 1), pd.Series(np.nan, index=table.index)
    for rows in table.groupby("symbol", sort=False).indices.values():
        values.iloc[rows] = function(returns.iloc[rows], period)
    return values.where(np.isfinite(values))


def _log_volatility(table: pd.DataFrame, period: int) -> pd.Series:
    return _of_returns(log_root_mean_square, table, period)


def _mean_by_time(values: pd.Series, table: pd.DataFrame) -> pd.Series:
    return values.groupby(table["timestamp"], sort=False).transform("mean")


@feature(warmup=lambda period: period, cross_sectional=True)
def market_return(table: pd.DataFrame, period: int = 1) -> pd.Series:
    """Mean log return of n bars over all symbols with this timestamp."""
    return _mean_by_time(_returns(table, period), table)


@feature(warmup=lambda period: period, cross_sectional=True)
def market_abs_return(table: pd.DataFrame, period: int = 1) -> pd.Series:
    """Mean absolute log return of n bars over all symbols with this timestamp."""
    return _mean_by_time(_returns(table, period).abs(), table)


@feature(warmup=lambda period: period, cross_sectional=True, kind="volatility")
def market_volatility(table: pd.DataFrame, period: int = 20) -> pd.Series:
    """Mean over all symbols with this timestamp of the root mean square of their last n log returns."""
    return _mean_by_time(_of_returns(root_mean_square, table, period), table)


@feature(warmup=log_memory, cross_sectional=True, kind="log_volatility")
def market_log_volatility(table: pd.DataFrame, period: int = 5) -> pd.Series:
    """Mean over all symbols with this timestamp of their `log_realised_volatility` of n bars."""
    return _mean_by_time(_log_volatility(table, period), table)


@feature(warmup=log_memory, cross_sectional=True)
def excess_log_volatility(table: pd.DataFrame, period: int = 5) -> pd.Series:
    """`log_realised_volatility` of n bars minus its mean over all symbols with this timestamp."""
    own = _log_volatility(table, period)
    return own - _mean_by_time(own, table)


@feature(warmup=lambda period: period, cross_sectional=True)
def excess_return(table: pd.DataFrame, period: int = 1) -> pd.Series:
    """Log return of n bars minus its mean over all symbols with this timestamp."""
    returns = _returns(table, period)
    return returns - _mean_by_time(returns, table)


@feature(warmup=lambda period: period, cross_sectional=True)
def return_rank(table: pd.DataFrame, period: int = 20) -> pd.Series:
    """Rank of the return of n bars among the symbols with this timestamp, 0 worst to 1 best, 0.5 alone."""
    groups = _returns(table, period).groupby(table["timestamp"], sort=False)
    return (groups.rank() - 0.5) / groups.transform("count")


@feature(warmup=lambda period: period, cross_sectional=True)
def market_breadth(table: pd.DataFrame, period: int = 20) -> pd.Series:
    """Share of the symbols with this timestamp whose return of n bars is positive."""
    returns = _returns(table, period)
    return _mean_by_time((returns > 0).astype("float64").where(returns.notna()), table)


@feature(warmup=lambda period: period, cross_sectional=True)
def return_dispersion(table: pd.DataFrame, period: int = 1) -> pd.Series:
    """Deviation of the return of n bars over all symbols with this timestamp, 0 alone."""
    returns = _returns(table, period)
    return _mean_by_time((returns - _mean_by_time(returns, table)) ** 2, table) ** 0.5
