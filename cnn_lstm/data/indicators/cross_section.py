"""A symbol next to the other symbols of the table at the same timestamp; the functions take the whole table.

The metrics depend on which symbols are in the table: use the same universe for training and for forecasts.
"""

from __future__ import annotations

import pandas as pd

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import log_change


def _returns(table: pd.DataFrame, period: int) -> pd.Series:
    return log_change(table["close"], table.groupby("symbol", sort=False)["close"].shift(period))


def _mean_by_time(values: pd.Series, table: pd.DataFrame) -> pd.Series:
    return values.groupby(table["timestamp"], sort=False).transform("mean")


@feature(warmup=lambda period: period, cross_sectional=True)
def market_return(table: pd.DataFrame, period: int = 1) -> pd.Series:
    """Mean log return of n bars over all symbols with this timestamp."""
    return _mean_by_time(_returns(table, period), table)


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
