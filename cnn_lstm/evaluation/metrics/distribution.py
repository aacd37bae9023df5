"""Whether a whole forecast distribution is right: CRPS, probability integral transform, and spread against error.

Shapes: n rows, one per forecast; m calibration scores.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats
from scipy.special import ndtr

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.json_types import Pit

BINS = 10  # of the histogram of the probability integral transform


def crps_of_scores(true: Floats, forecast: Floats, scale: Floats, scores: Floats) -> Floats:
    """Continuous ranked probability score of each row's ensemble {forecast + score * scale}.

    E|X - y| - E|X - X'| / 2 over the m members (Gneiting and Raftery 2007, equation 21). The ensembles differ by shift
    and scale only, so one set of prefix sums serves all rows: O((n + m) log m).

    Args:
        true: Truth, shape (n,).
        forecast: Point forecast, shape (n,).
        scale: Factor of the scores, shape (n,), at least 0; at 0 the score is the absolute error.
        scores: Sorted scores (y - forecast) / scale of calibration rows, shape (m,).

    Returns:
        Scores in the unit of the truth, shape (n,).

    Example:
        >>> crps_of_scores(np.array([0.5]), np.array([0.0]), np.array([1.0]), np.array([0.0, 1.0])).tolist()
        [0.25]
    """
    count = len(scores)
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    spread = np.sum((2 * np.arange(1, count + 1) - count - 1) * scores) / count**2
    positive = scale > 0
    surprise = np.divide(true - forecast, scale, out=np.zeros(len(true)), where=positive)
    below = np.searchsorted(scores, surprise)
    distance = (surprise * (2 * below - count) + sums[-1] - 2 * sums[below]) / count
    return np.where(positive, scale * (distance - spread), np.abs(true - forecast))


def gaussian_crps(true: Floats, mean: Floats, std: Floats) -> Floats:
    """Continuous ranked probability score of normal distributions, (n,) (Gneiting et al. 2005, equation 5).

    Example:
        >>> gaussian_crps(np.array([0.0]), np.array([0.0]), np.array([1.0])).round(6).tolist()
        [0.233695]
    """
    positive = std > 0
    surprise = np.divide(true - mean, std, out=np.zeros(len(true)), where=positive)
    density = np.exp(-(surprise**2) / 2) / math.sqrt(2 * math.pi)
    score = std * (surprise * (2 * ndtr(surprise) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return np.where(positive, score, np.abs(true - mean))


def pit(true: Floats, forecast: Floats, scale: Floats, scores: Floats) -> Floats:
    """Probability integral transform of each row: where the truth ranks in {forecast + score * scale}.

    m scores make m + 1 ranks; the middle of the truth's rank is taken, so that truths like the scores have mean 1/2.

    Args:
        true: Truth, shape (n,).
        forecast: Point forecast, shape (n,).
        scale: Factor of the scores, shape (n,), at least 0.
        scores: Sorted scores of calibration rows, shape (m,).

    Returns:
        Values between 0 and 1, uniform where the distribution is right, shape (n,).

    Example:
        >>> pit(np.array([0.5, 9.0]), np.zeros(2), np.ones(2), np.array([0.0, 1.0, 2.0])).tolist()
        [0.375, 0.875]
    """
    error = true - forecast
    # where the scale is 0, any error is beyond all scores
    beyond = np.where(error == 0, 0.0, np.copysign(np.inf, error))
    surprise = np.divide(error, scale, out=beyond, where=scale > 0)
    below = np.searchsorted(scores, surprise, side="left") + np.searchsorted(scores, surprise, side="right")
    return (below + 1) / (2 * (len(scores) + 1))


def pit_metrics(values: Floats) -> Pit:
    """Whether probability integral transforms are uniform.

    Args:
        values: Output of `pit`, shape (n,); NaN is left out.

    Returns:
        rows, histogram (shares of 10 equal bins), ks_p (Kolmogorov-Smirnov) and cramer_von_mises_p against the uniform
        distribution; NaN below 2 rows. Both tests take the rows as independent: they reject too often where
        labels overlap or symbols share dates.

    Example:
        >>> metrics = pit_metrics((np.arange(100) + 0.5) / 100)
        >>> metrics["histogram"] == [0.1] * 10, metrics["ks_p"] > 0.99
        (True, True)
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return {"rows": len(values), "histogram": [math.nan] * BINS, "ks_p": math.nan, "cramer_von_mises_p": math.nan}
    with np.errstate(over="ignore", invalid="ignore"):  # a huge statistic overflows to NaN, where its p-value is 0
        cramer = float(stats.cramervonmises(values, "uniform").pvalue)
    counts = np.histogram(values, bins=BINS, range=(0.0, 1.0))[0]
    return {
        "rows": len(values),
        "histogram": (counts / len(values)).tolist(),
        "ks_p": float(stats.kstest(values, "uniform").pvalue),
        "cramer_von_mises_p": 0.0 if math.isnan(cramer) else cramer,
    }


def spread_error_rank_correlation(spread: Floats, error: Floats) -> float:
    """Spearman correlation of a spread with the absolute error: whether doubt is larger where errors are.

    Args:
        spread: Spread of each row, for example of Monte-Carlo dropout or of an ensemble, shape (n,).
        error: Absolute error of each row, shape (n,).

    Returns:
        Correlation; NaN where either side is constant.

    Example:
        >>> spread_error_rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 9.0]))
        1.0
    """
    known = ~(np.isnan(spread) | np.isnan(error))
    first, second = stats.rankdata(spread[known]), stats.rankdata(error[known])
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])
