"""Is a smaller loss more than luck? Tests that respect overlapping targets and shared dates.

Shapes: n rows, one per forecast; k models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import SPA
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.series import (
    ROUNDING,
    bootstrap_means,
    clustered_by_date,
    is_constant,
    mean_block,
    variance_of_mean,
)


@dataclass(frozen=True)
class Comparison:
    """A model against one baseline; signed values are above 0 where the model is better.

    Attributes:
        loss_model: Mean loss of the model.
        loss_baseline: Mean loss of the baseline on the same rows.
        skill: 1 - loss_model / loss_baseline; NaN where the baseline has no loss.
        skill_interval: 95 % bootstrap interval of `skill`.
        difference_interval: 95 % bootstrap interval of loss_baseline - loss_model.
        dm_statistic: Diebold-Mariano statistic of loss_baseline - loss_model.
        dm_p: Its two-sided p-value.
        bootstrap_p: Two-sided p-value of the mean difference by the stationary bootstrap.
        standard_error: That of the mean difference in the Diebold-Mariano test; 0 where the test has no evidence.
        rows: Rows that both forecast.
        dates: Their dates.
    """

    loss_model: float
    loss_baseline: float
    skill: float
    skill_interval: tuple[float, float]
    difference_interval: tuple[float, float]
    dm_statistic: float
    dm_p: float
    bootstrap_p: float
    standard_error: float = 0.0
    rows: int = 0
    dates: int = 0


def compare(
    loss_model: ArrayLike,
    losses_baselines: Mapping[str, ArrayLike],
    date: Any,
    horizon: int,
    resamples: int,
    seed: int,
) -> dict[str, Comparison]:
    """Compares the model's losses with those of each baseline, on the rows that the baseline knows.

    Args:
        loss_model: Loss of each forecast, (n,), at least one row, no NaN.
        losses_baselines: Name of the baseline -> its losses of the same rows, (n,); NaN where it has no forecast, but
            not everywhere. Baselines that know the same rows are compared on the same draws.
        date: Date of each row, (n,); rows of one date count as one observation.
        horizon: Steps that a target spans, at least 1.
        resamples: Draws of the bootstrap.
        seed: Makes the bootstrap repeatable.

    Returns:
        Name of the baseline -> comparison.

    Example:
        >>> losses = np.random.default_rng(0).chisquare(1, 300)
        >>> compared = compare(losses, {"zero": losses + 0.5}, np.arange(300) // 3, horizon=1, resamples=99, seed=0)
        >>> round(compared["zero"].loss_baseline - compared["zero"].loss_model, 6)
        0.5
    """
    model, dates = np.asarray(loss_model, dtype=np.float64), pd.Index(date)
    losses = {name: np.asarray(values, dtype=np.float64) for name, values in losses_baselines.items()}
    alike: dict[bytes, list[str]] = {}
    for name, values in losses.items():
        alike.setdefault(np.isnan(values).tobytes(), []).append(name)
    compared = {}
    for names in alike.values():
        known = ~np.isnan(losses[names[0]])
        daily = clustered_by_date(np.column_stack([model, *(losses[name] for name in names)])[known], dates[known])
        draws = bootstrap_means(daily, horizon, resamples, seed)
        rows = int(known.sum())
        for number, name in enumerate(names, start=1):
            compared[name] = _comparison(daily[:, [0, number]], draws[:, [0, number]], horizon, rows)
    return {name: compared[name] for name in losses}


def _comparison(daily: Floats, draws: Floats, horizon: int, rows: int) -> Comparison:
    """`daily` losses (dates, 2) of so many rows and their resampled means (resamples, 2), model first."""
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
        standard_error=standard_error(series, horizon),
        rows=rows,
        dates=len(daily),
    )


def _skill(means: Floats) -> Floats:
    baseline = np.where(means[:, 1] == 0, np.nan, means[:, 1])
    skill: Floats = 1 - means[:, 0] / baseline
    return skill


def _interval(draws: Floats) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _recentred_p(mean: float, draws: Floats) -> float:
    """Share of draws, centred at 0 as if there were no difference, that lie as far out as the mean does."""
    distance = np.abs(draws - mean)
    # a draw as far out as the mean counts, whatever the last bits of its sum are
    extreme = np.count_nonzero(distance >= abs(mean) * (1 - ROUNDING))
    # the sample itself counts as one draw, so that no p is 0: Davison and Hinkley (1997), 4.2.3
    return (1 + extreme) / (1 + len(draws))


def diebold_mariano(series: ArrayLike, horizon: int) -> tuple[float, float]:
    """Test of equal accuracy by Diebold and Mariano (1995), with the small-sample correction of Harvey et al. (1997).

    Targets of `horizon` steps overlap, so neighbouring losses are related: the variance has `horizon` - 1 lags. All
    count in full, as in both papers. Falling weights, as those of Newey and West, reject twice as often on pure noise
    (5-step sums, 250 rows, level 5 %: 11.5 % instead of 5.5 %). They are used where the sum is not above 0.

    Args:
        series: Loss differences in the order of time, one per date, (n,).
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
    error = standard_error(values, horizon)
    if error == 0:
        return 0.0, 1.0
    statistic = float(values.mean() / error)
    return statistic, float(2 * student_t.sf(abs(statistic), len(values) - 1))


def standard_error(series: ArrayLike, horizon: int) -> float:
    """Standard error of the mean loss difference in `diebold_mariano`, its small-sample correction included.

    Args:
        series: Loss differences in the order of time, one per date, (n,).
        horizon: Steps that a target spans, at least 1.

    Returns:
        The error; 0 where the series is constant or no longer than the horizon, so that it says nothing.

    Example:
        >>> round(standard_error([1.0, 2.0, 3.0, 4.0], horizon=1), 4)
        0.6455
    """
    values = np.asarray(series, dtype=np.float64)
    rows = len(values)
    if rows <= horizon or is_constant(values):
        return 0.0
    variance = variance_of_mean(values, np.ones(horizon))
    if variance <= 0:
        variance = variance_of_mean(values, 1 - np.arange(horizon) / horizon)
    correction = (rows + 1 - 2 * horizon + horizon * (horizon - 1) / rows) / rows
    return float(np.sqrt(variance / correction))


def superior_predictive_ability(
    loss_baseline: ArrayLike, losses_models: ArrayLike, date: Any, horizon: int, resamples: int = 1000, seed: int = 0
) -> float:
    """Test of Hansen (2005): is the best of many models better than a baseline, allowing for the choice among them?

    The null hypothesis is that no model has a smaller expected loss than the baseline. Differences are divided by their
    standard deviation, which arch leaves to the caller (8.0), so that an erratic model does not hide a steady one.
    Hansen divides by the standard error, whose noise makes the best of many look better: with 20 useless models on 300
    dates, at a level of 5 %, it rejects in 7.5 % one step ahead and in 14 % five steps ahead, against 6 % and 11 % with
    the standard deviation.

    Args:
        loss_baseline: Loss of each forecast of the baseline, (n,).
        losses_models: Losses of the models on the same rows, (n, k).
        date: Date of each row, (n,); rows of one date count as one observation.
        horizon: Steps that a target spans, at least 1.
        resamples: Draws of the stationary bootstrap.
        seed: Makes the draws repeatable.

    Returns:
        The consistent p-value; 1 where all models differ from the baseline by a constant, which is not evidence.

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
