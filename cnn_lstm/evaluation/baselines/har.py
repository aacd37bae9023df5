"""The heterogeneous autoregression of volatility, on realised volatilities of 1, 5 and 22 bars.

Shapes: n rows, N panel rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.symbol_rows import positions_by_code
from cnn_lstm.data.targets import Floats, Target
from cnn_lstm.data.windows import Panel
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns

BARS = (1, 5, 22)
LEAST_ROWS = 250  # a symbol with fewer training rows takes the coefficients of all symbols together
FLOOR_QUANTILE = 0.01


@dataclass(frozen=True)
class Equation:
    """An ordinary least squares fit of volatility, or of its logarithm, on the three components.

    Attributes:
        coefficients: Intercept and one number per component, (4,).
        floor: Least component in the logarithmic equation.
        least: Least forecast: a linear equation may go below zero.
        log: Whether volatilities enter as logarithms.
    """

    coefficients: Floats
    floor: float
    least: float
    log: bool

    def volatility(self, components: Floats) -> Floats:
        """Forecast volatility, (n,), of components, (n, 3)."""
        forecast = _design(components, self.floor, self.log) @ self.coefficients
        return np.exp(forecast) if self.log else np.maximum(forecast, self.least)


@dataclass(frozen=True)
class Har:
    """HAR and log-HAR of the volatility targets.

    Attributes:
        inputs: What the baseline is fitted on.
        components: For each volatility target the realised volatilities, (N, 3), by its number.
        equations: Equation of each (target, symbol, logarithmic); symbol -1 is that of all symbols together.
    """

    inputs: BaselineInputs
    components: dict[int, Floats]
    equations: dict[tuple[int, int, bool], Equation]

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each volatility target `y_har` and `y_log_har`, each (n,), in the target's unit; no column for others."""
        return [self._forecast(rows, k) for k in range(len(self.inputs.targets))]

    def _forecast(self, rows: Rows, k: int) -> Columns:
        quantity = self.inputs.targets[k].quantity
        if not quantity.is_volatility:
            return {}
        equations = {"y_har": False, "y_log_har": True}
        return {name: quantity.of_volatility(self._volatility(rows, k, log)) for name, log in equations.items()}

    def _volatility(self, rows: Rows, k: int, log: bool) -> Floats:
        components = self.components[k][rows]
        symbol = self.inputs.panel.symbol[rows]
        forecast = np.empty(len(rows))
        for code, rows_of_symbol in positions_by_code(symbol).items():
            equation = self.equations.get((k, code, log), self.equations[k, -1, log])
            forecast[rows_of_symbol] = equation.volatility(components[rows_of_symbol])
        return forecast


def fit_har(inputs: BaselineInputs, prices: pd.DataFrame) -> Har:
    """Fits HAR and log-HAR: ordinary least squares on the training rows, per symbol from 250 of them on.

    The components are root mean squares of the last 1, 5 and 22 one-bar moves, or of as many as the gap-free
    stretch has: of log returns, or of the measured volatilities where a column gives the measure. A row without any
    takes the training mean. In logarithms components and labels below the 1 % quantile of the positive one-bar moves
    are raised to it.

    Args:
        inputs: What to fit on.
        prices: Checked price table, aligned with the panel's rows.

    Source:
        Corsi (2009), A Simple Approximate Long-Memory Model of Realized Volatility.
    """
    targets = {k: target for k, target in enumerate(inputs.targets) if target.quantity.is_volatility}
    components = {}
    for k, target in targets.items():
        values = realised(one_bar_moves(prices, target, inputs.panel), inputs.panel.segment)
        mean = np.nanmean(values[inputs.parts.train], axis=0)
        components[k] = np.where(np.isnan(values), mean, values)
    train, symbol = inputs.parts.train, inputs.panel.symbol[inputs.parts.train]
    of_symbol = positions_by_code(symbol)
    groups = {-1: train} | {code: train[own] for code, own in of_symbol.items() if len(own) >= LEAST_ROWS}
    equations = {}
    for k, target in targets.items():
        for code, rows in groups.items():
            volatility = target.quantity.volatility(inputs.labels(rows, k))
            for log in (False, True):
                equations[k, code, log] = least_squares(volatility, components[k][rows], log)
    return Har(inputs, components, equations)


def one_bar_moves(prices: pd.DataFrame, target: Target, panel: Panel) -> Floats:
    """`Target.bar_move` of each row, (N,), computed within each gap-free stretch: no return bridges a gap."""
    moves = np.full(len(panel), np.nan)
    starts = np.flatnonzero(np.diff(panel.segment)) + 1
    for first, stop in zip([0, *starts], [*starts, len(panel)], strict=True):
        moves[first:stop] = target.bar_move(prices.iloc[first:stop])
    return moves


def realised(moves: Floats, segment: NDArray[np.int32]) -> Floats:
    """Root mean square of the last 1, 5 and 22 moves, (N, 3); of those that the gap-free stretch has.

    Example:
        >>> realised(np.array([np.nan, 3.0, 4.0, np.nan, 2.0]), np.array([1, 1, 1, 2, 2])).round(2)[:, 1].tolist()
        [nan, 3.0, 3.54, nan, 2.0]
    """
    known = np.isfinite(moves)
    squares = np.where(known, moves, 0.0) ** 2
    total, count = np.zeros(len(moves)), np.zeros(len(moves))
    columns = []
    # summed lag by lag: a running sum would carry rounding errors of far rows into a calm stretch
    for lag in range(BARS[-1]):
        kept = max(0, len(moves) - lag)
        same = segment[lag:] == segment[:kept]
        total[lag:] += np.where(same, squares[:kept], 0.0)
        count[lag:] += same & known[:kept]
        if lag + 1 in BARS:
            mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
            columns.append(np.sqrt(mean))
    return np.stack(columns, axis=1)


def least_squares(volatility: Floats, components: Floats, log: bool) -> Equation:
    """Fits one equation.

    Args:
        volatility: Labels as volatilities, (n,).
        components: Realised volatilities of 1, 5 and 22 bars, (n, 3).
        log: Whether volatilities enter as logarithms.
    """
    moves = components[components[:, 0] > 0, 0]
    floor = float(np.quantile(moves, FLOOR_QUANTILE)) if len(moves) else 1e-12
    positive = volatility[volatility > 0]
    least = float(positive.min()) if len(positive) else floor
    truth = np.log(np.maximum(volatility, floor)) if log else volatility
    coefficients, *_ = np.linalg.lstsq(_design(components, floor, log), truth, rcond=None)
    return Equation(coefficients.astype(np.float64), floor, least, log)


def _design(components: Floats, floor: float, log: bool) -> Floats:
    inputs = np.log(np.maximum(components, floor)) if log else components
    return np.column_stack([np.ones(len(inputs)), inputs])
