"""Functions of any column of the table, by name: `log_mean_5:realised_variance`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd


def mean(values: pd.Series, rows: int) -> pd.Series:
    """Mean of the last n rows, (n,) -> (n,); empty where one of them is."""
    # summed lag by lag: a running sum would let rounding errors of far rows into a calm window
    total = values.copy()
    for lag in range(1, rows):
        total += values.shift(lag)
    return total / rows


def log_mean(values: pd.Series, rows: int) -> pd.Series:
    """Natural logarithm of the mean of the last n rows; empty where that is not above 0.

    Of a realised variance over 1, 5 and 22 rows these are the inputs of log-HAR.

    Example:
        >>> log_mean(pd.Series([1.0, np.e, 1.0]), 1).tolist()
        [0.0, 1.0, 0.0]
    """
    average = mean(values, rows)
    logs: pd.Series = np.log(average.where(average > 0))
    return logs


OF_ANY_COLUMN: dict[str, Callable[[pd.Series, int], pd.Series]] = {"mean": mean, "log_mean": log_mean}
