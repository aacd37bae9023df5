"""What is forecast: values known only after decision time t + delay + horizon.

A decision at row t uses rows <= t. With an execution delay d the trade is done at the close of row t + d, and the
label interval is (t + d, t + d + horizon], counted in rows of the symbol. `future` gives the label, `present` the
same quantity over the latest interval that has ended at t: the forecast "nothing changes".

Shapes: n rows of one symbol's bars, ascending in time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import PRICES
from cnn_lstm.data.quantities import Quantity, quantity
from cnn_lstm.errors import Defect, require
from cnn_lstm.specs import Serializable

Floats = NDArray[np.float64]
DECAY, MEMORY = 0.94, 60
WEIGHTS = np.array([DECAY**lag for lag in range(MEMORY)])  # NumPy's own powers differ in their last bits
FEW_ROWS = 256  # whose sums are faster window by window


class Target(Serializable, ABC):
    """One column to forecast.

    Attributes:
        name: Name of the column.
        unit: Unit of its values, for tables and plots.
        horizon: Rows that the label spans, at least 1.
        delay: Rows between the decision and the start of the label.
        column: Column of the price table that the target is computed from.
        kind: Name of the kind of quantity, see `quantity`: `return`, `class`, `volatility`, `log_volatility`,
            `level`, or `value` for anything else.
        classes: Number of classes; 0 for a number.
        anchor: Feature of the same unit whose last value is subtracted from the label and added back to the forecast;
            empty for none.
        holds_labels: Whether the column holds labels; an empty cell is then a label that is not known.
        stands_at_decision: Whether the column holds each label at the row that it is forecast from: then nothing in the
            table can show when it becomes known.
    """

    name: str
    unit: str
    horizon: int
    delay: int
    column: str
    kind: str = "value"
    classes: int = 0
    anchor: str = ""
    holds_labels: bool = False
    stands_at_decision: bool = False

    @abstractmethod
    def present(self, bars: pd.DataFrame) -> Floats:
        """The quantity over the interval ending at each row, shape (n,)."""

    def future(self, bars: pd.DataFrame) -> Floats:
        """Label of each row, shape (n,): what `present` is `reach` rows later; NaN where that is not known yet."""
        return _lead(self.present(bars), self.reach)

    def spec(self) -> dict[str, Any]:
        """Class path and arguments; without an empty anchor, as in checkpoints that are older than anchors."""
        spec = super().spec()
        if not spec["init_args"].get("anchor", True):
            del spec["init_args"]["anchor"]
        return spec

    @property
    def quantity(self) -> Quantity:
        """What kind of quantity it is, which decides how a forecast of it is judged."""
        return quantity(self.kind)

    @property
    def reach(self) -> int:
        """Rows from the decision to the end of the label."""
        return self.delay + self.horizon

    @property
    def level(self) -> bool:
        """Whether it is the column itself, later; then it may be anchored on the column's last value."""
        return self.quantity.is_level

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the price table that it reads."""
        return (self.column,)

    def defects(self, prices: pd.DataFrame) -> list[Defect]:
        """What keeps the columns of a checked price table of all symbols from being what it reads them as."""
        return []

    @property
    def bounded(self) -> bool:
        """Whether what is known of it at a row follows from the last `MEMORY` and `reach` rows alone.

        The volatility of returns does, of a column that has a return at every bar.
        """
        return self.level or self.column in PRICES

    def bar_move(self, bars: pd.DataFrame) -> Floats:
        """Size of the move of each single bar, shape (n,): the absolute log return of the column; NaN at the first row.

        Its squares are what a volatility is averaged from, and what HAR is fitted on.
        """
        moves = np.full(len(bars), np.nan)
        moves[1:] = np.abs(np.diff(np.log(_values(bars, self.column))))
        return moves

    def volatility(self, bars: pd.DataFrame) -> Floats:
        """Volatility of one bar of the column as known at each row, shape (n,): of log returns, of changes for levels.

        NaN at the first row. See `ewma_volatility`.
        """
        values = _values(bars, self.column)
        if self.level:
            return ewma_volatility(values - _lag(values, 1))
        if not (values > 0).all():  # a column without returns, under a user's own target
            return np.full(len(values), np.nan)
        return ewma_volatility(np.log(values / _lag(values, 1)))

    def scale(self, volatility: Floats) -> Floats:
        """Size of the label's surprise, given the volatility of one bar, both shape (n,): what intervals grow with."""
        surprise = self.quantity.surprise
        if surprise == "root of horizon":
            return np.asarray(volatility * np.sqrt(self.horizon))
        return volatility if surprise == "volatility" else np.ones_like(volatility)

    @property
    def traded(self) -> bool:
        """Whether a position is taken on a forecast of it."""
        return self.quantity.traded

    def bar_return(self, bars: pd.DataFrame) -> Floats:
        """Simple return of the first bar after the delay, shape (n,): what a position taken on the forecast earns.

        NaN where that bar is not known yet, and where nothing is traded on the target.
        """
        if not self.traded:
            return np.full(len(bars), np.nan)
        prices = _values(bars, self.column)
        return _lead(prices / _lag(prices, 1) - 1.0, self.delay + 1)


class ForwardReturn(Target):
    """Return from the close of row t + delay to the close of row t + delay + horizon.

    Args:
        horizon: Rows that the return spans, at least 1.
        delay: Rows between the decision and the trade; 1 trades at the next close, 0 at the close that the
            decision itself used, which nobody can do.
        log: Natural-log return instead of the simple one.
        column: Price column.

    Example:
        >>> bars = pd.DataFrame({"close": [1.0, 2.0, 4.0, 8.0]})
        >>> ForwardReturn(horizon=1, log=False).future(bars).tolist()
        [1.0, 1.0, nan, nan]
    """

    kind = unit = "return"

    def __init__(self, horizon: int = 1, delay: int = 1, log: bool = True, column: str = "close") -> None:
        self.horizon, self.delay, self.log, self.column = _positive(horizon), _delay(delay), log, column
        self.name = f"return_{horizon}"

    def present(self, bars: pd.DataFrame) -> Floats:
        """Return over the last `horizon` rows, shape (n,)."""
        prices = _values(bars, self.column)
        growth = prices / _lag(prices, self.horizon)
        return np.log(growth) if self.log else growth - 1.0


class Direction(Target):
    """Class of the forward log return: the number of thresholds at or below it.

    Args:
        thresholds: Ascending cuts in log-return units; `[0.0]` gives down and up, two cuts give three classes.
        horizon: Rows that the return spans, at least 1.
        delay: Rows between the decision and the trade.
        column: Price column.

    Example:
        >>> bars = pd.DataFrame({"close": [4.0, 4.0, 5.0, 3.0]})
        >>> Direction(thresholds=[-0.01, 0.01]).future(bars).tolist()
        [2.0, 0.0, nan, nan]
    """

    kind = unit = "class"

    def __init__(
        self, thresholds: list[float] | None = None, horizon: int = 1, delay: int = 1, column: str = "close"
    ) -> None:
        self.thresholds = [0.0] if thresholds is None else list(thresholds)
        sound = self.thresholds and np.isfinite(self.thresholds).all() and (np.diff(self.thresholds) > 0).all()
        require(bool(sound), f"thresholds={thresholds}", "targets.Direction", "give one or more ascending numbers")
        self._return = ForwardReturn(horizon, delay, column=column)
        self.horizon, self.delay, self.column = horizon, delay, column
        self.classes = len(self.thresholds) + 1
        self.name = f"direction_{horizon}"

    def present(self, bars: pd.DataFrame) -> Floats:
        """Class of the return over the last `horizon` rows, shape (n,), as a float from 0 to classes - 1."""
        returns = self._return.present(bars)
        classes = np.searchsorted(self.thresholds, returns, side="right").astype(float)
        return np.where(np.isnan(returns), np.nan, classes)


class RealizedVolatility(Target):
    """Root mean square of the one-bar log returns over the label interval.

    Args:
        horizon: Number of returns, at least 1.
        delay: Rows between the decision and the first return; 0, since nothing has to be traded.
        log: Natural logarithm of the volatility: closer to normal, and its forecast is positive by construction.
        column: Price column.
        anchor: Listed feature that is a volatility as well, or a log volatility where `log` is true. The label is then
            forecast as its change from the feature's last value, for example from `har_log_volatility`.

    Source:
        Andersen, Bollerslev, Diebold, Labys (2003), Modeling and Forecasting Realized Volatility.

    Example:
        >>> bars = pd.DataFrame({"close": np.exp([0.0, 0.3, -0.1])})
        >>> RealizedVolatility(horizon=2).future(bars).round(4).tolist()
        [0.3536, nan, nan]
    """

    def __init__(
        self, horizon: int = 5, delay: int = 0, log: bool = False, column: str = "close", anchor: str | None = None
    ) -> None:
        self.horizon, self.delay, self.log, self.column = _positive(horizon), _delay(delay), log, column
        self.anchor = anchor or ""
        self.kind = "log_volatility" if log else "volatility"
        self.name = f"{self.kind}_{horizon}"
        self.unit = "log volatility a bar" if log else "volatility a bar"

    def present(self, bars: pd.DataFrame) -> Floats:
        """Volatility of the last `horizon` returns, shape (n,); NaN for the logarithm of no movement at all."""
        prices = _values(bars, self.column)
        squares = np.log(prices / _lag(prices, 1)) ** 2
        # summed lag by lag: a running sum would let rounding errors of far rows into a calm window
        mean = sum(_lag(squares, k) for k in range(self.horizon)) / self.horizon
        if not self.log:
            return np.sqrt(mean)
        return 0.5 * np.log(np.where(mean > 0, mean, np.nan))


class ForwardValue(Target):
    """Value of a column `delay + horizon` rows ahead.

    Args:
        column: Column of the price table.
        horizon: Rows ahead, at least 1.
        delay: Further rows ahead.

    Example:
        >>> ForwardValue("rate", horizon=2).future(pd.DataFrame({"rate": [1.0, 2.0, 3.0]})).tolist()
        [3.0, nan, nan]
    """

    kind = "level"

    def __init__(self, column: str, horizon: int = 1, delay: int = 0) -> None:
        self.horizon, self.delay, self.column = _positive(horizon), _delay(delay), column
        self.name = f"{column}_{horizon}"
        self.unit = column

    def present(self, bars: pd.DataFrame) -> Floats:
        """The column itself, shape (n,)."""
        return _values(bars, self.column)


def ewma_volatility(changes: Floats) -> Floats:
    """Exponentially weighted root mean square of the latest changes, (n,) -> (n,); NaN until there is one.

    The weights fall by `DECAY` per row and end after `MEMORY` rows, so that a value never depends on where a table
    begins once it has that many rows behind it.

    Source:
        J.P. Morgan (1996), RiskMetrics Technical Document: a decay of 0.94 for daily data.

    Example:
        >>> ewma_volatility(np.array([np.nan, 0.02, -0.02])).tolist()
        [nan, 0.02, 0.02]
    """
    squares = changes**2
    known = np.isfinite(squares)
    total = _decayed_sum(np.where(known, squares, 0.0))
    weights = _weights(known)
    return np.sqrt(np.divide(total, weights, out=np.full_like(total, np.nan), where=weights > 0))


def _decayed_sum(squares: Floats) -> Floats:
    """Weighted sum of the latest `MEMORY` squares, (n,) -> (n,), always added lag by lag from the latest one on."""
    if 0 < len(squares) <= FEW_ROWS:
        before = np.concatenate([np.zeros(MEMORY - 1), squares])
        windows = np.lib.stride_tricks.sliding_window_view(before, MEMORY)[:, ::-1]
        sums: Floats = np.cumsum(windows * WEIGHTS, axis=1)[:, -1]
        return sums
    total, part = np.zeros_like(squares), np.empty_like(squares)
    for lag, weight in enumerate(WEIGHTS.tolist()):
        earlier = len(squares) - lag
        total[lag:] += np.multiply(weight, squares[:earlier], out=part[:earlier])
    return total


def _weights(known: NDArray[np.bool_]) -> Floats:
    """Sum of the weights of the latest changes that are known, (n,)."""
    weights = np.zeros(len(known))
    unknown = len(known) if not known.any() else int(known.argmax())
    if known[unknown:].all():  # all but the first ones, as of every price
        sums = np.cumsum(WEIGHTS)
        weights[unknown:] = sums[np.minimum(np.arange(len(known) - unknown), MEMORY - 1)]
        return weights
    for lag in range(min(MEMORY, len(known))):
        weights[lag:] += DECAY**lag * known[: len(known) - lag]
    return weights


def check_targets(targets: list[Target]) -> None:
    """Refuses an empty list, doubled names, and classes mixed with numbers.

    Raises:
        ConfigError: Naming the targets.
    """
    names = [target.name for target in targets]
    require(bool(names), "no target", "data.targets", "list at least one")
    require(len(set(names)) == len(names), f"two targets of one name: {names}", "data.targets", "remove one")
    alike = len({target.classes for target in targets}) == 1
    fix = "train one model for the classes and one for the numbers"
    require(alike, f"numbers and classes in one model: {names}", "data.targets", fix)


def _values(bars: pd.DataFrame, column: str) -> Floats:
    return bars[column].to_numpy(dtype=np.float64, copy=True)


def _lag(values: Floats, rows: int) -> Floats:
    """Values, (n,), that many rows before; NaN where the table does not have it."""
    lagged = np.full_like(values, np.nan)
    if rows < len(values):
        lagged[rows:] = values[: len(values) - rows]
    return lagged


def _lead(values: Floats, rows: int) -> Floats:
    """Values, (n,), that many rows later; NaN where the table does not have it."""
    return _lag(values[::-1], rows)[::-1]


def _positive(horizon: int) -> int:
    require(horizon >= 1, f"horizon={horizon}", "data.targets", "horizon counts rows: give at least 1")
    return horizon


def _delay(value: int) -> int:
    require(value >= 0, f"delay={value}", "data.targets", "a label cannot start before the decision")
    return value
