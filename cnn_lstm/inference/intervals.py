"""Predictions tables with adaptive intervals, all at once or forecast by forecast; see `adaptive` for the rule.

Shapes: n forecasts of a predictions table, sorted by target, symbol and date.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo, set_target_infos, table_of, target_infos
from cnn_lstm.data.symbol_rows import positions_by_code
from cnn_lstm.errors import CheckpointError
from cnn_lstm.inference.adaptive import LEVELS, Adaptive, AdaptiveIntervals, AdaptiveSets, Bound, Learnt
from cnn_lstm.model.calibration import Calibration

log = logging.getLogger(__name__)
MOST_DIGITS = 10
NO_TIME = np.iinfo(np.int64).min  # NaT as a number


Key = tuple[str, str]  # target, symbol
Fresh = Callable[[], Adaptive[Any]]  # makes the bounds of one target and symbol, as they begin
# bounds of the rows (n,) of a target and symbol, piece by piece
BoundsOf = Callable[[Key, "_Series", NDArray[np.int64], Fresh], Iterator[tuple[NDArray[np.int64], Any]]]


def add_intervals(table: pd.DataFrame, calibration: Calibration | None, boundary: str) -> pd.DataFrame:
    """The predictions table with conformal intervals.

    Adaptation begins with the first forecast of a symbol at or after the boundary, with the symbol alone, and with
    labels that have ended by the decision. Earlier forecasts have the intervals of the calibration scores alone. A
    table that begins later than the boundary begins to adapt at its own first row.

    Args:
        table: As `predictions_table` returns it: sorted by target, symbol and date.
        calibration: That of the checkpoint; without one the table stays as it is.
        boundary: First date of the test part of the checkpoint, ISO, UTC.

    Returns:
        The table with `lower_50`, `upper_50`, ..., `upper_95`, or for classes `set_50`, ...: the classes in the set,
        as "0" or "02", with blanks between them where there are more than ten. `attrs["targets"]` has the calibration
        scores of each target as `scores`. A scale that is 0 or unknown becomes the typical one.

    Raises:
        CheckpointError: If the calibration is damaged.
    """
    if calibration is None:
        log.warning("no intervals: the checkpoint has no calibration scores, train again to have them")
        return table
    return _widened(table, calibration, _replay(calibration, _microseconds(boundary), None))


def intervals_since(
    first: np.datetime64,
    columns: Mapping[str, NDArray[Any]],
    infos: Mapping[str, TargetInfo],
    calibration: Calibration,
    boundary: str,
    past: PastIntervals | None = None,
) -> pd.DataFrame:
    """The table of `add_intervals` of the forecasts since a day; those before it only move the intervals.

    Args:
        first: The day.
        columns: Those of `prediction_columns`, of all forecasts since the boundary.
        infos: What a predictions table says of each target.
        calibration: As for `add_intervals`.
        boundary: As for `add_intervals`.
        past: What the intervals of an earlier table are remembered by, which this one may go on from.

    Raises:
        CheckpointError: If the calibration is damaged.
    """
    scored = scored_infos(infos, calibration)
    replay = _replay(calibration, _microseconds(boundary), past)
    found = _bounds(columns, _groups(columns["target"], columns["symbol"]), scored, calibration, replay)
    wanted = columns["as_of"] >= first
    table = table_of({name: values[wanted] for name, values in {**columns, **found}.items()})
    set_target_infos(table, scored)
    return table


def _replay(calibration: Calibration, start: int, past: PastIntervals | None) -> BoundsOf:
    """What gives the bounds of each target and symbol, as they would have been issued day by day."""
    if past is not None:
        return partial(past.replay, calibration, start)
    return lambda _, series, rows, fresh: series.replay(fresh(), rows, start)


def scored_infos(targets: Mapping[str, TargetInfo], calibration: Calibration) -> dict[str, TargetInfo]:
    """What a predictions table with intervals says of each target.

    Raises:
        CheckpointError: If the calibration is damaged.
    """
    _require_sound(calibration, len(targets))
    scored = zip(targets.items(), calibration.scores, strict=True)
    return {name: replace(about, scores=list(scores)) for (name, about), scores in scored}


class LiveIntervals:
    """The bounds of `add_intervals` for forecasts that come one at a time, with the same bits.

    Args:
        calibration: That of the checkpoint; without one the bounds are missing.
        boundary: First date of the test part of the checkpoint, ISO, UTC.
        targets: What a predictions table says of each target.

    Attributes:
        infos: What it says of each target with the bounds.
    """

    def __init__(self, calibration: Calibration | None, boundary: str, targets: Mapping[str, TargetInfo]) -> None:
        self._calibration, self._start = calibration, _microseconds(boundary)
        self.infos = dict(targets) if calibration is None else scored_infos(targets, calibration)
        self._adaptive: dict[Key, Adaptive[Any]] = {}

    def begin(self, table: pd.DataFrame) -> None:
        """Learns from a history: the predictions table of all forecasts since the boundary, without intervals."""
        if self._calibration is not None:
            _widened(table, self._calibration, self._relive)

    def add(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """The columns of at most one forecast per target and symbol, with bounds; the forecasts are remembered.

        Args:
            columns: Those of `prediction_columns`, each (n,).
        """
        if self._calibration is None:
            return dict(columns)
        keys = zip(columns["target"], columns["symbol"], strict=True)
        alone = [(key, np.array([row])) for row, key in enumerate(keys)]
        return {**columns, **_bounds(columns, alone, self.infos, self._calibration, self._issue)}

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

    def to_plain(self) -> list[tuple[str, str, Learnt]]:
        """Target, symbol, and what was learnt of them, in plain values; the calibration stays in the checkpoint."""
        return [(*key, adaptive.learnt()) for key, adaptive in self._adaptive.items()]

    def go_on(self, plain: Sequence[tuple[str, str, Learnt]]) -> None:
        """Goes on where `to_plain` left off.

        Args:
            plain: What it returned.
        """
        if self._calibration is None:
            return
        for target, symbol, learnt in plain:
            self._adaptive[target, symbol] = _adaptive_of(self._calibration, self.infos, target)
            self._adaptive[target, symbol].go_on(learnt)

    def _issue(
        self, key: Key, series: _Series, rows: NDArray[np.int64], fresh: Fresh
    ) -> Iterator[tuple[NDArray[np.int64], list[list[Any]]]]:
        if key not in self._adaptive:
            self._adaptive[key] = fresh()
        adaptive = self._adaptive[key]
        issued = []
        for row in rows.tolist():
            as_of, forecast = int(series.as_of[row]), tuple(series.forecast[row].tolist())
            issued.append(adaptive.bounds(forecast) if as_of < self._start else adaptive.issue(as_of, forecast))
        yield rows, issued

    def _relive(
        self, key: Key, series: _Series, rows: NDArray[np.int64], fresh: Fresh
    ) -> Iterator[tuple[NDArray[np.int64], list[list[Any]]]]:
        # as `_Series.replay`, but a label that has not ended must stay open, and not be taken as one that never will
        self._adaptive[key] = fresh()
        ended = deque(int(row) for row in rows if series.end[row] != NO_TIME)
        for row in rows.tolist():
            while ended and series.end[ended[0]] <= series.as_of[row]:
                self.observe(*key, int(series.as_of[ended[0]]), float(series.truth[ended[0]]))
                ended.popleft()
            yield from self._issue(key, series, np.array([row]), fresh)
        for row in ended:
            self.observe(*key, int(series.as_of[row]), float(series.truth[row]))


def _microseconds(moment: str) -> int:
    return int(np.datetime64(moment, "us").astype(np.int64))


def _widened(table: pd.DataFrame, calibration: Calibration, bounds_of: BoundsOf) -> pd.DataFrame:
    """The table with the bounds that a function gives the forecasts of each target and symbol."""
    infos = scored_infos(target_infos(table), calibration)
    columns = {name: table[name].to_numpy(dtype="datetime64[us]") for name in ("as_of", "target_end")}
    columns |= {name: table[name].to_numpy(dtype=np.float64) for name in ("y_true", "scale", *_forecast_columns(infos))}
    found = _bounds(columns, _groups(table["target"], table["symbol"]), infos, calibration, bounds_of)
    widened = table.copy(deep=False)
    widened.attrs = {}  # pandas copies them with every piece of the table
    widened = widened.assign(**found)
    widened.attrs = dict(table.attrs)
    set_target_infos(widened, infos)
    return widened


def _groups(target: Any, symbol: Any) -> list[tuple[Key, NDArray[np.int64]]]:
    """Rows of each target and symbol, of the names of both, (n,)."""
    (of_target, targets), (of_symbol, symbols) = pd.factorize(target), pd.factorize(symbol)
    return [
        ((str(targets[code // len(symbols)]), str(symbols[code % len(symbols)])), rows)
        for code, rows in positions_by_code(of_target * len(symbols) + of_symbol).items()
    ]


def _bounds(
    columns: Mapping[str, NDArray[Any]],
    groups: Sequence[tuple[Key, NDArray[np.int64]]],
    infos: Mapping[str, TargetInfo],
    calibration: Calibration,
    bounds_of: BoundsOf,
) -> dict[str, Any]:
    """A scale that is known and the bounds that a function gives each group of forecasts, each (n,), by their names."""
    typical = dict(zip(infos, calibration.typical_scale, strict=True))
    scale = columns["scale"].copy()
    unknown = ~((scale > 0) & np.isfinite(scale))
    for (target, _), rows in groups if unknown.any() else ():
        scale[rows] = np.where(unknown[rows], typical[target], scale[rows])
    series = _Series({**columns, "scale": scale}, _forecast_columns(infos))
    classes = _classes(infos)
    bounds = _SetColumns(len(scale), classes) if classes else _IntervalColumns(len(scale))
    for key, rows in groups:
        for some, given in bounds_of(key, series, rows, partial(_adaptive_of, calibration, infos, key[0])):
            bounds.put(some, given)
    return {"scale": scale, **bounds.named()}


def _classes(infos: Mapping[str, TargetInfo]) -> int:
    return max(about.classes for about in infos.values())


def _forecast_columns(infos: Mapping[str, TargetInfo]) -> list[str]:
    """Columns that the bounds of a forecast depend on."""
    return [f"p{k}" for k in range(_classes(infos))] or ["y_pred", "scale"]


def _adaptive_of(calibration: Calibration, targets: Mapping[str, TargetInfo], target: str) -> Adaptive[Any]:
    k, about = list(targets).index(target), targets[target]
    scores = calibration.scores[k]
    if about.classes:
        return AdaptiveSets(scores)
    return AdaptiveIntervals(scores, calibration.typical_scale[k], about.quantity.is_positive)


def _require_sound(calibration: Calibration, targets: int) -> None:
    """Refuses scores that no quantile can be taken of, before they become wrong intervals."""
    try:
        scores = [np.asarray(values, dtype=np.float64) for values in calibration.scores]
        typical = np.asarray(calibration.typical_scale, dtype=np.float64)
        sound = len(scores) == len(typical) == targets and bool((np.isfinite(typical) & (typical > 0)).all())
        sound = sound and all(len(s) and np.isfinite(s).all() and (np.diff(s) >= 0).all() for s in scores)
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise CheckpointError("the checkpoint is damaged: its calibration scores", "calibration", code=414)


class _Series:
    """The columns of forecasts that intervals depend on."""

    def __init__(self, columns: Mapping[str, NDArray[Any]], forecast: list[str]) -> None:
        self.as_of, self.end = (columns[name].astype(np.int64) for name in ("as_of", "target_end"))
        self.truth = columns["y_true"].astype(np.float64)
        self.forecast = np.stack([columns[name].astype(np.float64) for name in forecast], axis=1)

    def forecasts_of(self, rows: NDArray[np.int64]) -> bytes:
        """What the bounds of forecasts are made of, bit for bit."""
        return self.as_of[rows].tobytes() + self.forecast[rows].tobytes()

    def labels_of(self, rows: NDArray[np.int64]) -> bytes:
        """What is learnt from forecasts, bit for bit."""
        return self.end[rows].tobytes() + self.truth[rows].tobytes()

    def replay(
        self, adaptive: Adaptive[Bound], rows: NDArray[np.int64], start: int
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Bounds of one symbol's forecasts of one target, as they would have been issued day by day."""
        fixed = int(np.searchsorted(self.as_of[rows], start))  # before the boundary nothing is learnt
        yield rows[:fixed], adaptive.bounds_of_all(self.forecast[rows[:fixed]])
        as_of, end, truth = (values[rows].tolist() for values in (self.as_of, self.end, self.truth))
        ended, issued = 0, []
        for row, forecast in enumerate(map(tuple, self.forecast[rows[fixed:]].tolist()), start=fixed):
            while ended < row and end[ended] <= as_of[row]:  # NaT is below everything, and its label is NaN
                adaptive.observe(as_of[ended], truth[ended])
                ended += 1
            issued.append(adaptive.issue(as_of[row], forecast))
        yield rows[fixed:], issued


class PastIntervals:
    """The intervals of the forecasts of the last table: they move no more, so that a table that has grown goes on."""

    def __init__(self) -> None:
        self._of: tuple[Calibration, int] | None = None
        self._past: dict[Key, _Past] = {}

    def replay(
        self,
        calibration: Calibration,
        start: int,
        key: Key,
        series: _Series,
        rows: NDArray[np.int64],
        fresh: Fresh,
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """`_Series.replay` of one symbol's forecasts of one target, of which only the new ones are issued."""
        if self._of is None or self._of[0] is not calibration or self._of[1] != start:
            self._of, self._past = (calibration, start), {}
        fixed = int(np.searchsorted(series.as_of[rows], start))
        yield rows[:fixed], fresh().bounds_of_all(series.forecast[rows[:fixed]])
        past = self._past.get(key)
        if past is None or not past.is_begin_of(series, rows[fixed:]):
            past = self._past[key] = _Past(fresh())
        past.go_on(series, rows[fixed:])
        yield rows[fixed:], past.issued


class _Past:
    """The forecasts of one target and symbol that were issued, and what was learnt until then."""

    def __init__(self, adaptive: Adaptive[Any]) -> None:
        self._adaptive, self._observed = adaptive, 0  # rows before this one have been looked at for their label
        self._forecasts, self._labels = b"", b""
        self.issued: list[Any] = []

    def is_begin_of(self, series: _Series, rows: NDArray[np.int64]) -> bool:
        """Whether the rows begin with what was issued, and the labels that were observed are still the same."""
        issued, observed = rows[: len(self.issued)], rows[: self._observed]
        same = len(rows) >= len(self.issued) and series.forecasts_of(issued) == self._forecasts
        return same and series.labels_of(observed) == self._labels

    def go_on(self, series: _Series, rows: NDArray[np.int64]) -> None:
        """Issues the forecasts that are new, in their order with the labels that end meanwhile."""
        as_of, end, truth = (values[rows].tolist() for values in (series.as_of, series.end, series.truth))
        # a label whose end is not known may have one tomorrow; if it bridges a gap, that of a later row forgets it
        ended = deque(row for row in range(self._observed, len(rows)) if end[row] != NO_TIME)
        for row in range(len(self.issued), len(rows)):
            while ended and end[ended[0]] <= as_of[row]:
                self._observed = ended[0] + 1
                self._adaptive.observe(as_of[ended[0]], truth[ended.popleft()])
            self.issued.append(self._adaptive.issue(as_of[row], tuple(series.forecast[rows[row]].tolist())))
        self._forecasts, self._labels = series.forecasts_of(rows), series.labels_of(rows[: self._observed])


class _IntervalColumns:
    """Lower and upper bounds of the forecasts of a table, (n,)."""

    def __init__(self, rows: int) -> None:
        self._bounds = np.empty((rows, len(LEVELS), 2))

    def put(self, rows: NDArray[np.int64], bounds: Any) -> None:
        """Takes the bounds of some forecasts: (m, levels, 2)."""
        self._bounds[rows] = np.asarray(bounds, dtype=np.float64).reshape(len(rows), len(LEVELS), 2)

    def named(self) -> dict[str, NDArray[np.float64]]:
        """The columns by their names."""
        return {
            f"{name}_{level}": self._bounds[:, k, side]
            for k, level in enumerate(LEVELS)
            for side, name in enumerate(("lower", "upper"))
        }


class _SetColumns:
    """Sets of classes of the forecasts of a table, (n,), as text."""

    def __init__(self, rows: int, classes: int) -> None:
        self._between = "" if classes <= MOST_DIGITS else " "
        self._texts = [np.full(rows, "", dtype=object) for _ in LEVELS]
        self._known: dict[tuple[int, ...], str] = {}  # one text for all forecasts of a set

    def put(self, rows: NDArray[np.int64], bounds: Sequence[Sequence[tuple[int, ...]]]) -> None:
        """Takes the sets of some forecasts: (m, levels)."""
        for row, sets in zip(rows.tolist(), bounds, strict=True):
            for texts, one in zip(self._texts, sets, strict=True):
                texts[row] = self._known.setdefault(one, self._between.join(map(str, one)))

    def named(self) -> dict[str, Any]:
        """The columns by their names."""
        return {f"set_{level}": pd.array(texts, dtype="str") for level, texts in zip(LEVELS, self._texts, strict=True)}
