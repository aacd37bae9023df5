"""Means of values that are related: rows of one date, neighbours in time.

Shapes: n rows or dates in the order of time, k columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap
from numpy.typing import ArrayLike

from cnn_lstm.data.targets import Floats

# a series that varies less than this share of its size is constant but for rounding
ROUNDING = 1e-12


def clustered_by_date(values: ArrayLike, date: Any) -> Floats:
    """One value per date, whose mean is the mean over all rows.

    Forecasts of one date share its news, so 20 symbols are not 20 independent rows. The rows of a date are added up
    and divided by the mean number of rows per date; a test on the result is one clustered by date.

    Args:
        values: One value per row, (n,), or several, (n, k).
        date: Date of each row, (n,): anything that pandas can sort.

    Returns:
        In the order of the dates: (dates,) or (dates, k).

    Example:
        >>> clustered_by_date([1.0, 2.0, 6.0], ["monday", "monday", "tuesday"])
        array([2., 4.])
    """
    codes, dates = pd.factorize(pd.Index(date), sort=True)
    columns = np.asarray(values, dtype=np.float64)
    sums = pd.DataFrame(columns).groupby(codes).sum().to_numpy() * (len(dates) / len(columns))
    return sums if columns.ndim == 2 else sums[:, 0]


def newey_west_t(series: ArrayLike, lags: int) -> float:
    """T-statistic of a mean whose neighbours are related, with the variance of Newey and West (1987).

    Args:
        series: Values in the order of time, (n,).
        lags: Number of autocovariances in the variance; horizon - 1 for overlapping targets.

    Returns:
        The statistic; NaN where the series is constant or no longer than `lags` + 1.

    Example:
        >>> round(newey_west_t([1.0, 2.0, 3.0, 4.0], lags=0), 6)  # 2.5 / sqrt(1.25 / 4)
        4.472136
    """
    values = np.asarray(series, dtype=np.float64)
    if len(values) <= lags + 1 or is_constant(values):
        return float("nan")
    return float(values.mean() / np.sqrt(variance_of_mean(values, 1 - np.arange(lags + 1) / (lags + 1))))


def variance_of_mean(values: Floats, weights: Floats) -> float:
    """Variance of the mean of related neighbours, (n,): autocovariances from lag 0 on, times `weights`, (lags + 1,)."""
    rows, deviation = len(values), values - values.mean()
    covariance = np.array([deviation[lag:] @ deviation[: rows - lag] for lag in range(len(weights))]) / rows
    return float((weights[0] * covariance[0] + 2 * weights[1:] @ covariance[1:]) / rows)


def is_constant(values: Floats) -> bool:
    """Whether all values, (n,), are the same but for rounding.

    Example:
        >>> is_constant(np.array([0.3, 0.1 + 0.2])), is_constant(np.array([0.3, 0.31]))
        (True, False)
    """
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def bootstrap_means(columns: ArrayLike, horizon: int, resamples: int, seed: int) -> Floats:
    """Column means of resampled rows by the stationary bootstrap of Politis and Romano (1994).

    Blocks of neighbouring rows are drawn, of mean length max(2 horizon, n^(1/3)), so that the draws keep the
    dependence between neighbours. A draw takes the same rows of all columns.

    Args:
        columns: Values in the order of time, (n, k).
        horizon: Steps that a target spans, at least 1.
        resamples: Number of draws.
        seed: Makes the draws repeatable.

    Returns:
        Means, (resamples, k).
    """
    values = np.ascontiguousarray(np.asarray(columns, dtype=np.float64).T)
    count, rows = values.shape
    bootstrap = StationaryBootstrap(mean_block(rows, horizon), values[0], seed=seed)
    means = np.empty((resamples, count))
    for number in range(resamples):
        # counting how often a row is drawn is several times faster than gathering the rows
        times = np.bincount(bootstrap.update_indices(), minlength=rows).astype(np.float64)
        # not `@`: starting BLAS threads on every draw takes ten times as long
        means[number] = np.einsum("i,ji->j", times, values) / rows
    return means


def mean_block(rows: int, horizon: int) -> int:
    """Mean length of the blocks of a bootstrap, rows: max(2 horizon, n^(1/3))."""
    return int(max(2 * horizon, round(rows ** (1 / 3))))
