"""Forecasts that need no model: zero, the same phase of the last season, class shares; and the naive errors.

Shapes: n rows, H targets, C classes, S symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Floats, Target
from cnn_lstm.data.windows import Panel
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns, class_columns

LEAST_ROWS = 20  # with fewer training rows the naive error of a symbol is noise: the pooled one is used
COMMON_WEEKDAY = 0.05  # a weekday with at least this share of the bars belongs to the trading week
# (least days between two bars, bars of a season)
SLOW_SEASONS = ((300.0, 1), (80.0, 4), (25.0, 12), (5.0, 52))


@dataclass(frozen=True)
class Trivial:
    """Zero for returns, the last season's value, and the training shares of classes.

    Attributes:
        inputs: What the baseline is fitted on.
        season: Rows of a season, m.
    """

    inputs: BaselineInputs
    season: int

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `y_seasonal`, and `y_zero` for returns or `prior_p0`.. for classes."""
        return [self._forecast(rows, k, target) for k, target in enumerate(self.inputs.targets)]

    def _forecast(self, rows: Rows, k: int, target: Target) -> Columns:
        columns = {"y_seasonal": seasonal(self.inputs.panel, rows, k, target.reach, self.season)}
        if target.quantity.is_return:
            columns["y_zero"] = np.zeros(len(rows))
        if target.classes:
            counts = self.inputs.statistics.class_counts[k].double().numpy()
            shares = np.tile(counts / counts.sum(), (len(rows), 1))
            columns |= class_columns("prior", shares, point=False)
        return columns


def fit_trivial(inputs: BaselineInputs, season: int | None = None) -> Trivial:
    """The trivial forecasts.

    Args:
        inputs: What to fit on.
        season: Rows of a season; guessed from the dates of the training rows by default.
    """
    train = inputs.parts.train
    return Trivial(inputs, season or season_of(inputs.panel.time[train], inputs.panel.symbol[train]))


def season_of(times: NDArray[np.datetime64], symbol: NDArray[np.int32]) -> int:
    """Rows of a season: a week of daily bars, a day of intraday bars, a year of weekly or slower ones.

    Args:
        times: Timestamps, (n,), ascending within a symbol.
        symbol: Symbol of each row, (n,).

    Example:
        >>> days = pd.bdate_range("2024-01-01", periods=30).to_numpy()
        >>> season_of(days, np.zeros(30, dtype=np.int32))
        5
    """
    steps = np.diff(times)[np.diff(symbol) == 0] / np.timedelta64(1, "D")
    if not len(steps):
        return 1
    step = float(np.median(steps))
    for days, rows in SLOW_SEASONS:
        if step >= days:
            return rows
    stamps = pd.DatetimeIndex(times)
    if step > 0.75:
        weekdays = np.bincount(stamps.day_of_week, minlength=7) / len(times)
        return max(1, int((weekdays >= COMMON_WEEKDAY).sum()))
    bars = pd.Series(1, index=stamps).groupby([symbol, stamps.normalize()]).size()
    return max(1, round(float(bars.median())))


def seasonal(panel: Panel, rows: Rows, target: int, reach: int, season: int) -> Floats:
    """Latest known value of the same phase as the label, (n,); the latest value where that lies outside the segment.

    The label ends at row + reach, so its phase was last known at row + reach - m ceil(reach / m).

    Args:
        panel: The panel.
        rows: Rows to forecast, (n,).
        target: Column of the target.
        reach: Rows from the decision to the end of the label.
        season: Rows of a season, m.

    Source:
        Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice, 5.2.
    """
    present = panel.present[:, target].numpy().astype(np.float64)
    source = rows + reach - season * -(-reach // season)
    inside = np.maximum(source, 0)
    same = (source >= 0) & (panel.segment[inside] == panel.segment[rows])
    value = np.where(same, present[inside], np.nan)
    return np.where(np.isnan(value), present[rows], value)


@dataclass(frozen=True)
class NaiveErrors:
    """Training errors of the last-value forecast: the denominators of MASE and RMSSE.

    Attributes:
        mae: Mean absolute error of each symbol and target, (S, H), in the target's unit.
        mse: Mean squared error, (S, H), in its square.

    Source:
        Hyndman, Koehler (2006), Another look at measures of forecast accuracy.
    """

    mae: Floats
    mse: Floats


def naive_errors(inputs: BaselineInputs) -> NaiveErrors:
    """Naive errors; those of all symbols together where a symbol has under 20 training rows or an error of 0."""
    panel, train = inputs.panel, inputs.parts.train
    shape = (len(panel.symbols), len(inputs.targets))
    mae, mse = np.full(shape, np.nan), np.full(shape, np.nan)
    for k in range(shape[1]):
        error = np.abs(inputs.labels(train, k) - inputs.present(train, k))
        for power, table in ((1, mae), (2, mse)):
            table[:, k] = _mean_by_symbol(error**power, panel.symbol[train], shape[0])
    return NaiveErrors(mae, mse)


def _mean_by_symbol(error: Floats, symbol: NDArray[np.int32], symbols: int) -> Floats:
    known = np.isfinite(error)
    error, symbol = error[known], symbol[known]
    if not len(error):
        return np.full(symbols, np.nan)
    count = np.bincount(symbol, minlength=symbols)
    mean = np.bincount(symbol, weights=error, minlength=symbols) / np.maximum(count, 1)
    return np.where((count < LEAST_ROWS) | (mean == 0), error.mean(), mean)
