"""Targets that a column of the table gives: a realised measure, and labels that somebody else has made.

Shapes: n rows of one symbol's bars, ascending in time.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import at_row, count_rows
from cnn_lstm.data.targets import Floats, ForwardReturn, Target, ewma_volatility
from cnn_lstm.errors import Defect, require

Measure = Literal["variance", "volatility"]
Stands = Literal["end", "decision"]


class RealizedMeasure(Target):
    """Mean over the label interval of a realised measure that a column gives, as a volatility.

    The column has the realised variance or volatility of each single bar, for example the sum of squared five-minute
    returns of the day. The label is the root of the mean variance of its bars, so that its unit is that of
    `RealizedVolatility`; QLIKE judges it, and HAR is fitted on the measure itself. A bar whose measure is 0 has no
    logarithm, and a measure below 0 is refused by `fit`.

    Args:
        column: Column of the measure.
        horizon: Number of bars, at least 1.
        delay: Rows between the decision and the first bar; 0, since nothing has to be traded.
        log: Natural logarithm of the volatility.
        measure: Whether the column has variances or volatilities.

    Source:
        Andersen, Bollerslev, Diebold, Labys (2003), Modeling and Forecasting Realized Volatility.

    Example:
        >>> bars = pd.DataFrame({"rv": [0.04, 0.01, 0.07]})
        >>> RealizedMeasure("rv", horizon=2, log=False).future(bars).tolist()
        [0.2, nan, nan]
    """

    def __init__(
        self, column: str, horizon: int = 1, delay: int = 0, log: bool = True, measure: Measure = "variance"
    ) -> None:
        _check_span(horizon, delay)
        what, fix = f"measure={measure!r}", f"say what the column holds: {' or '.join(get_args(Measure))}"
        require(measure in get_args(Measure), what, "data.targets.RealizedMeasure", fix)
        self.column, self.horizon, self.delay, self.log, self.measure = column, horizon, delay, log, measure
        self.kind = "log_volatility" if log else "volatility"
        self.name = f"{column}_{horizon}"
        self.unit = "log volatility a bar" if log else "volatility a bar"

    @property
    def bounded(self) -> bool:
        """True: the column is a volatility already."""
        return True

    def bar_move(self, bars: pd.DataFrame) -> Floats:
        """Measured volatility of each single bar, shape (n,); NaN where it is unknown or below 0."""
        values = bars[self.column].to_numpy(dtype=np.float64, copy=True)
        values[values < 0] = np.nan
        return np.sqrt(values) if self.measure == "variance" else values

    def defects(self, prices: pd.DataFrame) -> list[Defect]:
        """A measure below 0, E325."""
        below = prices[self.column] < 0
        where = f"{at_row(prices, below.idxmax())}, {count_rows(below.sum())}"
        what = f"{self.column} < 0, as {self.measure}"
        return [Defect(325, what, where, "correct the rows")] if below.any() else []

    def volatility(self, bars: pd.DataFrame) -> Floats:
        """Exponentially weighted root mean square of the measured volatilities, shape (n,)."""
        return ewma_volatility(self.bar_move(bars))

    def present(self, bars: pd.DataFrame) -> Floats:
        """Root of the mean variance of the last `horizon` bars, shape (n,), or its logarithm; NaN for that of 0."""
        squares = pd.Series(self.bar_move(bars) ** 2)
        # summed lag by lag, as in `RealizedVolatility.present`
        mean = sum((squares.shift(k) for k in range(self.horizon)), start=squares * 0.0).to_numpy() / self.horizon
        if not self.log:
            return np.sqrt(mean)
        return 0.5 * np.log(np.where(mean > 0, mean, np.nan))


class LabelColumn(Target):
    """A label that a column gives: the class of a row, or a number.

    Its horizon is a promise of the user: a label is taken to be known `delay + horizon` rows after its decision and not
    before, and the purge between the parts follows from that. Nothing in the table can show that it holds.

    An empty cell is a row without a label: no decision is made there, and its features are still inputs of later
    windows. See `on_unlabelled` of `Checks`.

    Args:
        column: Column of the labels.
        horizon: Rows that the label spans, at least 1.
        delay: Rows between the decision and the start of the label.
        values: The classes: the values of the column, in the order of their numbers from 0 on. None for a number.
        stands: Row at which a label stands: `end`, where it becomes known, as a return stands at its last row; or
            `decision`, at the row that it is forecast from.
        price: Column of the price on which a position is taken; without it nothing is traded on the forecasts.

    Example:
        >>> bars = pd.DataFrame({"moved": [1, -1, np.nan, 1]})
        >>> LabelColumn("moved", values=[-1, 1]).future(bars).tolist()
        [0.0, nan, 1.0, nan]
        >>> LabelColumn("moved", values=[-1, 1], stands="decision").future(bars).tolist()
        [1.0, 0.0, nan, nan]
    """

    holds_labels = True

    def __init__(
        self,
        column: str,
        horizon: int = 1,
        delay: int = 0,
        values: list[float] | None = None,
        stands: Stands = "end",
        price: str | None = None,
    ) -> None:
        _check_span(horizon, delay)
        where = "data.targets.LabelColumn"
        require(stands in get_args(Stands), f"stands={stands!r}", where, f"use {' or '.join(get_args(Stands))}")
        sound = values is None or (len(values) >= 2 and len(set(values)) == len(values))
        require(sound, f"values={values}", where, "list at least two different values, or none for a number")
        self.column, self.horizon, self.delay, self.stands, self.price = column, horizon, delay, stands, price
        self.stands_at_decision = stands == "decision"
        self.values = None if values is None else [float(value) for value in values]
        self.classes = len(self.values or ())
        self.kind = self.unit = "class" if self.values else "value"
        self.name = f"{column}_{horizon}"
        self._return = None if price is None else ForwardReturn(horizon, delay, column=price)

    @property
    def columns(self) -> tuple[str, ...]:
        """The labels, and the price if there is one."""
        return (self.column,) if self.price is None else (self.column, self.price)

    @property
    def bounded(self) -> bool:
        """False: the latest label that is not empty may be any number of rows ago."""
        return False

    def volatility(self, bars: pd.DataFrame) -> Floats:
        """Volatility of the price, shape (n,); NaN without one."""
        if self._return is None:
            return np.full(len(bars), np.nan)
        return self._return.volatility(bars)

    def bar_return(self, bars: pd.DataFrame) -> Floats:
        """Simple return of the price over the first bar after the delay, shape (n,); NaN without one."""
        if self._return is None or not self.traded:
            return np.full(len(bars), np.nan)
        return self._return.bar_return(bars)

    def present(self, bars: pd.DataFrame) -> Floats:
        """Latest label that has ended at each row and is not empty, shape (n,)."""
        return self._ended(bars).ffill().to_numpy(dtype=np.float64)

    def future(self, bars: pd.DataFrame) -> Floats:
        """Label of each row, shape (n,); NaN where it is empty, not one of the values, or not known yet."""
        return self._ended(bars).shift(-self.reach).to_numpy(dtype=np.float64)

    def _ended(self, bars: pd.DataFrame) -> pd.Series:
        """The label that ends at each row."""
        given = pd.Series(bars[self.column].to_numpy(dtype=np.float64, copy=True))
        labels = given if self.values is None else given.map({value: k for k, value in enumerate(self.values)})
        return (labels if self.stands == "end" else labels.shift(self.reach)).astype("float64")

    def defects(self, prices: pd.DataFrame) -> list[Defect]:
        """A value that is not one of the classes, E324."""
        column = prices[self.column]
        odd = column.notna() & ~column.isin(self.values or column)
        if not odd.any():
            return []
        what = f"{column[odd].iloc[0]:g} is not a class of the labels"
        where = f"{self.column}, {at_row(prices, odd.idxmax())}, {count_rows(odd.sum())}"
        return [Defect(324, what, where, f"list it in `values` (now {self.values}), or leave the cells empty")]


def _check_span(horizon: int, delay: int) -> None:
    require(horizon >= 1, f"horizon={horizon}", "data.targets", "horizon counts rows: give at least 1")
    require(delay >= 0, f"delay={delay}", "data.targets", "a label cannot start before the decision")
