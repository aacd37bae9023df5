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

import logging
import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo, describe_targets, target_infos
from cnn_lstm.errors import CheckpointError

log = logging.getLogger(__name__)
LEVELS = (50, 80, 90, 95)
GAMMA = 0.02
RECENT = 250
# below alpha = 0 no quantile is left: each further fall by this much doubles the range of all scores
DOUBLING = 0.1
MOST_DOUBLINGS = 50.0
MOST_DIGITS = 10
ROUNDING = 1e-9  # a level that falls on a rank has that one, whatever the last bits of a sum of levels are

LEARNT = ("alphas", "recent", "pending")
NO_TIME = np.iinfo(np.int64).min  # NaT as a number

Forecast = tuple[float, ...]
Key = tuple[str, str]  # target, symbol
Bound = TypeVar("Bound")


class Adaptive(ABC, Generic[Bound]):
    """Bounds of one symbol's forecasts of one target, a forecast at a time.

    Args:
        scores: Ascending calibration scores, at least one.
    """

    def __init__(self, scores: Sequence[float]) -> None:
        self._calibration = tuple(scores)
        self._scores = list(scores)  # ascending, with the recent ones
        self._recent: deque[float] = deque()
        self._alphas = [_alpha(level) for level in LEVELS]
        self._pending: dict[int, tuple[Forecast, list[Bound]]] = {}

    @abstractmethod
    def bounds(self, forecast: Forecast) -> list[Bound]:
        """Bounds of a forecast at each of `LEVELS` as of now, each inside the next one's; changes nothing."""

    @abstractmethod
    def _score(self, forecast: Forecast, truth: float) -> float:
        """How far the truth lay from the forecast."""

    @abstractmethod
    def _covers(self, bound: Bound, truth: float) -> bool:
        """Whether the truth lay inside."""

    def issue(self, as_of: int, forecast: Forecast) -> list[Bound]:
        """`bounds`, remembered until the label is observed.

        Args:
            as_of: Time of the decision, later than the last one's; any unit.
            forecast: What `bounds` takes.
        """
        found = self.bounds(forecast)
        self._pending[as_of] = forecast, found
        return found

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
                self._learn(self._score(forecast, truth), [not self._covers(bound, truth) for bound in bounds])

    def _learn(self, score: float, missed: list[bool]) -> None:
        if not math.isfinite(score):
            return
        for k, (level, miss) in enumerate(zip(LEVELS, missed, strict=True)):
            self._alphas[k] += GAMMA * (_alpha(level) - miss)
        self._recent.append(score)
        insort(self._scores, score)
        if len(self._recent) > RECENT:
            del self._scores[bisect_left(self._scores, self._recent.popleft())]

    def to_dict(self) -> dict[str, Any]:
        """The whole state in plain values, which JSON keeps bit for bit."""
        pending = [[as_of, list(forecast), bounds] for as_of, (forecast, bounds) in self._pending.items()]
        return {
            **self._arguments(),
            "alphas": list(self._alphas),
            "recent": list(self._recent),
            "pending": pending,
        }

    def _arguments(self) -> dict[str, Any]:
        return {"scores": list(self._calibration)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Goes on where `to_dict` left off."""
        given = dict(state)
        alphas, recent, pending = (given.pop(name) for name in ("alphas", "recent", "pending"))
        found = cls(**given)
        found._alphas, found._recent = list(alphas), deque(recent)
        found._scores = sorted([*found._calibration, *recent])
        found._pending = {
            as_of: (tuple(forecast), [cls._plain_bound(bound) for bound in bounds])
            for as_of, forecast, bounds in pending
        }
        return found

    @staticmethod
    def _plain_bound(bound: Any) -> Any:
        """A bound as JSON gives it back."""
        return tuple(bound)


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
        found = []
        lowest, highest = math.inf, -math.inf
        for alpha in self._alphas:
            low, high = self._quantiles(alpha)
            lowest, highest = min(low, lowest), max(high, highest)  # levels adapt apart, and could cross
            lower, upper = y_pred + scale * lowest, y_pred + scale * highest
            found.append((max(lower, 0.0), max(upper, 0.0)) if self.positive else (lower, upper))
        return found

    def _quantiles(self, alpha: float) -> tuple[float, float]:
        scores, count = self._scores, len(self._scores)
        rank = int((count + 1) * min(alpha, 1.0) / 2 + ROUNDING)
        if rank >= 1:
            return scores[rank - 1], scores[count - rank]
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

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "typical_scale": self.typical_scale, "positive": self.positive}


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
        found = []
        widest = 0.0
        for alpha in self._alphas:
            widest = max(widest, self._quantile(alpha))
            found.append(tuple(k for k, p in enumerate(forecast) if 1.0 - p <= widest or k == best))
        return found

    def _quantile(self, alpha: float) -> float:
        count = len(self._scores)
        rank = min(int((count + 1) * min(alpha, 1.0) + ROUNDING), count)
        return self._scores[count - rank] if rank >= 1 else 1.0

    def _score(self, forecast: Forecast, truth: float) -> float:
        return 1.0 - forecast[int(truth)]

    def _covers(self, bound: tuple[int, ...], truth: float) -> bool:
        return truth in bound


def _alpha(level: int) -> float:
    return (100 - level) / 100


def add_intervals(table: pd.DataFrame, calibration: Mapping[str, Any] | None, boundary: str) -> pd.DataFrame:
    """The predictions table with conformal intervals.

    Adaptation begins with the first forecast of a symbol at or after the boundary, with the symbol alone, and with
    labels that have ended by the decision. Earlier forecasts have the intervals of the calibration scores alone. A
    table that begins later than the boundary begins to adapt at its own first row.

    Args:
        table: As `predictions_table` returns it: sorted by target, symbol and date.
        calibration: `contract["calibration"]` of the checkpoint; without one the table stays as it is.
        boundary: First date of the test part of the checkpoint, ISO, UTC.

    Returns:
        The table with `lower_50`, `upper_50`, ..., `upper_95`, or for classes `set_50`, ...: the classes in the set,
        as "0" or "02", with blanks between them where there are more than ten. `attrs["targets"]` has the calibration
        scores of each target as `scores`. A scale that is 0 or unknown becomes the typical one.

    Raises:
        CheckpointError: If the calibration is damaged.
    """
    if not calibration:
        log.warning("no intervals: the checkpoint has no calibration scores, train again to have them")
        return table
    start = _microseconds(boundary)
    return _widened(table, calibration, lambda _, series, rows, fresh: series.replay(fresh, rows, start))


class LiveIntervals:
    """The bounds of `add_intervals` for forecasts that come one at a time, with the same bits.

    Args:
        calibration: `contract["calibration"]` of the checkpoint; without one, tables stay as they are.
        boundary: First date of the test part of the checkpoint, ISO, UTC.
    """

    def __init__(self, calibration: Mapping[str, Any] | None, boundary: str) -> None:
        self._calibration, self._start = calibration, _microseconds(boundary)
        self._adaptive: dict[Key, Adaptive[Any]] = {}

    def begin(self, table: pd.DataFrame) -> None:
        """Learns from a history: the predictions table of all forecasts since the boundary, without intervals."""
        if self._calibration:
            _widened(table, self._calibration, self._relive)

    def add(self, table: pd.DataFrame) -> pd.DataFrame:
        """A predictions table of at most one forecast a target and symbol, with intervals; remembers the forecasts."""
        return _widened(table, self._calibration, self._issue) if self._calibration else table

    def observe(self, target: str, symbol: str, as_of: int, truth: float) -> None:
        """Learns from a label that has ended.

        Args:
            target: Name of the target.
            symbol: Name of the symbol.
            as_of: Time of the decision that the label belongs to, in microseconds.
            truth: The label; NaN where there is none.
        """
        adaptive = self._adaptive.get((target, symbol))
        if adaptive is not None:
            adaptive.observe(as_of, truth)

    def to_plain(self) -> list[list[Any]]:
        """What was learnt, in plain values; the calibration scores stay in the checkpoint."""
        states = ((key, adaptive.to_dict()) for key, adaptive in self._adaptive.items())
        return [[*key, {name: state[name] for name in LEARNT}] for key, state in states]

    def go_on(self, plain: Sequence[Sequence[Any]], targets: Mapping[str, TargetInfo]) -> None:
        """Goes on where `to_plain` left off.

        Args:
            plain: What it returned.
            targets: What a predictions table says of each target.
        """
        names = list(targets)
        for target, symbol, state in plain if self._calibration else ():
            fresh = _adaptive_of(self._calibration or {}, names.index(target), targets[target])
            self._adaptive[target, symbol] = type(fresh).from_dict({**fresh.to_dict(), **state})

    def _issue(
        self, key: Key, series: _Series, rows: NDArray[np.int64], fresh: Adaptive[Bound]
    ) -> Iterator[list[Bound]]:
        adaptive = self._adaptive.setdefault(key, fresh)
        for row in rows.tolist():
            as_of, forecast = int(series.as_of[row]), tuple(series.forecast[row].tolist())
            yield adaptive.bounds(forecast) if as_of < self._start else adaptive.issue(as_of, forecast)

    def _relive(
        self, key: Key, series: _Series, rows: NDArray[np.int64], fresh: Adaptive[Bound]
    ) -> Iterator[list[Bound]]:
        # as `_Series.replay`, but a label that has not ended must stay open, and not be taken as one that never will
        self._adaptive[key] = fresh
        ended = [int(row) for row in rows if series.end[row] != NO_TIME]
        for row in rows.tolist():
            while ended and series.end[ended[0]] <= series.as_of[row]:
                self.observe(*key, int(series.as_of[ended[0]]), float(series.truth[ended[0]]))
                ended.pop(0)
            yield from self._issue(key, series, np.array([row]), fresh)
        for row in ended:
            self.observe(*key, int(series.as_of[row]), float(series.truth[row]))


def _microseconds(moment: str) -> int:
    return int(np.datetime64(moment, "us").astype(np.int64))


def _widened(table: pd.DataFrame, calibration: Mapping[str, Any], bounds_of: Callable[..., Any]) -> pd.DataFrame:
    """The table with the bounds that a function gives the forecasts of each target and symbol."""
    targets = target_infos(table)
    _require_sound(calibration, len(targets))
    widened = table.copy()
    widened.attrs = {}  # pandas copies them with every piece of the table
    classes = max(about.classes for about in targets.values())
    numbers = {name: k for k, name in enumerate(targets)}
    widened["scale"] = _known_scales(widened, dict(zip(targets, calibration["typical_scale"], strict=True)))
    series = _Series(widened, [f"p{k}" for k in range(classes)] or ["y_pred", "scale"])
    found: list[Any] = [None] * len(table)
    for rows in series.groups:
        target, symbol = (str(table[name].iat[rows[0]]) for name in ("target", "symbol"))
        fresh = _adaptive_of(calibration, numbers[target], targets[target])
        for row, bounds in zip(rows, bounds_of((target, symbol), series, rows, fresh), strict=True):
            found[row] = bounds
    widened = widened.assign(**(_set_columns(found, classes) if classes else _interval_columns(found)))
    widened.attrs = dict(table.attrs)
    scored = zip(targets.items(), calibration["scores"], strict=True)
    describe_targets(widened, {name: replace(about, scores=list(scores)) for (name, about), scores in scored})
    return widened


def _adaptive_of(calibration: Mapping[str, Any], k: int, about: TargetInfo) -> Adaptive[Any]:
    scores = calibration["scores"][k]
    if about.classes:
        return AdaptiveSets(scores)
    return AdaptiveIntervals(scores, calibration["typical_scale"][k], about.quantity.is_positive)


def _known_scales(table: pd.DataFrame, typical: Mapping[str, float]) -> pd.Series[float]:
    usable = (table["scale"] > 0) & np.isfinite(table["scale"])
    return table["scale"].where(usable, table["target"].map(typical))


def _require_sound(calibration: Mapping[str, Any], targets: int) -> None:
    """Refuses scores that no quantile can be taken of, before they become wrong intervals."""
    try:
        scores = [np.asarray(values, dtype=np.float64) for values in calibration["scores"]]
        typical = np.asarray(calibration["typical_scale"], dtype=np.float64)
        sound = len(scores) == len(typical) == targets and bool((np.isfinite(typical) & (typical > 0)).all())
        sound = sound and all(len(s) and np.isfinite(s).all() and (np.diff(s) >= 0).all() for s in scores)
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise CheckpointError("the checkpoint is damaged: its calibration scores", "calibration", code=414)


class _Series:
    """The columns of a predictions table that intervals depend on, out of pandas once for all symbols."""

    def __init__(self, table: pd.DataFrame, forecast: list[str]) -> None:
        indices = table.groupby(["target", "symbol"], sort=False).indices
        self.groups = [np.asarray(rows, dtype=np.int64) for rows in indices.values()]
        self.as_of, self.end = (
            table[name].to_numpy(dtype="datetime64[us]").astype(np.int64) for name in ("as_of", "target_end")
        )
        self.truth = table["y_true"].to_numpy(dtype=np.float64)
        self.forecast = table[forecast].to_numpy(dtype=np.float64)

    def replay(self, adaptive: Adaptive[Bound], rows: NDArray[np.int64], start: int) -> Iterator[list[Bound]]:
        """Bounds of one symbol's forecasts of one target, as they would have been issued day by day."""
        as_of, end, truth = (values[rows].tolist() for values in (self.as_of, self.end, self.truth))
        ended = 0
        for row, forecast in enumerate(map(tuple, self.forecast[rows].tolist())):
            if as_of[row] < start:
                yield adaptive.bounds(forecast)
                continue
            while ended < row and end[ended] <= as_of[row]:  # NaT is below everything, and its label is NaN
                adaptive.observe(as_of[ended], truth[ended])
                ended += 1
            yield adaptive.issue(as_of[row], forecast)


def _interval_columns(found: list[list[tuple[float, float]]]) -> dict[str, Any]:
    bounds = np.array(found, dtype=np.float64).reshape(len(found), len(LEVELS), 2)
    return {
        f"{name}_{level}": bounds[:, k, side]
        for k, level in enumerate(LEVELS)
        for side, name in enumerate(("lower", "upper"))
    }


def _set_columns(found: list[list[tuple[int, ...]]], classes: int) -> dict[str, Any]:
    between = "" if classes <= MOST_DIGITS else " "
    return {
        f"set_{level}": pd.array([between.join(map(str, bounds[k])) for bounds in found], dtype="str")
        for k, level in enumerate(LEVELS)
    }
