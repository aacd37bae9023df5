"""The Sharpe ratio as an estimate: its standard error, and what remains of it after many trials.

Returns are simple returns per bar, shape (n,), of a constant stake: profits are not reinvested, so they add up. A ratio
of fewer than two returns, or of returns that never differ, is NaN, and so is every metric that uses it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from cnn_lstm.data.targets import Floats


def sharpe_ratio(returns: Floats) -> float:
    """Mean over standard deviation (n - 1) per bar; times the root of the bars per year it is annualised.

    Example:
        >>> sharpe_ratio(np.array([0.0, 1.0, 2.0]))
        1.0
    """
    if len(returns) < 2:
        return math.nan
    deviation = float(np.std(returns, ddof=1))
    only_rounding = deviation <= 1e-12 * float(np.max(np.abs(returns)))
    return math.nan if only_rounding else float(np.mean(returns) / deviation)


def automatic_lags(count: int) -> int:
    """Lags of the Newey-West variance by the rule floor(4 (n / 100)^(2/9)) of Newey and West (1994).

    Example:
        >>> automatic_lags(250)
        4
    """
    return min(int(4 * (count / 100) ** (2 / 9)), max(count - 1, 0))


def sharpe_standard_error(returns: Floats, lags: int = 0) -> float:
    """Standard error of the Sharpe ratio per bar for returns that are neither normal nor independent.

    The delta method on the moments of mean and variance (Lo 2002, appendix) with the Newey-West long-run variance. At
    0 lags it is the formula of Mertens (2002), sqrt((1 - skew SR + (kurtosis - 1) SR^2 / 4) / (n - 1)), the one in the
    probabilistic Sharpe ratio of Bailey and Lopez de Prado (2012), whose n - 1 is kept.

    Args:
        returns: Returns per bar in time order, shape (n,).
        lags: Autocovariances that count, with Bartlett weights; fewer than n.

    Example:
        >>> float(round(sharpe_standard_error(np.array([-1.0, 1.0, -1.0, 1.0])), 4))
        0.5774
    """
    return math.sqrt(_variance_factor(returns, lags) / (len(returns) - 1)) if len(returns) > 1 else math.nan


def probabilistic_sharpe_ratio(returns: Floats, benchmark: float = 0.0, lags: int = 0) -> float:
    """Probability that the true Sharpe ratio per bar is above a benchmark (Bailey and Lopez de Prado 2012).

    Example:
        >>> probabilistic_sharpe_ratio(np.array([-1.0, 1.0, -1.0, 1.0]))
        0.5
    """
    error = sharpe_standard_error(returns, lags)
    return float(ndtr((sharpe_ratio(returns) - benchmark) / error)) if error > 0 else math.nan


def expected_best_sharpe(trials: float, variance: float) -> float:
    """Sharpe ratio per bar that the best of many useless trials is expected to show; 0 for one trial.

    The false-strategy theorem of Bailey and Lopez de Prado (2014), equation 1.

    Args:
        trials: Independent trials among which the best was chosen, at least 1; an effective number need not be whole.
        variance: Variance of their Sharpe ratios per bar.

    Example:
        >>> round(expected_best_sharpe(100, 0.5 / 250), 4)
        0.1132
    """
    if trials <= 1:
        return 0.0
    quantiles = (1 - np.euler_gamma) * ndtri(1 - 1 / trials) + np.euler_gamma * ndtri(1 - 1 / (trials * math.e))
    return max(float(math.sqrt(variance) * quantiles), 0.0)  # the formula is below 0 between 1 and 1.6 trials


def deflated_sharpe_ratio(returns: Floats, trials: float = 1, variance: float | None = None, lags: int = 0) -> float:
    """Probability that the true Sharpe ratio is above 0 once the choice among trials is allowed for.

    The probabilistic Sharpe ratio against `expected_best_sharpe` (Bailey and Lopez de Prado 2014); at one trial it is
    the probabilistic Sharpe ratio against 0.

    Args:
        returns: Returns per bar of the chosen trial, shape (n,).
        trials: Independent trials; trials that resemble each other count as fewer, so their number is conservative.
        variance: Variance of the trials' Sharpe ratios per bar. By default 1 / (n - 1), the variance of the ratios of
            useless trials on n bars: that is the null hypothesis, and needs no returns of other trials.
        lags: As in `sharpe_standard_error`.

    Example:
        >>> returns = np.array([0.01, -0.01, 0.02, 0.0])
        >>> deflated_sharpe_ratio(returns, 100) < deflated_sharpe_ratio(returns, 1)
        True
    """
    if len(returns) < 2:
        return math.nan
    scatter = 1 / (len(returns) - 1) if variance is None else variance
    return probabilistic_sharpe_ratio(returns, expected_best_sharpe(trials, scatter), lags)


def minimum_track_record_length(returns: Floats, benchmark: float = 0.0, level: float = 0.95, lags: int = 0) -> float:
    """Bars needed before a Sharpe ratio like this one is above a benchmark with a confidence.

    Bailey and Lopez de Prado (2012), equation 11. Infinite where the ratio is not above the benchmark.

    Example:
        >>> minimum_track_record_length(np.array([-1.0, 1.0, -1.0, 1.0]))
        inf
    """
    ratio = sharpe_ratio(returns)
    if math.isnan(ratio):
        return math.nan
    if ratio <= benchmark:
        return math.inf
    return 1 + _variance_factor(returns, lags) * float(ndtri(level) / (ratio - benchmark)) ** 2


def max_drawdown(returns: Floats) -> float:
    """Largest fall of the summed returns from an earlier height (at least 0, the start), as a share of the stake.

    Example:
        >>> max_drawdown(np.array([0.5, -0.25, -0.5, 1.0]))
        0.75
    """
    curve = np.concatenate([[0.0], np.cumsum(returns)])
    return float(np.max(np.maximum.accumulate(curve) - curve))


def calmar_ratio(returns: Floats, periods: float) -> float:
    """Annual return over the largest drawdown (Young 1991); NaN without a drawdown.

    Example:
        >>> calmar_ratio(np.array([0.5, -0.25]), periods=2.0)
        1.0
    """
    fall = max_drawdown(returns)
    return float(np.mean(returns)) * periods / fall if fall > 0 else math.nan


def _variance_factor(returns: Floats, lags: int) -> float:
    """Long-run variance of the ratio's influence function; 1 for independent normal returns with ratio 0."""
    ratio = sharpe_ratio(returns)
    if math.isnan(ratio):
        return math.nan
    scores = (returns - np.mean(returns)) / np.std(returns)
    influence = scores - ratio / 2 * (scores**2 - 1)
    total = np.mean(influence**2)
    for lag in range(1, min(lags, len(returns) - 1) + 1):
        total += 2 * (1 - lag / (lags + 1)) * np.sum(influence[lag:] * influence[:-lag]) / len(returns)
    return max(float(total), 0.0)
