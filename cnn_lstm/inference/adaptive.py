"""Conformal prediction intervals whose level adapts to the coverage that was measured.

A forecast's score is the error in units of the label's scale, (y_true - y_pred) / scale, or 1 - p of the true class.
An interval spans the quantiles of the scores that are known: those of the validation part, which lie in the checkpoint,
and the symbol's own latest `RECENT`. Which quantiles, adapts: a miss lowers the level alpha, so that the next intervals
are wider; a hit raises it a little. Both happen only once the label of a forecast has ended.

Sources:
    Gibbs, Candes (2021), Adaptive Conformal Inference Under Distribution Shift. Lei, G'Sell, Rinaldo, Tibshirani,
    Wasserman (2018), Distribution-Free Predictive Inference for Regression: scaled scores. Sadinle, Lei, Wasserman
    (2019), Least Ambiguous Set-Valued Classifiers with Bounded Error Levels: the sets of classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypedDict, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

LEVELS = (50, 80, 90, 95)
WANTED = tuple((100 - level) / 100 for level in LEVELS)  # share of misses
GAMMA = 0.02
RECENT = 250
MOST_PENDING = 1_000_000  # decisions without a label
# below alpha = 0 no quantile is left: each further fall by this much doubles the range of all scores
DOUBLING = 0.1
MOST_DOUBLINGS = 50.0
ROUNDING = 1e-9  # a level that falls on a rank has that one, whatever the last bits of a sum of levels are

Forecast = tuple[float, ...]
Bound = TypeVar("Bound")


class Learnt(TypedDict):
    """What was learnt from labels, in plain values, which JSON keeps bit for bit.

    Attributes:
        alphas: The level of each of `LEVELS` as it stands.
        recent: Latest scores of the symbol, oldest first, at most `RECENT`.
        pending: Time of the decision, forecast and bounds of each forecast whose label has not ended.
    """

    alphas: list[float]
    recent: list[float]
    pending: list[tuple[int, list[float], list[Any]]]


class Adaptive(ABC, Generic[Bound]):
    """Bounds of one symbol's forecasts of one target, one forecast at a time.

    Args:
        scores: Ascending calibration scores, at least one.
    """

    def __init__(self, scores: Sequence[float]) -> None:
        self._calibration = tuple(scores)
        self._scores = list(scores)  # ascending, with the recent ones
        self._recent: deque[float] = deque()
        self._alphas = list(WANTED)
        self._pending: dict[int, tuple[Forecast, list[Bound]]] = {}

    @abstractmethod
    def bounds(self, forecast: Forecast) -> list[Bound]:
        """Bounds of a forecast at each of `LEVELS` as of now, each inside the next one's; changes nothing."""

    def bounds_of_all(self, forecasts: NDArray[np.float64]) -> Any:
        """`bounds` of many forecasts, one per row, before anything more is learnt.

        Args:
            forecasts: What `bounds` takes, (n, columns).
        """
        return [self.bounds(tuple(forecast)) for forecast in forecasts.tolist()]

    @abstractmethod
    def _score(self, forecast: Forecast, truth: float) -> float:
        """How far the truth lay from the forecast."""

    @abstractmethod
    def _covers(self, bound: Bound, truth: float) -> bool:
        """Whether the truth lay inside."""

    def _missed(self, bounds: Sequence[Bound], truth: float) -> list[bool]:
        """Whether the truth lay outside, at each of `LEVELS`."""
        return [not self._covers(bound, truth) for bound in bounds]

    def issue(self, as_of: int, forecast: Forecast) -> list[Bound]:
        """`bounds`, remembered until the label is observed.

        Args:
            as_of: Time of the decision, later than the last one's; any unit.
            forecast: What `bounds` takes.
        """
        bounds = self.bounds(forecast)
        self._pending[as_of] = forecast, bounds
        return bounds

    def observe(self, as_of: int, truth: float) -> None:
        """Learns from a label that has ended: in the order of the decisions, and before the next one is issued.

        Args:
            as_of: Time of the decision that the label belongs to. Older forecasts without a label are forgotten; a
                forecast that was not issued here is left alone.
            truth: The label; NaN where there is none.
        """
        while self._pending and (oldest := next(iter(self._pending))) <= as_of:
            forecast, bounds = self._pending.pop(oldest)
            if oldest == as_of and math.isfinite(truth):
                self._learn(self._score(forecast, truth), self._missed(bounds, truth))

    def _learn(self, score: float, missed: list[bool]) -> None:
        if not math.isfinite(score):
            return
        steps = zip(self._alphas, WANTED, missed, strict=True)
        self._alphas = [alpha + GAMMA * (wanted - miss) for alpha, wanted, miss in steps]
        self._recent.append(score)
        insort(self._scores, score)
        if len(self._recent) > RECENT:
            del self._scores[bisect_left(self._scores, self._recent.popleft())]

    def learnt(self) -> Learnt:
        """What was learnt so far; the calibration scores are not in it."""
        pending = [(as_of, list(forecast), bounds) for as_of, (forecast, bounds) in self._pending.items()]
        return {"alphas": list(self._alphas), "recent": list(self._recent), "pending": pending}

    def go_on(self, learnt: Learnt) -> None:
        """Goes on from what `learnt` of another object with the same arguments returned.

        Raises:
            ValueError: If a part of it cannot have been returned.
        """
        self._require_sound(learnt)
        self._alphas, self._recent = list(learnt["alphas"]), deque(learnt["recent"])
        self._scores = sorted([*self._calibration, *self._recent])
        self._pending = {
            as_of: (tuple(forecast), cast("list[Bound]", [tuple(bound) for bound in bounds]))  # JSON makes lists
            for as_of, forecast, bounds in learnt["pending"]
        }

    def _require_sound(self, learnt: Learnt) -> None:
        alphas, recent, pending = learnt["alphas"], learnt["recent"], learnt["pending"]
        numbers = [*alphas, *recent, *(number for _, forecast, _ in pending for number in forecast)]
        if not all(type(number) in (int, float) for number in numbers) or not all(map(math.isfinite, alphas + recent)):
            raise ValueError("numbers that cannot have been learnt")
        if len(alphas) != len(LEVELS) or len(recent) > RECENT or len(pending) > MOST_PENDING:
            raise ValueError("another number of levels or scores")
        times = [as_of for as_of, _, _ in pending]
        if not all(type(as_of) is int for as_of in times) or times != sorted(set(times)):
            raise ValueError("decisions out of their order")
        for _, forecast, bounds in pending:  # as `observe` will
            self._score(tuple(forecast), 0.0)
            if len([self._covers(cast("Bound", tuple(bound)), 0.0) for bound in bounds]) != len(LEVELS):
                raise ValueError("another number of bounds")


class AdaptiveIntervals(Adaptive[tuple[float, float]]):
    """Intervals of numbers: [y_pred + scale * low, y_pred + scale * high], between two quantiles of the scores.

    With n scores, the two are those of rank floor((n + 1) * alpha / 2) from below and from above; at least 1 - alpha of
    the next scores lie between them if the order of all means nothing. Where n is too small for that, the bounds are
    the extreme scores. Below alpha = 0 the extremes are moved away from the median, twice as far for each `DOUBLING`.

    Args:
        scores: Ascending calibration scores, at least one.
        typical_scale: Taken where a scale is 0 or unknown.
        positive: Whether the quantity cannot be below 0; then no bound is.

    Example:
        >>> intervals = AdaptiveIntervals([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
        >>> intervals.issue(1, (10.0, 2.0))[0]
        (6.0, 14.0)
        >>> for as_of in range(1, 5):  # always too low: the bounds follow
        ...     intervals.observe(as_of, 20.0)
        ...     latest = intervals.issue(as_of + 1, (10.0, 2.0))[0]
        >>> latest
        (8.0, 20.0)
    """

    def __init__(self, scores: Sequence[float], typical_scale: float = 1.0, positive: bool = False) -> None:
        super().__init__(scores)
        self.typical_scale, self.positive = typical_scale, positive

    def bounds(self, forecast: Forecast) -> list[tuple[float, float]]:
        """Lower and upper bound at each of `LEVELS`, of the forecast (y_pred, scale)."""
        y_pred, scale = forecast[0], self._known_scale(forecast[1])
        bounds = [(y_pred + scale * lowest, y_pred + scale * highest) for lowest, highest in self._nested()]
        return [(max(lower, 0.0), max(upper, 0.0)) for lower, upper in bounds] if self.positive else bounds

    def bounds_of_all(self, forecasts: NDArray[np.float64]) -> NDArray[np.float64]:
        """`bounds` of many forecasts (y_pred, scale), (n, 2) -> (n, levels, 2), with the same bits."""
        y_pred, scale = forecasts[:, 0, None, None], forecasts[:, 1, None, None]
        scale = np.where((scale > 0.0) & (scale < math.inf), scale, self.typical_scale)
        bounds: NDArray[np.float64] = y_pred + scale * np.array(self._nested())
        return np.where(bounds < 0.0, 0.0, bounds) if self.positive else bounds

    def _nested(self) -> list[tuple[float, float]]:
        """Two quantiles for each of `LEVELS`, each pair around the one before: levels adapt apart, and could cross."""
        scores, count = self._scores, len(self._scores)
        lowest, highest, pairs = math.inf, -math.inf, []
        for alpha in self._alphas:  # in plain steps: a table of years comes here thousands of times
            rank = int((count + 1) * (alpha if alpha < 1.0 else 1.0) / 2 + ROUNDING)
            low, high = (scores[rank - 1], scores[count - rank]) if rank >= 1 else self._extremes(alpha)
            lowest, highest = (low if low < lowest else lowest), (high if high > highest else highest)
            pairs.append((lowest, highest))
        return pairs

    def _extremes(self, alpha: float) -> tuple[float, float]:
        scores, count = self._scores, len(self._scores)
        if alpha >= 0:
            return scores[0], scores[-1]
        middle, stretch = scores[count // 2], 2.0 ** min(-alpha / DOUBLING, MOST_DOUBLINGS)
        return middle + stretch * (scores[0] - middle), middle + stretch * (scores[-1] - middle)

    def _known_scale(self, scale: float) -> float:
        return scale if 0.0 < scale < math.inf else self.typical_scale

    def _score(self, forecast: Forecast, truth: float) -> float:
        return (truth - forecast[0]) / self._known_scale(forecast[1])

    def _covers(self, bound: tuple[float, float], truth: float) -> bool:
        return bound[0] <= truth <= bound[1]

    def _missed(self, bounds: Sequence[tuple[float, float]], truth: float) -> list[bool]:
        return [not lower <= truth <= upper for lower, upper in bounds]


class AdaptiveSets(Adaptive[tuple[int, ...]]):
    """Sets of classes: all k with 1 - p_k up to a quantile of the scores, and always the most probable one.

    Example:
        >>> sets = AdaptiveSets([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
        >>> sets.bounds((0.7, 0.2, 0.1))
        [(0,), (0, 1), (0, 1, 2), (0, 1, 2)]
    """

    def bounds(self, forecast: Forecast) -> list[tuple[int, ...]]:
        """Classes at each of `LEVELS`, of the forecast (p_0, ..., p_{C-1})."""
        best = max(range(len(forecast)), key=forecast.__getitem__)
        bounds, count, widest = [], len(self._scores), 0.0
        for alpha in self._alphas:
            rank = min(int((count + 1) * min(alpha, 1.0) + ROUNDING), count)
            widest = max(widest, self._scores[count - rank] if rank >= 1 else 1.0)
            bounds.append(tuple(k for k, p in enumerate(forecast) if 1.0 - p <= widest or k == best))
        return bounds

    def _score(self, forecast: Forecast, truth: float) -> float:
        return 1.0 - forecast[int(truth)]

    def _covers(self, bound: tuple[int, ...], truth: float) -> bool:
        return truth in bound
