"""Evidence that may be looked at on every date: an e-process and a confidence sequence of loss differences.

A test at 5 % keeps its level for one look at a date that was fixed in advance. Who looks every month and stops at the
first success finds something in a quarter of all cases where there is nothing. An e-process may be looked at as often
as one likes: it is the wealth of a gambler who starts with 1 and bets, date by date, that the model has the smaller
loss, in a game that nobody can win if the model is not better. By the inequality of Ville (1939) the wealth then
reaches 20 with a probability of at most 1/20, at whatever date one stops.

What is done: the scale s is the standard deviation of the first `BURN_IN` dates, on which nothing is bet. From then on
each of eight gamblers stakes a constant share k of his wealth, from 1/4 to 1/512 (`STAKES`); the wealth is their mean
by `WEIGHTS`. With x = d / s the scaled difference and g the mean of the scaled differences that are known so far, a
stake multiplies the wealth by min(max(1 + k (x - g), 0), 2) exp(k g), which for g = 0 is the bet of Waudby-Smith and
Ramdas (2024). Stakes that stay constant make a statement on the mean over time, so that a model may be better in some
months and worse in others (the weak null of Choe and Ramdas, 2023): (1 + y) exp(-y) <= 1 for each y, hence the wealth
divided by exp(k / s * sum of the conditional means) is a supermartingale, and the sum is at most 0 under the null.

What is assumed, and what is only approximate:

- Loss differences are unbounded. A factor below 0 counts as 0, which favours the gambler; a factor above 2 as 2, which
  costs him. The level is exact where, beyond s / k from the centre, the tail of losses is not heavier than the tail of
  gains: symmetry is enough, or a bound on the loss side. Rare disasters that have not happened yet are seen by no
  method.
- With a horizon h above 1 labels overlap. The h series of every h-th date do not overlap; each has a wealth of its own,
  and the mean of the h is reported (Arnold, Henzi and Ziegel, 2023). It is exact at dates fixed in advance. At a date
  chosen by looking at all h series it is approximate, since a neighbour's label tells of one's own (Choe and Ramdas,
  2024, Combining evidence across filtrations). The benchmark measures it: `python -m tests.benchmarks.anytime`.
- The confidence sequence takes the expectations of these h series for the same.
- As in the test of Diebold and Mariano, a delay between decision and label is not counted.

Every value at a date follows from the differences up to that date alone.

Shapes: n dates, h horizon, k stakes.

Sources:
    Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86.
    Choe and Ramdas (2023), Comparing sequential forecasters, Operations Research 72.
    Arnold, Henzi and Ziegel (2023), Sequentially valid tests for forecast calibration, AoAS 17.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_lstm.data.targets import Floats

THRESHOLD = 20.0  # wealth that counts as evidence: at most 1 in 20 series without skill ever reach it
BURN_IN = 30  # dates, the fewest that a test of one step may rest on
STAKES = 2.0 ** -np.arange(2, 10)  # shares of the wealth, per standard deviation
# most on 1/32 to 1/8: best for means of 3 to 13 % of a standard deviation, as small skills have them on 1,500 dates
WEIGHTS = np.array([2.0, 8.0, 12.0, 8.0, 2.0, 1.0, 1.0, 1.0]) / 35
LEAST_SCALE = 0.01  # of the root mean square, so that a constant difference has a scale too
BLOCK = 1 << 20  # numbers that are held at once
LARGEST = 690.0  # logarithm of the largest wealth that is written as a number
STEPS = 100  # of Newton; about six are taken


@dataclass(frozen=True)
class ConfidenceSequence:
    """Where the mean loss difference lies, for each date; infinite as long as nothing is known.

    Attributes:
        mean: Mean of the differences up to the date, (n,).
        low: Lower end, (n,).
        high: Upper end, (n,).
    """

    mean: Floats
    low: Floats
    high: Floats


def e_process(differences: ArrayLike, horizon: int = 1) -> Floats:
    """Evidence, date by date, that a model is better than a baseline on average; may be looked at on every date.

    Args:
        differences: Loss of the baseline - loss of the model, one per date in the order of time, (n,), no NaN.
        horizon: Steps that a target spans, at least 1.

    Returns:
        Wealth after each date, (n,), 1 at the start, at most e^690. Once it was `THRESHOLD` or more, there is evidence
        at the level of 5 %, whatever it does later.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=500)
        >>> wealth = e_process(noise)
        >>> float(wealth[0]), bool(wealth.max() < THRESHOLD)
        (1.0, True)
        >>> bool(e_process(noise + 0.3)[-1] > THRESHOLD)
        True
    """
    values = np.asarray(differences, dtype=np.float64)
    wealth = np.ones(len(values))
    for dates, intercept, _ in _wealth_lines(values, horizon):
        wealth[dates] = np.exp(np.minimum(_log_sum(intercept, 0.0)[0], LARGEST))
    return wealth


def confidence_sequence(
    differences: ArrayLike, horizon: int = 1, level: float = 0.05, at: ArrayLike | None = None
) -> ConfidenceSequence:
    """An interval of the mean loss difference for each date; all of them hold together with probability 1 - `level`.

    The lower end is the mean for which the wealth of `e_process` would be 2 / level, the upper end the same of the
    differences with the opposite sign. So the lower end of a level of 0.1 is above 0 where the wealth is above 20. What
    it covers at a date is the mean, over the dates so far, of what was to be expected: it may change over time.

    Args:
        differences: Loss of the baseline - loss of the model, one per date in the order of time, (n,), no NaN.
        horizon: Steps that a target spans, at least 1.
        level: Probability that the mean is outside of the interval on any date.
        at: Positions of the dates that are wanted, as of those that a plot shows, ascending; all by default.

    Returns:
        Mean and both ends after each of these dates.

    Example:
        >>> sequence = confidence_sequence(np.random.default_rng(0).normal(0.3, 1.0, size=500))
        >>> round(float(sequence.low[-1]), 2), round(float(sequence.mean[-1]), 2), round(float(sequence.high[-1]), 2)
        (0.13, 0.27, 0.43)
    """
    values = np.asarray(differences, dtype=np.float64)
    wanted = np.arange(len(values)) if at is None else np.asarray(at, dtype=np.int64)
    mean = (np.cumsum(values) / np.arange(1, len(values) + 1))[wanted]
    low, high = (sign * _lower_ends(sign * values, horizon, math.log(2 / level), wanted) for sign in (1.0, -1.0))
    return ConfidenceSequence(mean, low, high)


def _lower_ends(values: Floats, horizon: int, target: float, wanted: NDArray[np.int64]) -> Floats:
    """The mean at which the logarithm of the wealth is `target`, for each wanted date."""
    ends = np.full(len(wanted), -np.inf)
    for dates, intercept, slope in _wealth_lines(values, horizon):
        here = (wanted >= dates.start) & (wanted < dates.stop)
        rows = wanted[here] - dates.start
        ends[here] = _crossing(intercept[rows], slope[rows], target)
    return ends


def _wealth_lines(values: Floats, horizon: int) -> Iterator[tuple[slice, Floats, Floats]]:
    """Log wealth of each stake in each of the h series, weights included, as a line over the mean m under the null.

    Yields, for a block of dates after the burn-in, the dates, intercepts and slopes, (dates, h k) each: the wealth is
    the sum of exp(intercept - slope m).
    """
    first = _first_with_scale(values)
    known, begin = values[:first], first + horizon - 1
    if begin >= len(values):
        return
    scale = float(max(known.std(), LEAST_SCALE * np.sqrt(np.mean(known**2))))
    scaled = values / scale
    centre = np.cumsum(scaled)[begin - horizon : len(values) - horizon] / np.arange(first, len(values) - horizon + 1)
    grown = _bets(scaled[begin:], centre)
    carried = np.zeros((horizon, len(STAKES)))
    counts = np.zeros(horizon)
    size = max(1, BLOCK // (horizon * len(STAKES)))
    for start in range(0, len(grown), size):
        block = grown[start : start + size]
        series = (start + np.arange(len(block))) % horizon
        mine = series[:, None] == np.arange(horizon)
        # not by multiplication: a ruined gambler has minus infinity, and 0 times that is not a number
        logs = carried + np.cumsum(np.where(mine[:, :, None], block[:, None, :], 0.0), axis=0)
        bets = counts + np.cumsum(mine, axis=0)
        carried, counts = logs[-1], bets[-1]
        intercept = (logs + np.log(WEIGHTS / horizon)).reshape(len(block), -1)
        slope = (bets[:, :, None] * STAKES / scale).reshape(len(block), -1)
        yield slice(begin + start, begin + start + len(block)), intercept, slope


def _first_with_scale(values: Floats) -> int:
    """Number of dates that the scale follows from: `BURN_IN`, or more where all of these are 0."""
    nonzero = np.flatnonzero(values)
    return max(BURN_IN, int(nonzero[0]) + 1) if len(nonzero) else len(values)


def _bets(scaled: Floats, centre: Floats) -> Floats:
    """Logarithm of what each stake multiplies its wealth by on each date, (n, k)."""
    factor = np.clip(1 + np.multiply.outer(scaled - centre, STAKES), 0.0, 2.0)
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(factor) + np.multiply.outer(centre, STAKES)
    return logs


def _log_sum(intercept: Floats, mean: Floats | float, slope: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Logarithm of the sum of exp(intercept - slope mean) over the columns, (n,), and the share of each column."""
    lines = intercept - slope * np.reshape(mean, (-1, 1))
    top = lines.max(axis=1, keepdims=True)
    shares = np.exp(lines - np.where(np.isfinite(top), top, 0.0))
    total = shares.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (top + np.log(total))[:, 0], np.where(total > 0, shares / total, 0.0)


def _crossing(intercept: Floats, slope: Floats, target: float) -> Floats:
    """The mean, (n,), at which the falling convex log sum of the lines meets the target: Newton from the left."""
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = np.where(slope > 0, (intercept - target) / slope, -np.inf)  # where each line meets it by itself
    mean: Floats = alone.max(axis=1)
    rows = np.flatnonzero(np.isfinite(mean))
    for _ in range(STEPS):
        if not len(rows):
            break
        height, shares = _log_sum(intercept[rows], mean[rows], slope[rows])
        steepness = (shares * slope[rows]).sum(axis=1)
        step = (height - target) / steepness
        mean[rows] += step
        rows = rows[step > 1e-13 * np.maximum(np.abs(mean[rows]), 1 / slope[rows].max(axis=1))]
    return mean
