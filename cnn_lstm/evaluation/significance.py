"""Is a smaller loss more than luck? Tests of equal accuracy that respect overlapping targets and shared dates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import SPA, StationaryBootstrap
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

FloatArray = NDArray[np.float64]
# a series that varies less than this share of its size is constant but for rounding
ROUNDING = 1e-12


@dataclass(frozen=True)
class Comparison:
    """A model beside one baseline; whatever has a sign is above 0 where the model is better.

    Attributes:
        loss_model: Mean loss of the model.
        loss_baseline: Mean loss of the baseline on the same rows.
        skill: 1 - loss_model / loss_baseline; NaN where the baseline has no loss.
        skill_interval: 95 % bootstrap interval of `skill`.
        difference_interval: 95 % bootstrap interval of loss_baseline - loss_model.
        dm_statistic: Diebold-Mariano statistic of loss_baseline - loss_model.
        dm_p: Its two-sided p-value.
        bootstrap_p: Two-sided p-value of the mean difference by the stationary bootstrap.
    """

    loss_model: float
    loss_baseline: float
    skill: float
    skill_interval: tuple[float, float]
    difference_interval: tuple[float, float]
    dm_statistic: float
    dm_p: float
    bootstrap_p: float


def clustered_by_date(values: ArrayLike, date: Any) -> FloatArray:
    """One value a date, whose mean is the mean over all rows.

    Forecasts of one date share its news, so 20 symbols are not 20 independent rows. The rows of a date are added up
    and divided by the mean number of rows a date; a test on the result is one clustered by date.

    Args:
        values: One value a row, (n,), or several, (n, k).
        date: Date of each row, (n,): anything that pandas can sort.

    Returns:
        In the order of the dates: (dates,) or (dates, k).

    Example:
        >>> clustered_by_date([1.0, 2.0, 6.0], ["monday", "monday", "tuesday"])
        array([2., 4.])
    """
    codes, dates = pd.factorize(pd.Index(date), sort=True)
    columns = np.asarray(values, dtype=np.float64)
    sums = pd.DataFrame(columns).groupby(codes).sum().to_numpy() * (len(dates) / len(columns))
    return sums if columns.ndim == 2 else sums[:, 0]


def newey_west_t(series: ArrayLike, lags: int) -> float:
    """T-statistic of a mean whose neighbours are related, with the variance of Newey and West (1987).

    Args:
        series: Values in the order of time, (n,).
        lags: Number of autocovariances in the variance; horizon - 1 for overlapping targets.

    Returns:
        The statistic; NaN where the series is constant or no longer than `lags` + 1.

    Example:
        >>> round(newey_west_t([1.0, 2.0, 3.0, 4.0], lags=0), 6)  # 2.5 / sqrt(1.25 / 4)
        4.472136
    """
    values = np.asarray(series, dtype=np.float64)
    if len(values) <= lags + 1 or is_constant(values):
        return float("nan")
    return float(values.mean() / np.sqrt(_variance_of_mean(values, 1 - np.arange(lags + 1) / (lags + 1))))


def _variance_of_mean(values: FloatArray, weights: FloatArray) -> float:
    """Variance of the mean of related neighbours: autocovariances of lag 0 on, times `weights`."""
    rows, deviation = len(values), values - values.mean()
    covariance = np.array([deviation[lag:] @ deviation[: rows - lag] for lag in range(len(weights))]) / rows
    return float((weights[0] * covariance[0] + 2 * weights[1:] @ covariance[1:]) / rows)


def is_constant(values: FloatArray) -> bool:
    """Whether all values are the same but for rounding.

    Example:
        >>> is_constant(np.array([0.3, 0.1 + 0.2])), is_constant(np.array([0.3, 0.31]))
        (True, False)
    """
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def diebold_mariano(series: ArrayLike, horizon: int) -> tuple[float, float]:
    """Test of equal accuracy by Diebold and Mariano (1995), with the small-sample correction of Harvey et al. (1997).

    Targets of `horizon` steps overlap, so neighbouring losses are related: the variance has `horizon` - 1 lags. All
    count in full, as in both papers; falling weights, as of Newey and West, find a difference in noise twice as often
    (5-step sums, 250 rows, level 5 %: 11.5 % instead of 5.5 %). They stand in where the sum is not above 0.

    Args:
        series: Loss differences in the order of time, one a date, (n,).
        horizon: Steps that a target spans, at least 1.

    Returns:
        Statistic, of the sign of the mean difference, and two-sided p-value by Student's t. 0 and 1, no evidence,
        where the series is constant or no longer than the horizon.

    Example:
        >>> statistic, p = diebold_mariano([1.0, 2.0, 3.0, 4.0], horizon=1)
        >>> round(statistic, 4), round(p, 4)
        (3.873, 0.0305)
        >>> diebold_mariano([2.0, 2.0, 2.0], horizon=1)
        (0.0, 1.0)
    """
    values = np.asarray(series, dtype=np.float64)
    rows = len(values)
    if rows <= horizon or is_constant(values):
        return 0.0, 1.0
    variance = _variance_of_mean(values, np.ones(horizon))
    if variance <= 0:
        variance = _variance_of_mean(values, 1 - np.arange(horizon) / horizon)
    correction = (rows + 1 - 2 * horizon + horizon * (horizon - 1) / rows) / rows
    statistic = float(np.sqrt(correction / variance) * values.mean())
    return statistic, float(2 * student_t.sf(abs(statistic), rows - 1))


def bootstrap_means(columns: ArrayLike, horizon: int, resamples: int, seed: int) -> FloatArray:
    """Column means of resampled rows by the stationary bootstrap of Politis and Romano (1994).

    Blocks of neighbouring rows are drawn, of mean length max(2 horizon, n^(1/3)), so that the draws keep what relates
    neighbours. A draw takes the same rows of all columns.

    Args:
        columns: Values in the order of time, (n, k).
        horizon: Steps that a target spans, at least 1.
        resamples: Number of draws.
        seed: Makes the draws repeatable.

    Returns:
        Means, (resamples, k).
    """
    values = np.ascontiguousarray(np.asarray(columns, dtype=np.float64).T)
    count, rows = values.shape
    bootstrap = StationaryBootstrap(mean_block(rows, horizon), values[0], seed=seed)
    means = np.empty((resamples, count))
    for number in range(resamples):
        # counting how often a row is drawn is several times faster than gathering the rows
        times = np.bincount(bootstrap.update_indices(), minlength=rows).astype(np.float64)
        # not `@`: starting BLAS threads on every draw takes ten times as long
        means[number] = np.einsum("i,ji->j", times, values) / rows
    return means


def mean_block(rows: int, horizon: int) -> int:
    """Mean length of the blocks of a bootstrap, rows: max(2 horizon, n^(1/3))."""
    return int(max(2 * horizon, round(rows ** (1 / 3))))


def superior_predictive_ability(
    loss_baseline: ArrayLike, losses_models: ArrayLike, date: Any, horizon: int, resamples: int = 1000, seed: int = 0
) -> float:
    """Test of Hansen (2005): is the best of many models better than a baseline, once the choice among them is paid for?

    The null hypothesis is that no model has a smaller expected loss than the baseline. Differences are divided by their
    standard deviation, so that an erratic model does not hide a steady one, which arch leaves to us (8.0). Hansen takes
    the standard error, whose noise makes the best of many look better: of 20 useless models on 300 dates, at a level of
    5 %, it finds 7.5 % one step ahead and 14 % five steps ahead, the standard deviation 6 % and 11 %.

    Args:
        loss_baseline: Loss of each forecast of the baseline, (n,).
        losses_models: Losses of the models on the same rows, (n, k).
        date: Date of each row, (n,); rows of one date count as one observation.
        horizon: Steps that a target spans, at least 1.
        resamples: Draws of the stationary bootstrap.
        seed: Makes the draws repeatable.

    Returns:
        The consistent p-value; 1 where all models differ from the baseline by a constant, which says nothing.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> baseline, useless = rng.chisquare(1, 300), rng.chisquare(1, (300, 20))
        >>> superior_predictive_ability(baseline, useless, np.arange(300), horizon=1) > 0.05
        True
        >>> superior_predictive_ability(baseline, np.column_stack([useless, 0.5 * baseline]), np.arange(300), horizon=1)
        0.0
    """
    columns = clustered_by_date(np.column_stack([loss_baseline, losses_models]), date)
    excess = columns[:, 1:] - columns[:, :1]
    excess = excess[:, [not is_constant(column) for column in excess.T]]
    if not excess.shape[1]:
        return 1.0
    excess /= excess.std(axis=0)
    test = SPA(np.zeros(len(excess)), excess, mean_block(len(excess), horizon), resamples, seed=seed)
    test.compute()
    return float(test.pvalues["consistent"])


def compare(
    loss_model: ArrayLike, losses_baselines: dict[str, ArrayLike], date: Any, horizon: int, resamples: int, seed: int
) -> dict[str, Comparison]:
    """The model's losses beside those of each baseline on the same rows.

    Args:
        loss_model: Loss of each forecast, (n,), at least one row, no NaN.
        losses_baselines: Name of the baseline -> its losses of the same rows, (n,).
        date: Date of each row, (n,); rows of one date count as one observation.
        horizon: Steps that a target spans, at least 1.
        resamples: Draws of the bootstrap.
        seed: Makes the bootstrap repeatable.

    Returns:
        Name of the baseline -> comparison.

    Example:
        >>> losses = np.random.default_rng(0).chisquare(1, 300)
        >>> found = compare(losses, {"zero": losses + 0.5}, np.arange(300) // 3, horizon=1, resamples=99, seed=0)
        >>> round(found["zero"].loss_baseline - found["zero"].loss_model, 6)
        0.5
    """
    columns = np.column_stack([loss_model, *losses_baselines.values()]).astype(np.float64)
    daily = clustered_by_date(columns, date)
    draws = bootstrap_means(daily, horizon, resamples, seed)
    return {
        name: _comparison(daily[:, [0, number]], draws[:, [0, number]], horizon)
        for number, name in enumerate(losses_baselines, start=1)
    }


def _comparison(daily: FloatArray, draws: FloatArray, horizon: int) -> Comparison:
    """`daily` losses (dates, 2) and their resampled means (resamples, 2), model first."""
    series = daily[:, 1] - daily[:, 0]
    means = daily.mean(axis=0)
    difference = means[1] - means[0]
    differences = draws[:, 1] - draws[:, 0]
    statistic, p = diebold_mariano(series, horizon)
    return Comparison(
        loss_model=float(means[0]),
        loss_baseline=float(means[1]),
        skill=float(_skill(means[None])[0]),
        skill_interval=_interval(_skill(draws)),
        difference_interval=_interval(differences),
        dm_statistic=statistic,
        dm_p=p,
        bootstrap_p=_recentred_p(difference, differences),
    )


def _skill(means: FloatArray) -> FloatArray:
    baseline = np.where(means[:, 1] == 0, np.nan, means[:, 1])
    skill: FloatArray = 1 - means[:, 0] / baseline
    return skill


def _interval(draws: FloatArray) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _recentred_p(mean: float, draws: FloatArray) -> float:
    """Share of draws, centred at 0 as if there were no difference, that lie as far out as the mean does."""
    distance = np.abs(draws - mean)
    # a draw as far out as the mean counts, whatever the last bits of its sum are
    extreme = np.count_nonzero(distance >= abs(mean) * (1 - ROUNDING))
    # the sample itself counts as one draw, so that no p is 0: Davison and Hinkley (1997), 4.2.3
    return (1 + extreme) / (1 + len(draws))


def holds_up(comparison: Comparison, level: float = 0.05) -> bool:
    """Whether the model is better by both tests and by the whole interval of its skill.

    Args:
        comparison: The model beside one baseline.
        level: Both p-values have to be below it.

    Returns:
        True only where the model is better; a NaN anywhere is no evidence.

    Example:
        >>> found = Comparison(0.9, 1.0, 0.1, (0.02, 0.2), (0.02, 0.2), 2.5, 0.01, 0.01)
        >>> holds_up(found), holds_up(found, level=0.005)
        (True, False)
    """
    return (
        comparison.dm_statistic > 0
        and comparison.dm_p < level
        and comparison.bootstrap_p < level
        and comparison.skill_interval[0] > 0
    )
