"""Has a series become worse than its reference? A cumulative sum that may be looked at every day.

Shapes: m reference dates, n dates in service, in the order of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from arch.bootstrap import StationaryBootstrap
from numpy.typing import NDArray

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.series import is_constant, mean_block

YEAR = 250  # dates of daily looks that a threshold is made for
ALLOWANCE = 0.25  # standard deviations that a mean may worsen by without adding to the sum: half of what is sought
FEWEST = 60  # reference dates that a threshold may rest on
DRAWS = 2000
BLOCK = 10  # dates, the least mean length of a block: two weeks, over which losses are related
HALF_LIFE = 20  # dates of the scale that losses are divided by
CLIPPED = 0.05  # share of the reference on either side that is drawn in: a single date must not raise an alarm


@dataclass(frozen=True)
class Detection:
    """The cumulative sum over the dates in service, and the threshold that it must not pass.

    Attributes:
        statistic: Sum after each date, (n,); 0 where nothing speaks for a worse mean.
        threshold: Alarm level, from the reference alone; infinite where the reference is too short or constant.

    Example:
        >>> detection = Detection(np.array([0.0, 3.0, 6.0, 5.0]), threshold=4.0)
        >>> detection.alarm, detection.share
        (2, 1.25)
        >>> Detection(np.array([5.0, 0.0, 1.0]), threshold=4.0).recovered
        True
    """

    statistic: Floats
    threshold: float

    @property
    def alarm(self) -> int | None:
        """The date, counted from 0, of the alarm that stands; None without one.

        An alarm stands until the sum is back at 0, so that it does not come and go from one evening to the next.
        """
        alarm = None
        for date, value in enumerate(self.statistic):
            if value > self.threshold and alarm is None:
                alarm = date
            if value == 0:
                alarm = None
        return alarm

    @property
    def recovered(self) -> bool:
        """Whether there was an alarm that stands no more."""
        return self.alarm is None and bool((self.statistic > self.threshold).any())

    @property
    def begun(self) -> int | None:
        """The date, counted from 0, from which on the sum has been above 0: the best guess of when it began."""
        if not len(self.statistic) or self.statistic[-1] == 0:
            return None
        zeros = np.flatnonzero(self.statistic == 0)
        return int(zeros[-1]) + 1 if len(zeros) else 0

    @property
    def share(self) -> float:
        """Last sum as a share of the threshold; 0 before the first date."""
        return float(self.statistic[-1] / self.threshold) if len(self.statistic) else 0.0


def detect_worse(
    reference: Floats, service: Floats, horizon: int = 1, error: float = 0.02, least: float | None = None, seed: int = 0
) -> Detection:
    """Watches for a mean above that of a reference.

    The sum is Page's (1954), S = max(0, S + (x - mean) / std - allowance), with mean and std of the reference. Its
    threshold is the level that the largest sum of a year of daily looks passes with probability `error` while nothing
    changes. It comes from the stationary bootstrap (Politis and Romano 1994) of the reference: each draw makes a
    reference and a year of blocks, so that heavy tails, related neighbours and the error of the estimated mean count.

    What is assumed: that a calm year is like the reference. What is approximate: dependence that is longer than a
    block. The longer the service goes on, the more false alarms there are: about `error` a year.

    Args:
        reference: Values of the reference, (m,); higher is worse.
        service: Values since, (n,).
        horizon: Steps that a label spans: labels of neighbouring dates overlap.
        error: Probability of a false alarm in a year of daily looks.
        least: Mean that is promised: the reference's own counts where it is higher.
        seed: Makes the draws repeatable.

    Returns:
        The sum and its threshold; it says nothing of a reference that is short or constant.

    Source:
        Page (1954), Continuous Inspection Schemes; Chatterjee and Qiu (2009), Distribution-free cumulative sum control
        charts using bootstrap-based control limits.

    Example:
        >>> random = np.random.default_rng(0)
        >>> reference, calm = random.normal(size=500), random.normal(size=60)
        >>> detect_worse(reference, calm).alarm, detect_worse(reference, calm + 1).alarm
        (None, 16)
    """
    if len(reference) < max(FEWEST, 5 * horizon) or is_constant(reference):
        return Detection(np.zeros(len(service)), np.inf)
    mean = float(reference.mean()) if least is None else max(float(reference.mean()), least)
    path = _sums((service - mean)[None] / reference.std())[0]
    return Detection(path, _threshold(reference, horizon, error, seed))


def steady_scores(reference: Floats, service: Floats) -> tuple[Floats, Floats]:
    """Loss differences on one scale, without outliers: what `detect_worse` can sum up.

    The size of losses comes and goes with volatility. Each value is divided by the mean size of those before it, whose
    weights halve every 20 dates, so that no value is scaled by itself or by a later one. Then values beyond the 5 % and
    95 % quantiles of the reference are drawn in to these.

    Args:
        reference: Values of the reference, (m,), which the service follows.
        service: Values since, (n,).

    Example:
        >>> reference, service = steady_scores(np.array([1.0, -1.0] * 50), np.array([100.0, -1.0]))
        >>> service.round(2).tolist()
        [1.0, -0.23]
    """
    sizes = np.abs(np.concatenate([reference, service]))
    weight = 1 - 0.5 ** (1 / HALF_LIFE)
    scale, usual = np.empty(len(sizes)), float(sizes[: min(len(reference), 2 * HALF_LIFE)].mean())
    least = 1e-3 * (float(sizes[: len(reference)].mean()) or 1.0)
    for date, size in enumerate(sizes):
        scale[date] = max(usual, least)
        usual += weight * (size - usual)
    scores = np.concatenate([reference, service]) / scale
    low, high = np.quantile(scores[: len(reference)], [CLIPPED, 1 - CLIPPED])
    scores = np.clip(scores, low, high)
    return scores[: len(reference)], scores[len(reference) :]


def _sums(standardised: Floats) -> Floats:
    """Page's sums of rows of standardised values, (r, n)."""
    path, sums = np.empty_like(standardised), np.zeros(len(standardised))
    for date in range(standardised.shape[1]):
        sums = np.maximum(0.0, sums + standardised[:, date] - ALLOWANCE)
        path[:, date] = sums
    return path


def _threshold(reference: Floats, horizon: int, error: float, seed: int) -> float:
    """Quantile of the largest sum of a year in which nothing has changed.

    Blocks keep what relates neighbours, but their draws vary much from one short reference to the next. Where they
    happen to promise a calmer year than single dates do, single dates count.
    """
    of_blocks = max(mean_block(len(reference), horizon), BLOCK)
    return max(_quantile_of_largest(reference, block, error, seed) for block in (1, of_blocks))


def _quantile_of_largest(reference: Floats, block: int, error: float, seed: int) -> float:
    drawn, years = (reference[rows] for rows in _draws(len(reference), block, seed))
    stds = np.maximum(drawn.std(axis=1, keepdims=True), 1e-3 * reference.std())  # a draw may be constant
    largest = _sums((years - drawn.mean(axis=1, keepdims=True)) / stds).max(axis=1)
    return float(np.quantile(largest, 1 - error))


@lru_cache(maxsize=8)
def _draws(rows: int, block: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the drawn references, (DRAWS, rows), and of the drawn years, (DRAWS, YEAR); they depend on no value."""
    bootstrap = StationaryBootstrap(block, np.arange(rows), seed=seed)
    references = np.stack([bootstrap.update_indices() for _ in range(DRAWS)])
    pieces = -(-YEAR // rows)
    years = np.stack([bootstrap.update_indices() for _ in range(DRAWS * pieces)])
    return references, years.reshape(DRAWS, -1)[:, :YEAR]
