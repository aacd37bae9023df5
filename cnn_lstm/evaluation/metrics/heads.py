"""The distribution that a model's own head forecasts, read from the columns of a predictions table.

Each distribution answers for all its rows at once: distribution function, quantiles, mean below a quantile, and CRPS.
Shapes: n rows, one per forecast; k components of a mixture.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import beta, ndtr, ndtri, stdtr, stdtrit

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.metrics.distribution import gaussian_crps
from cnn_lstm.model.objectives.mixture import components_of

HALVINGS = 60  # of the bracket of a mixture's quantile: to the last digit


@dataclass(frozen=True)
class Head(ABC):
    """A distribution of each row; the fields of a subclass are arrays whose first axis has the rows, n."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the distribution is called."""

    @abstractmethod
    def cdf(self, value: Floats) -> Floats:
        """Probability of at most the value of the row, (n,) each."""

    @abstractmethod
    def quantile(self, level: ArrayLike) -> Floats:
        """Value, (n,), that has the probability `level`, one number or (n,), below it."""

    @abstractmethod
    def lower_mean(self, level: float) -> Floats:
        """Mean below the quantile of a level, (n,): minus the expected shortfall."""

    @abstractmethod
    def crps(self, true: Floats) -> Floats:
        """Continuous ranked probability score against the truth, (n,) each, in its unit."""

    def take(self, rows: Any) -> Self:
        """The same of some of the rows, which an index or a mask names."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class NormalHead(Head):
    """Normal distributions.

    Attributes:
        mean: Mean, (n,).
        std: Standard deviation, (n,), above 0.

    Example:
        >>> head = NormalHead(np.zeros(1), np.ones(1))
        >>> head.quantile(0.05).round(3).tolist(), head.lower_mean(0.05).round(3).tolist()
        ([-1.645], [-2.063])
    """

    mean: Floats
    std: Floats

    @property
    def name(self) -> str:
        """See `Head.name`."""
        return "normal"

    def cdf(self, value: Floats) -> Floats:
        """See `Head.cdf`."""
        return np.asarray(ndtr((value - self.mean) / self.std))

    def quantile(self, level: ArrayLike) -> Floats:
        """See `Head.quantile`."""
        return np.asarray(self.mean + self.std * ndtri(level))

    def lower_mean(self, level: float) -> Floats:
        """See `Head.lower_mean`."""
        return np.asarray(self.mean - self.std * stats.norm.pdf(ndtri(level)) / level)

    def crps(self, true: Floats) -> Floats:
        """See `Head.crps`."""
        return gaussian_crps(true, self.mean, self.std)


@dataclass(frozen=True)
class StudentHead(Head):
    """Student's t distributions with Hansen's skew: two halves of a t distribution, of different widths, at a mode.

    Attributes:
        mean: Mean, (n,).
        std: Standard deviation, (n,), above 0.
        df: Degrees of freedom, (n,), above 2.
        skew: Hansen's lambda, (n,), between -1 and 1; 0 for the symmetric distribution.

    Source:
        Hansen (1994), Autoregressive Conditional Density Estimation, equations 10 to 13. The CRPS follows from the
        integral of a squared t distribution function, as in Jordan, Krueger and Lerch (2019), Evaluating Probabilistic
        Forecasts with scoringRules, appendix A.

    Example:
        >>> head = StudentHead(np.zeros(1), np.ones(1), np.full(1, 5.0), np.zeros(1))
        >>> head.quantile(0.01).round(3).tolist(), head.crps(np.zeros(1)).round(3).tolist()
        ([-2.606], [0.199])
    """

    mean: Floats
    std: Floats
    df: Floats
    skew: Floats

    @property
    def name(self) -> str:
        """See `Head.name`."""
        return "skewed Student's t" if np.any(self.skew) else "Student's t"

    @property
    def _mode_and_scale(self) -> tuple[Floats, Floats]:
        """Mode, and scale of the t distribution whose halves are 1 - skew and 1 + skew times as wide, (n,) each."""
        peak = stats.t.pdf(0.0, self.df) * np.sqrt(self.df / (self.df - 2))
        a = 4 * self.skew * peak * (self.df - 2) / (self.df - 1)
        b = np.sqrt(1 + 3 * self.skew**2 - a**2)
        return self.mean - self.std * a / b, self.std * np.sqrt((self.df - 2) / self.df) / b

    def cdf(self, value: Floats) -> Floats:
        """See `Head.cdf`."""
        mode, scale = self._mode_and_scale
        left, right = 1 - self.skew, 1 + self.skew
        below = left * stdtr(self.df, (value - mode) / (left * scale))
        return np.asarray(np.where(value < mode, below, 1 - right * stdtr(self.df, (mode - value) / (right * scale))))

    def quantile(self, level: ArrayLike) -> Floats:
        """See `Head.quantile`."""
        mode, scale = self._mode_and_scale
        left, right = 1 - self.skew, 1 + self.skew
        share = np.broadcast_to(np.asarray(level, dtype=np.float64), mode.shape)
        is_left = share < left / 2
        below = left * stdtrit(self.df, np.where(is_left, share / left, 0.5))
        above = -right * stdtrit(self.df, np.where(is_left, 0.5, (1 - share) / right))
        return np.asarray(mode + scale * np.where(is_left, below, above))

    def lower_mean(self, level: float) -> Floats:
        """See `Head.lower_mean`."""
        mode, scale = self._mode_and_scale
        left, right = 1 - self.skew, 1 + self.skew
        end = (self.quantile(level) - mode) / scale
        below = -(left**2) * self._tail_mean(np.minimum(end, 0) / left)
        above = right**2 * (self._tail_mean(np.zeros_like(end)) - self._tail_mean(np.maximum(end, 0) / right))
        return np.asarray(mode + scale * (below + above) / level)

    def crps(self, true: Floats) -> Floats:
        """See `Head.crps`."""
        mode, scale = self._mode_and_scale
        end = (true - mode) / scale
        # the score does not change when truth and distribution are mirrored
        side = np.where(end < 0, 1.0, -1.0)
        left, right, end = 1 - side * self.skew, 1 + side * self.skew, side * end
        zero = np.zeros_like(end)
        inner = -2 * left**2 * (self._first_integral(zero) - self._first_integral(end / left)) - end
        outer = left**3 * self._second_integral(zero) + right**3 * self._second_integral(zero)
        return np.asarray(scale * (inner + outer))

    def _tail_mean(self, x: Floats) -> Floats:
        """Integral of -u t(u) up to x, for the density t of the standard t distribution."""
        return np.asarray(stats.t.pdf(x, self.df) * (self.df + x**2) / (self.df - 1))

    def _first_integral(self, x: Floats) -> Floats:
        """Integral of its distribution function up to x."""
        return np.asarray(x * stdtr(self.df, x) + self._tail_mean(x))

    def _second_integral(self, x: Floats) -> Floats:
        """Integral of its squared distribution function up to x."""
        share = stdtr(self.df, x)
        whole = 2 * np.sqrt(self.df) / (self.df - 1) * beta(0.5, self.df - 0.5) / beta(0.5, self.df / 2) ** 2
        twice = 2 * self.df - 1
        part = whole * stdtr(twice, x * np.sqrt(twice / self.df))
        return np.asarray(x * share**2 + 2 * share * self._tail_mean(x) - part)


@dataclass(frozen=True)
class MixtureHead(Head):
    """Mixtures of normal distributions.

    Attributes:
        weights: Weights of the components, (n, k), that add up to 1.
        means: Their means, (n, k).
        spreads: Their standard deviations, (n, k), above 0.

    Source:
        Grimit, Gneiting, Berrocal and Johnson (2006), equation 5: the CRPS in closed form.

    Example:
        >>> head = MixtureHead(np.full((1, 2), 0.5), np.array([[-1.0, 1.0]]), np.ones((1, 2)))
        >>> head.cdf(np.zeros(1)).tolist(), head.quantile(0.5).round(6).tolist()
        ([0.5], [-0.0])
    """

    weights: Floats
    means: Floats
    spreads: Floats

    @property
    def name(self) -> str:
        """See `Head.name`."""
        return "normal mixture"

    def cdf(self, value: Floats) -> Floats:
        """See `Head.cdf`."""
        return np.asarray((self.weights * ndtr((value[:, None] - self.means) / self.spreads)).sum(axis=1))

    def quantile(self, level: ArrayLike) -> Floats:
        """See `Head.quantile`; by bisection between the components' quantiles."""
        share = np.broadcast_to(np.asarray(level, dtype=np.float64), len(self.means))
        each = self.means + self.spreads * ndtri(share)[:, None]
        low, high = each.min(axis=1), each.max(axis=1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = self.cdf(middle) < share
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def lower_mean(self, level: float) -> Floats:
        """See `Head.lower_mean`."""
        end = (self.quantile(level)[:, None] - self.means) / self.spreads
        each = self.means * ndtr(end) - self.spreads * stats.norm.pdf(end)
        return np.asarray((self.weights * each).sum(axis=1) / level)

    def crps(self, true: Floats) -> Floats:
        """See `Head.crps`."""
        error = _absolute_mean(true[:, None] - self.means, self.spreads)
        score = (self.weights * error).sum(axis=1)
        for k in range(self.means.shape[1]):  # one component at a time: an ensemble of mixtures has many pairs
            spread = np.hypot(self.spreads, self.spreads[:, k, None])
            pairs = _absolute_mean(self.means - self.means[:, k, None], spread)
            score -= 0.5 * self.weights[:, k] * (self.weights * pairs).sum(axis=1)
        return np.asarray(score)


@dataclass(frozen=True)
class SampleHead(Head):
    """Equally likely samples, as a forecaster of paths gives them.

    Attributes:
        samples: Samples of each row in ascending order, (n, S).

    Source:
        Gneiting and Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation, equation 21, for the
        CRPS of the empirical distribution.

    Example:
        >>> head = SampleHead(np.array([[1.0, 2.0, 3.0]]))
        >>> head.quantile(0.5).tolist(), head.crps(np.array([2.0])).round(3).tolist()
        ([2.0], [0.222])
    """

    samples: Floats

    @property
    def name(self) -> str:
        """See `Head.name`."""
        return f"{self.samples.shape[1]} samples"

    def cdf(self, value: Floats) -> Floats:
        """Rank of the value among the samples, between 0 and 1 in any case."""
        below = (self.samples < value[:, None]).sum(axis=1) + (self.samples <= value[:, None]).sum(axis=1)
        return np.asarray((below / 2 + 0.5) / (self.samples.shape[1] + 1))

    def quantile(self, level: ArrayLike) -> Floats:
        """See `Head.quantile`."""
        share = np.broadcast_to(np.asarray(level, dtype=np.float64), len(self.samples))
        place = share * (self.samples.shape[1] - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, self.samples.shape[1] - 1)
        rows = np.arange(len(self.samples))
        left, right = self.samples[rows, low], self.samples[rows, high]
        return np.asarray(left + (place - low) * (right - left))

    def lower_mean(self, level: float) -> Floats:
        """See `Head.lower_mean`."""
        inside = self.samples <= self.quantile(level)[:, None]
        return np.asarray((self.samples * inside).sum(axis=1) / inside.sum(axis=1))

    def crps(self, true: Floats) -> Floats:
        """See `Head.crps`."""
        number = self.samples.shape[1]
        weights = (2 * np.arange(1, number + 1) - number - 1) / number**2
        return np.asarray(np.abs(self.samples - true[:, None]).mean(axis=1) - self.samples @ weights)


def read_head(table: pd.DataFrame) -> Head | None:
    """The distribution that a head forecast, from a predictions table.

    Args:
        table: Rows of a predictions table, with `y_pred` and the columns of an objective: `weight_0`.., `mean_0`..,
            `std_0`.. of `Mixture`; `std`, `df` and `skew` of `SkewStudentT`; `std` and `df` of `StudentT`; `std` of
            `Gaussian`; or `sample_0`.. of a forecaster of paths.

    Returns:
        The distribution; None without these columns, or where a value in them is unknown or a spread is 0.

    Example:
        >>> table = pd.DataFrame({"y_pred": [0.0], "std": [1.0], "df": [4.0]})
        >>> read_head(table).quantile(0.05).round(3).tolist()
        [-1.507]
    """
    sampled = [str(name) for name in table if re.fullmatch(r"sample_\d+", str(name))]
    if len(sampled) > 1:
        samples = np.sort(table[sampled].to_numpy(np.float64), axis=1)
        return SampleHead(samples) if np.isfinite(samples).all() else None
    components = components_of([str(name) for name in table])
    if components:
        weights, means, spreads = (
            np.stack([_floats(table, f"{name}_{k}") for k in range(components)], axis=1)
            for name in ("weight", "mean", "std")
        )
        return _sound(MixtureHead(weights, means, spreads), spreads)
    if "std" not in table:
        return None
    mean, std = _floats(table, "y_pred"), _floats(table, "std")
    if "df" not in table:
        return _sound(NormalHead(mean, std), std)
    skew = _floats(table, "skew") if "skew" in table else np.zeros(len(mean))
    return _sound(StudentHead(mean, std, _floats(table, "df"), skew), std)


def _floats(table: pd.DataFrame, name: str) -> Floats:
    return table[name].to_numpy(np.float64)


def _sound(head: Head, spreads: Floats) -> Head | None:
    known = all(np.isfinite(getattr(head, field.name)).all() for field in fields(head))
    return head if known and bool((spreads > 0).all()) else None


def _absolute_mean(mean: Floats, std: Floats) -> Floats:
    """Mean of |X| for a normal X."""
    surprise = mean / std
    return np.asarray(2 * std * stats.norm.pdf(surprise) + mean * (2 * ndtr(surprise) - 1))
