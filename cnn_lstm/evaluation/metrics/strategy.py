"""Metrics of a strategy after costs, against buying and holding and against random books."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cnn_lstm.evaluation.json_types import StrategyMetrics
from cnn_lstm.evaluation.metrics import sharpe
from cnn_lstm.evaluation.metrics.book import Book, mean_or_nan

# random numbers drawn at a time, which bounds the memory of the random books
DRAWS = 4_000_000


def strategy_metrics(book: Book, trials: int = 1, *, draws: int = 1000, seed: int = 0) -> StrategyMetrics:
    """Metrics of a book after costs, with those of buying and holding and of random books.

    Sharpe ratios are annual: the ratio per bar times the root of the bars per year, with the standard error of `sharpe`
    at the automatic number of Newey-West lags.

    Args:
        book: The book.
        trials: Trials among which the forecaster was chosen, for the deflated Sharpe ratio.
        draws: Random books of `random_sign_p`.
        seed: Seed of the random books.

    Returns:
        rule, bars, periods_per_year, cost_bp, unknown_returns, gross_annual_return, net_annual_return,
        annual_volatility, sharpe, sharpe_se, psr (against 0), trials, dsr, min_track_record_length (bars; infinite for
        a ratio of 0 or less), max_drawdown and calmar (net), annual_turnover (both sides, in stakes), mean_exposure,
        hit_rate (share of bars with a position that earn before costs), break_even_cost_bp (cost per side at which
        nothing is left; NaN without trades), random_sign_p, and buy_and_hold with net_annual_return, sharpe,
        max_drawdown of the symbols held long at the book's mean exposure. A metric that is undefined is NaN.

    Example:
        >>> from cnn_lstm.evaluation.metrics.book import make_book
        >>> table = pd.DataFrame({"symbol": "A", "as_of": pd.date_range("2024-01-01", periods=3, tz="UTC")})
        >>> book = make_book(table.assign(y_pred=[1, 1, -1], bar_return=[0.01, 0.03, 0.02]), horizon=1)
        >>> metrics = strategy_metrics(book)
        >>> round(metrics["break_even_cost_bp"], 6), round(metrics["hit_rate"], 4)
        (50.0, 0.6667)
    """
    net, held = book.net, book.exposure > 0
    lags, year = sharpe.automatic_lags(len(net)), math.sqrt(book.periods)
    return {
        "rule": book.rule,
        "bars": len(net),
        "periods_per_year": book.periods,
        "cost_bp": book.cost_bp,
        "unknown_returns": book.unknown_returns,
        "gross_annual_return": mean_or_nan(book.gross) * book.periods,
        "net_annual_return": mean_or_nan(net) * book.periods,
        "annual_volatility": float(np.std(net, ddof=1)) * year if len(net) > 1 else math.nan,
        "sharpe": sharpe.sharpe_ratio(net) * year,
        "sharpe_se": sharpe.sharpe_standard_error(net, lags) * year,
        "psr": sharpe.probabilistic_sharpe_ratio(net, lags=lags),
        "trials": trials,
        "dsr": sharpe.deflated_sharpe_ratio(net, trials, lags=lags),
        "min_track_record_length": sharpe.minimum_track_record_length(net, lags=lags),
        "max_drawdown": sharpe.max_drawdown(net),
        "calmar": sharpe.calmar_ratio(net, book.periods),
        "annual_turnover": mean_or_nan(book.turnover) * book.periods,
        "mean_exposure": mean_or_nan(book.exposure),
        "hit_rate": mean_or_nan((book.gross[held] > 0).astype(np.float64)),
        "break_even_cost_bp": break_even_cost(book),
        "random_sign_p": random_sign_p(book, draws, seed),
        "buy_and_hold": {
            "net_annual_return": mean_or_nan(book.buy_and_hold) * book.periods,
            "sharpe": sharpe.sharpe_ratio(book.buy_and_hold) * year,
            "max_drawdown": sharpe.max_drawdown(book.buy_and_hold),
        },
    }


def random_sign_p(book: Book, draws: int = 1000, seed: int = 0) -> float:
    """Share of random books that earn at least as much before costs.

    A random book keeps the mean position of each symbol. One coin per date decides whether the deviations from it
    change their sign. So a random book has the exposure and the persistence of the book and, as the symbols of a date
    share the coin, its dependence across symbols. Being long while the market rises is not a merit, since the random
    books are as long. The coins turn positions, not decisions: random decisions average out in a laddered book, and
    against random books of a fraction of its risk nearly every book of a long horizon would look significant. A
    shuffle of the dates breaks persistence in the same way. Returns are gross, because random books trade more and
    would lose by their costs alone.

    Args:
        book: The book.
        draws: Number of random books. The book itself counts as one more, so that p is never 0 (Phipson and Smyth
            2010).
        seed: Seed of the coins.

    Returns:
        p-value of the hypothesis that the book's timing is worth nothing; NaN without any date.

    Example:
        >>> from cnn_lstm.evaluation.metrics.book import make_book
        >>> table = pd.DataFrame({"symbol": "A", "as_of": pd.date_range("2024-01-01", periods=4, tz="UTC")})
        >>> random_sign_p(make_book(table.assign(y_pred=1.0, bar_return=0.01), horizon=1))  # always long: no timing
        1.0
    """
    count = len(book.timing)
    if not count:
        return math.nan
    random = np.random.default_rng(seed)
    # a random book of the same signs must not be below by the rounding of another order of summation
    earned = float(np.sum(book.timing)) - 1e-12 * float(np.sum(np.abs(book.timing)))
    size = max(DRAWS // count, 1)
    better = 0
    for start in range(0, draws, size):
        books = min(size, draws - start)
        bits = np.unpackbits(random.integers(0, 256, (books, -(-count // 8)), dtype=np.uint8), axis=1, count=count)
        totals = (2 * bits.astype(np.float64) - 1) @ book.timing
        better += int(np.sum(totals >= earned))
    return (1 + better) / (1 + draws)


def break_even_cost(book: Book) -> float:
    """Cost per side in basis points at which the mean net return is 0; below 0 where even the gross return is."""
    traded = float(np.sum(book.turnover))
    return float(np.sum(book.gross)) / traded * 1e4 if traded > 0 else math.nan


def strategy_curves(book: Book) -> pd.DataFrame:
    """Summed returns for a plot: columns net and buy_and_hold, indexed by date."""
    return pd.DataFrame({"net": book.net.cumsum(), "buy_and_hold": book.buy_and_hold.cumsum()}, index=book.dates)
