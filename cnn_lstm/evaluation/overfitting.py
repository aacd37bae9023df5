"""What the choice of the best of many trials is worth: whether it repeats itself, and among how many it was made.

Gains are how much less each trial loses than a forecast that all are compared with, one value per date, so that what
moves the losses of all trials alike, above all the size of the day's move, is taken away.

Shapes: D dates, N trials, S blocks of dates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import norm, rankdata

Matrix = NDArray[np.float64]
BLOCKS = 16
FEWEST_BLOCKS = 4
DATES_OF_A_BLOCK = 2
DRAWS = 4000
MOST_NUMBERS = 1 << 22  # of normal draws in memory at a time


@dataclass(frozen=True)
class Overfitting:
    """The combinatorially symmetric cross-validation of a choice.

    Attributes:
        pbo: Probability of backtest overfitting: how often the trial that is the best on one half of the dates is
            below the median of all trials on the other half; a trial at the median counts half.
        blocks: Blocks of dates, S.
        splits: How many halves there are, C(S, S / 2).
        loss_probability: How often that trial gains nothing on the other half.
    """

    pbo: float
    blocks: int
    splits: int
    loss_probability: float


def backtest_overfitting(gains: Matrix, blocks: int = BLOCKS) -> Overfitting | None:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    The dates are cut into S blocks. Each choice of S / 2 blocks is one half on which the best trial is chosen by its
    mean, and its rank r among the N trials on the other half has the logit ln(w / (1 - w)), w = r / (N + 1). The
    probability is the share of halves with a logit below 0 (Bailey, Borwein, Lopez de Prado, Zhu 2017, The probability
    of backtest overfitting). Useless trials have 0.5 on average, though a single sample of them may be far from it.

    Args:
        gains: Gain of each trial on each date in the order of time, (D, N).
        blocks: Blocks of dates, even; fewer if there are fewer than two dates for each.

    Returns:
        The result; None with fewer than two trials, or fewer than four blocks.

    Example:
        >>> steady = np.stack([np.zeros(64), np.full(64, 0.1), np.full(64, -0.1)], axis=1)
        >>> backtest_overfitting(steady)
        Overfitting(pbo=0.0, blocks=16, splits=12870, loss_probability=0.0)
    """
    dates, trials = gains.shape
    blocks = min(blocks, dates // DATES_OF_A_BLOCK) // 2 * 2
    if trials < 2 or blocks < FEWEST_BLOCKS:
        return None
    parts = np.array_split(gains, blocks)
    sums, counts = np.stack([part.sum(axis=0) for part in parts]), np.array([len(part) for part in parts])
    chosen = np.zeros((math.comb(blocks, blocks // 2), blocks), dtype=np.float64)
    places = np.array(list(combinations(range(blocks), blocks // 2)))
    np.put_along_axis(chosen, places, 1.0, axis=1)
    inside, outside = (halves @ sums / (halves @ counts)[:, None] for halves in (chosen, 1 - chosen))
    best = np.argmax(inside, axis=1)[:, None]
    rank = np.take_along_axis(rankdata(outside, axis=1), best, axis=1)[:, 0]
    median = (trials + 1) / 2
    below = np.mean(rank < median) + np.mean(rank == median) / 2
    lost = np.mean(np.take_along_axis(outside, best, axis=1) <= 0)
    return Overfitting(float(below), blocks, len(chosen), float(lost))


def effective_trials(gains: Matrix, draws: int = DRAWS, seed: int = 0) -> float | None:
    """How many independent trials would have a best one that is as lucky as that of these trials.

    The false-strategy theorem deflates the best of N independent trials by the expected maximum of N standard normal
    draws. Trials that resemble each other have the expected maximum E of normal draws with their correlation matrix C;
    their effective number n solves

        integral of x d(Phi(x)^n) = E max z, z ~ N(0, C).

    Identical trials are 1, uncorrelated ones N, and N with one common correlation c have sqrt(1 - c) of the maximum of
    N. The draws are z = G'g / sqrt(D) of the standardised gains G, (D, N), so that C need not be decomposed.

    Args:
        gains: Gain of each trial on each date, (D, N).
        draws: Draws of z.
        seed: Seed of the draws.

    Returns:
        A number from 1 to N, its standard error some percent of it; None with fewer than three dates, or where no trial
        differs from what it is compared with.

    Example:
        >>> alike = np.random.default_rng(0).normal(size=(250, 1)).repeat(5, axis=1)
        >>> effective_trials(alike)
        1.0
    """
    dates = len(gains)
    spread = gains.std(axis=0) if dates else np.zeros(gains.shape[1])
    moving = spread > 1e-12 * np.abs(gains).max(initial=0)
    if dates < 3 or not moving.any():
        return None
    standard = (gains[:, moving] - gains[:, moving].mean(axis=0)) / spread[moving]
    count = standard.shape[1]
    return independent_trials(_expected_maximum(standard, draws, seed), count)


def _expected_maximum(standard: Matrix, draws: int, seed: int) -> float:
    """Mean of max z over antithetic draws of z ~ N(0, C), of standardised gains, (D, N)."""
    random, total, done = np.random.default_rng(seed), 0.0, 0
    size = max(MOST_NUMBERS // len(standard), 1)
    while done < draws:
        part = min(size, draws - done)
        z = random.standard_normal((part, len(standard))) @ standard / math.sqrt(len(standard))
        total += float((z.max(axis=1) - z.min(axis=1)).sum()) / 2
        done += part
    return total / draws


def independent_trials(maximum: float, most: int) -> float:
    """The number n for which n independent standard normal draws have this expected maximum, from 1 to `most`.

    Example:
        >>> round(independent_trials(expected_maximum(20.0), 100), 6)
        20.0
    """
    if most == 1 or maximum <= 1e-9:
        return 1.0
    if maximum >= expected_maximum(most):
        return float(most)
    return float(brentq(lambda count: expected_maximum(count) - maximum, 1.0, float(most), xtol=1e-9))


def expected_maximum(count: float) -> float:
    """Expected maximum of independent standard normal draws, whose number need not be whole.

    Example:
        >>> round(expected_maximum(2), 6) == round(1 / math.sqrt(math.pi), 6), abs(expected_maximum(1)) < 1e-9
        (True, True)
    """
    value, _ = quad(lambda x: x * count * norm.pdf(x) * math.exp((count - 1) * log_ndtr(x)), -12, 12, limit=200)
    return float(value)
