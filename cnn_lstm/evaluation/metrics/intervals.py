"""Whether intervals and sets of classes keep what they promise.

Shapes: n rows, one per forecast. Rows whose truth or interval is NaN are left out. The tests of Kupiec and
Christoffersen take misses as independent. Those of labels that overlap (horizon above 1) are not: their p-values are
then too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, xlogy

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.metrics.book import mean_or_nan
from cnn_lstm.inference.intervals import MOST_DIGITS

Bools = NDArray[np.bool_]

TERCILES = ("low", "middle", "high")
ROLLING = 250


def interval_metrics(
    true: Floats,
    lower: Floats,
    upper: Floats,
    level: float = 0.9,
    *,
    symbol: ArrayLike | None = None,
    as_of: ArrayLike | None = None,
    volatility: Floats | None = None,
) -> dict[str, float]:
    """How often and how tightly an interval holds the truth.

    Args:
        true: Truth, shape (n,).
        lower: Lower end, shape (n,); the ends belong to the interval.
        upper: Upper end, shape (n,).
        level: Coverage that the interval promises, between 0 and 1.
        symbol: Symbol of each row, shape (n,); all rows are of one symbol by default.
        as_of: Time of each row, shape (n,); the order of the rows by default.
        volatility: Volatility known at each row, shape (n,); without it the coverage by tercile is NaN.

    Returns:
        rows, level, coverage, mean_width, winkler (interval score, Gneiting and Raftery 2007: width plus 2 / (1 -
        level) times the distance of a miss; smaller is better), kupiec_p, christoffersen_p, coverage_low_volatility,
        coverage_middle_volatility, coverage_high_volatility (terciles of all rows), lowest_rolling_coverage (lowest
        over 250 successive dates; NaN for fewer dates).

    Example:
        >>> metrics = interval_metrics(np.array([0.0, 3.0]), np.array([-1.0, -1.0]), np.array([1.0, 1.0]), level=0.5)
        >>> metrics["coverage"], metrics["mean_width"], metrics["winkler"]
        (0.5, 2.0, 6.0)
    """
    known = ~(np.isnan(true) | np.isnan(lower) | np.isnan(upper))
    true, lower, upper = true[known], lower[known], upper[known]
    date = _codes(np.arange(len(known)) if as_of is None else as_of, known)
    group = _codes(np.zeros(len(known)) if symbol is None else symbol, known)
    state = np.full(len(known), np.nan) if volatility is None else volatility
    held = (lower <= true) & (true <= upper)
    return {
        "rows": len(true),
        "level": level,
        "coverage": mean_or_nan(held),
        "mean_width": mean_or_nan(upper - lower),
        "winkler": mean_or_nan(winkler(true, lower, upper, level)),
        "kupiec_p": kupiec_p(int(np.sum(~held)), len(held), level),
        "christoffersen_p": christoffersen_p(~held, group, date),
        **_coverage_by_tercile(held, state[known]),
        "lowest_rolling_coverage": _lowest_rolling_coverage(held, date),
    }


def winkler(true: Floats, lower: Floats, upper: Floats, level: float) -> Floats:
    """Interval score of each row, (n,) (Winkler 1972; Gneiting and Raftery 2007, equation 43).

    Example:
        >>> winkler(np.array([0.0, 2.0]), np.array([-1.0, -1.0]), np.array([1.0, 1.0]), level=0.9).round(6).tolist()
        [2.0, 22.0]
    """
    miss = np.maximum(lower - true, 0.0) + np.maximum(true - upper, 0.0)
    return upper - lower + 2 / (1 - level) * miss


def kupiec_p(misses: int, count: int, level: float) -> float:
    """p-value of the hypothesis that misses have the promised probability (Kupiec 1995, proportion of failures).

    Example:
        >>> round(kupiec_p(misses=10, count=100, level=0.9), 6)
        1.0
    """
    return float(chdtrc(1, coverage_ratio(misses, count, level)))


def coverage_ratio(misses: int, count: int, level: float) -> float:
    """Likelihood ratio statistic of `kupiec_p`, chi-squared with one degree of freedom; NaN without rows.

    Example:
        >>> round(coverage_ratio(misses=6, count=250, level=0.99), 2)
        3.56
    """
    if count == 0:
        return math.nan
    promised = _log_likelihood(count - misses, misses, 1 - level)
    return _likelihood_ratio(promised, _log_likelihood(count - misses, misses, misses / count))


def christoffersen_p(missed: Bools, symbol: NDArray[Any], date: NDArray[Any]) -> float:
    """p-value of the hypothesis that a miss is as likely after a miss as after none (Christoffersen 1998).

    First-order Markov likelihood ratio; transitions are counted within each symbol and pooled.

    Args:
        missed: Whether each row is a miss, shape (n,).
        symbol: Symbol of each row, shape (n,).
        date: Time of each row, shape (n,); anything that can be sorted.

    Example:
        >>> clustered = np.repeat([True, False], 20)
        >>> christoffersen_p(clustered, np.zeros(40), np.arange(40)) < 1e-6
        True
    """
    return float(chdtrc(1, independence_ratio(missed, symbol, date)))


def independence_ratio(missed: Bools, symbol: NDArray[Any], date: NDArray[Any]) -> float:
    """Likelihood ratio statistic of `christoffersen_p`, chi-squared with one degree of freedom; NaN without pairs.

    Args:
        missed: Whether each row is a miss, shape (n,).
        symbol: Symbol of each row, shape (n,).
        date: Time of each row, shape (n,); anything that can be sorted.

    Example:
        >>> independence_ratio(np.array([False, True, False, True]), np.zeros(4), np.arange(4)) > 3
        True
    """
    order = np.lexsort((date, symbol))
    missed, symbol = missed[order], symbol[order]
    before, after = missed[:-1], missed[1:]
    pair = symbol[1:] == symbol[:-1]
    if not pair.any():
        return math.nan
    # rows: after a hit, after a miss; columns: hits, misses
    counts = [[int(np.sum(pair & (before == a) & (after == b))) for b in (False, True)] for a in (False, True)]
    hits, misses = (counts[0][b] + counts[1][b] for b in (0, 1))
    same = _log_likelihood(hits, misses, misses / (hits + misses))
    free = sum(_log_likelihood(h, m, m / max(h + m, 1)) for h, m in counts)
    return _likelihood_ratio(same, free)


def set_metrics(true: Floats, sets: Sequence[str], classes: int, level: float = 0.9) -> dict[str, float]:
    """How often and with how many classes a conformal set holds the true class.

    Args:
        true: True class, shape (n,); NaN where unknown.
        sets: Classes of each set, one digit per class, for example "01"; "" is the empty set. With more than ten
            classes there are blanks between them.
        classes: Number of classes.
        level: Coverage that the sets promise.

    Returns:
        rows, level, coverage, mean_size, kupiec_p.

    Example:
        >>> metrics = set_metrics(np.array([0.0, 2.0]), ["01", "1"], classes=3, level=0.5)
        >>> metrics["coverage"], metrics["mean_size"]
        (0.5, 1.5)
    """
    known = [(int(t), s) for t, s in zip(true, sets, strict=True) if not math.isnan(t) and isinstance(s, str)]
    rows = [(str(t), s.split() if classes > MOST_DIGITS else list(s)) for t, s in known]
    held = np.array([t in members for t, members in rows], dtype=bool)
    return {
        "rows": len(rows),
        "level": level,
        "coverage": mean_or_nan(held),
        "mean_size": mean_or_nan(np.array([len(members) for _, members in rows], dtype=np.float64)),
        "kupiec_p": kupiec_p(int(np.sum(~held)), len(held), level),
    }


def _codes(values: ArrayLike, known: Bools) -> NDArray[np.int64]:
    """Values of the known rows as numbers in their order; `Series` keeps timestamps from becoming objects."""
    return np.asarray(pd.factorize(pd.Series(values)[known], sort=True)[0], dtype=np.int64)


def _log_likelihood(hits: int, misses: int, probability: float) -> float:
    """Log likelihood of independent misses that have a probability."""
    return float(xlogy(hits, 1 - probability) + xlogy(misses, probability))


def _likelihood_ratio(restricted: float, free: float) -> float:
    """Likelihood ratio statistic; rounding may take it below 0."""
    return max(2 * (free - restricted), 0.0)


def _coverage_by_tercile(held: Bools, volatility: Floats) -> dict[str, float]:
    known = ~np.isnan(volatility)
    held, volatility = held[known], volatility[known]
    if not len(held):
        return {f"coverage_{name}_volatility": math.nan for name in TERCILES}
    tercile = np.searchsorted(np.quantile(volatility, [1 / 3, 2 / 3]), volatility)
    return {f"coverage_{name}_volatility": mean_or_nan(held[tercile == i]) for i, name in enumerate(TERCILES)}


def _lowest_rolling_coverage(held: Bools, date: NDArray[np.int64]) -> float:
    """Lowest share of hits in 250 successive dates: rows of one date depend on each other, so dates are counted."""
    count = np.concatenate([[0], np.cumsum(np.bincount(date))])
    hits = np.concatenate([[0], np.cumsum(np.bincount(date, weights=held))])
    if len(count) <= ROLLING:
        return math.nan
    return float(np.min((hits[ROLLING:] - hits[:-ROLLING]) / (count[ROLLING:] - count[:-ROLLING])))
