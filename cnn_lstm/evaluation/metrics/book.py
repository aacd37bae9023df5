"""The positions that forecasts lead to, and what they would have earned, date by date.

The stake is constant: profits are not reinvested, so returns add up, and a cost of c per side takes c from each unit
traded. Shapes: n rows of the predictions table of one target, d dates.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.targets import Floats

Integers = NDArray[np.int64]
Rule = Literal["sign", "rank"]

FEE_BP = 5.0
HALF_SPREAD_BP = 5.0
# of fewer symbols a third would be a single one
RANKED_SYMBOLS = 5
SPAN = ("target_start", "target_end")  # of a label: its first and last bar


@dataclass(frozen=True)
class Book:
    """The course of a strategy over the dates of its decisions, equal weights over the symbols of a date.

    Returns of a date are earned over the bar that its decisions trade first, `bar_return`.

    Attributes:
        dates: Dates of the decisions, ascending, length d.
        gross: Return of the bar before costs, shape (d,).
        turnover: Traded share of the stake, entries, changes and last exits, shape (d,).
        exposure: Mean absolute position, shape (d,).
        timing: Return of the positions less each symbol's mean position, shape (d,).
        market: Equal-weighted return of the symbols, shape (d,).
        market_turnover: Turnover of holding them from the first bar to the last, shape (d,).
        cost_bp: Cost per side in basis points of the traded amount.
        periods: Bars per year.
        rule: How positions come from forecasts, in one sentence.
        unknown_returns: Number of rows inside a symbol's history without a return; they count as 0.
    """

    dates: pd.DatetimeIndex
    gross: Floats
    turnover: Floats
    exposure: Floats
    timing: Floats
    market: Floats
    market_turnover: Floats
    cost_bp: float
    periods: float
    rule: str
    unknown_returns: int

    @property
    def net(self) -> Floats:
        """Return of the bar after costs, shape (d,)."""
        return self.gross - self.turnover * self.cost_bp / 1e4

    @property
    def buy_and_hold(self) -> Floats:
        """Return after costs of all symbols held long in equal parts at the book's mean exposure, shape (d,)."""
        held = self.market - self.market_turnover * self.cost_bp / 1e4
        return np.asarray(held * mean_or_nan(self.exposure), dtype=np.float64)


def make_book(
    table: pd.DataFrame,
    horizon: int,
    *,
    rule: Rule = "sign",
    cost_bp: float = FEE_BP + HALF_SPREAD_BP,
    classes: int = 0,
) -> Book:
    """Trades the forecasts of one target.

    A decision is +1, 0 or -1 for each row. The position over a bar is the mean of the symbol's last `horizon`
    decisions, those before its first row being 0: each decision is held with 1 / horizon of the stake for as long as
    its label runs. "Last" counts rows, so decisions are carried across a gap; the position itself is left before it
    and taken again behind it.

    Args:
        table: Rows of the predictions table of one target: symbol, as_of, y_pred, bar_return, and target_start and
            target_end, by which gaps are known; without these there are none. No other column is read. Rows at a
            symbol's end whose bar_return is not known yet are dropped.
        horizon: Bars that a label spans, at least 1.
        rule: "sign" is long above 0 and short below; "rank" is long the top third and short the bottom third of a
            date's forecasts, and as "sign" on dates of fewer than 5 symbols. Equal forecasts share their mean rank.
        cost_bp: Fee and half spread in basis points of the traded amount, per side.
        classes: Number of classes of the target; the sign is then that of the distance to the middle class.

    Returns:
        The book.

    Example:
        >>> table = pd.DataFrame({"symbol": "A", "as_of": pd.date_range("2024-01-01", periods=2, tz="UTC")})
        >>> book = make_book(table.assign(y_pred=[0.1, -0.1], bar_return=[0.01, 0.02]), horizon=1)
        >>> book.gross.tolist(), book.turnover.tolist(), book.net.round(4).tolist()
        ([0.01, -0.02], [1.0, 3.0], [0.009, -0.023])
    """
    rows = _tradable_rows(table)
    symbol = np.asarray(pd.factorize(rows["symbol"])[0], dtype=np.int64)
    codes, dates = pd.factorize(rows["as_of"], sort=True)
    date = np.asarray(codes, dtype=np.int64)
    returns = rows["bar_return"].to_numpy(np.float64)
    known = np.nan_to_num(returns)
    signal = np.nan_to_num(rows["y_pred"].to_numpy(np.float64) - max(classes - 1, 0) / 2)
    decision = np.sign(signal) if rule == "sign" else _rank_decisions(signal, date)
    position = ladder(decision, symbol, horizon)
    average, ended = _mean_by(symbol, position)[symbol], _before_a_gap(rows, symbol)
    return Book(
        dates=pd.DatetimeIndex(dates),
        gross=_mean_by(date, position * known),
        turnover=_mean_by(date, trades(position, symbol, ended)),
        exposure=_mean_by(date, np.abs(position)),
        timing=_mean_by(date, (position - average) * known),
        market=_mean_by(date, known),
        market_turnover=_mean_by(date, trades(np.ones(len(rows)), symbol, ended)),
        cost_bp=cost_bp,
        periods=periods_per_year(pd.DatetimeIndex(dates)),
        rule=_sentence(rule, horizon, cost_bp, classes),
        unknown_returns=int(np.isnan(returns).sum()),
    )


def ladder(decision: Floats, symbol: Integers, horizon: int) -> Floats:
    """Mean of the last `horizon` decisions of each symbol, those before its first row being 0.

    Args:
        decision: Decision of each row, whole numbers, rows of a symbol together and in time order, shape (n,).
        symbol: Number of each row's symbol, shape (n,).
        horizon: Decisions in the mean, at least 1.

    Example:
        >>> ladder(np.array([1.0, 1.0, -1.0, 1.0]), np.array([0, 0, 0, 1]), horizon=2).tolist()
        [0.5, 1.0, 0.0, 0.5]
    """
    # sums of whole numbers are exact, so a position does not inherit rounding errors of earlier ones
    sums = np.concatenate([[0.0], np.cumsum(decision)])
    row = np.arange(len(decision))
    oldest = np.maximum(row - horizon + 1, _first_row(symbol))
    return np.asarray((sums[row + 1] - sums[oldest]) / horizon, dtype=np.float64)


def trades(position: Floats, symbol: Integers, ended: NDArray[np.bool_] | None = None) -> Floats:
    """Absolute change of position at each row, (n,); entries count, and an exit counts at the last row before it.

    Args:
        position: Position over the bar of each row, rows of a symbol together and in time order, (n,).
        symbol: Number of each row's symbol, (n,).
        ended: Whether a gap follows the row, (n,): the position is left, and taken again behind the gap.

    Example:
        >>> trades(np.array([1.0, -1.0, 0.5]), np.array([0, 0, 1])).tolist()
        [1.0, 3.0, 1.0]
        >>> trades(np.array([1.0, 1.0]), np.array([0, 0]), np.array([True, False])).tolist()
        [2.0, 2.0]
    """
    first = _first_row(symbol) == np.arange(len(symbol))
    if ended is not None:
        first |= np.roll(ended, 1)
    before = np.where(first, 0.0, np.roll(position, 1))
    return np.abs(position - before) + np.where(np.roll(first, -1), np.abs(position), 0.0)


def periods_per_year(dates: pd.DatetimeIndex) -> float:
    """Bars per year: median count of the calendar years between the first and the last, else dates over time spanned.

    Example:
        >>> periods_per_year(pd.bdate_range("2020-06-01", "2023-06-01"))
        260.5
        >>> round(periods_per_year(pd.date_range("2020-01-01", "2020-03-01")))
        365
    """
    if len(dates) < 2:
        return math.nan
    years, counts = np.unique(dates.year.to_numpy(), return_counts=True)
    if len(years) > 2:
        return float(np.median(counts[1:-1]))
    return (len(dates) - 1) / ((dates[-1] - dates[0]) / pd.Timedelta(days=365.25))


def _tradable_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by symbol and date, without those at a symbol's end whose return is not known yet."""
    names = ["symbol", "as_of", "y_pred", "bar_return", *(name for name in SPAN if name in table)]
    rows = table[names].sort_values(["symbol", "as_of"], ignore_index=True)
    row = rows.index.to_series()
    last = row.where(rows["bar_return"].notna()).groupby(rows["symbol"], observed=True).transform("max")
    return rows[row <= last].reset_index(drop=True)


def _before_a_gap(rows: pd.DataFrame, symbol: Integers) -> NDArray[np.bool_]:
    """Whether the row after one is not the next bar of its symbol, (n,): nothing was forecast there.

    The labels of a symbol end at its bars, so they name also those without a row.
    """
    ended = np.zeros(len(rows), dtype=bool)
    if not {*SPAN} <= {*rows}:
        return ended
    times = rows[["as_of", *SPAN]].apply(lambda column: column.dt.tz_localize(None)).to_numpy("datetime64[us]")
    edges = np.flatnonzero(np.diff(symbol, prepend=-1, append=-1))
    for first, last in itertools.pairwise(edges.tolist()):
        bars = np.unique(times[first:last])
        ended[first : last - 1] = np.diff(np.searchsorted(bars, times[first:last, 0])) > 1
    return ended


def _rank_decisions(signal: Floats, date: Integers) -> Floats:
    """+1 for the top third of a date, -1 for the bottom third; the sign where a date has too few symbols."""
    rank = pd.Series(signal).groupby(date).rank().to_numpy(np.float64)
    count = np.bincount(date)[date]
    third = count // 3
    ranked = (rank > count - third).astype(np.float64) - (rank < third + 1)
    return np.where(count >= RANKED_SYMBOLS, ranked, np.sign(signal))


def _first_row(symbol: Integers) -> Integers:
    """Number of the first row of each row's symbol, shape (n,)."""
    row = np.arange(len(symbol))
    first = np.where(np.diff(symbol, prepend=-1) != 0, row, 0)
    return np.asarray(np.maximum.accumulate(first), dtype=np.int64)


def _mean_by(group: Integers, values: Floats) -> Floats:
    """Mean of the values, (n,), of each group; group numbers run from 0 without a gap."""
    return np.asarray(np.bincount(group, weights=values) / np.bincount(group), dtype=np.float64)


def mean_or_nan(values: Floats | NDArray[np.bool_]) -> float:
    """Mean of the values, (n,); NaN without any."""
    return float(np.mean(values)) if len(values) else math.nan


def _sentence(rule: Rule, horizon: int, cost_bp: float, classes: int) -> str:
    sign = f"above class {(classes - 1) / 2:g}, short below" if classes else "for a forecast above 0, short below"
    few = f"fewer than {RANKED_SYMBOLS} symbols"
    ranked = f"the top third of a date's forecasts, short the bottom third ({few}: {sign})"
    held = "one bar" if horizon == 1 else f"{horizon} bars with 1/{horizon} of the stake each"
    return (
        f"long {ranked if rule == 'rank' else sign}; decisions held for {held}; equal stakes a symbol, profits not "
        f"reinvested; {cost_bp:g} bp of what is traded, each side"
    )
