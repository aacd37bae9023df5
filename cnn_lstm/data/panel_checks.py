"""Checks of a panel that a price table alone cannot show: too few rows, one class, a target among the features."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from operator import itemgetter

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn_lstm.data.features import FAMILY_OF_USER
from cnn_lstm.data.indicators.calendars import wandering_sessions
from cnn_lstm.data.no_windows import cause_of_no_window, span_of_windows
from cnn_lstm.data.parts import SplitRows, empty_part, require_rows
from cnn_lstm.data.quantities import quantity
from cnn_lstm.data.recipe import BoundRecipe
from cnn_lstm.data.row_numbers import Rows, in_chunks, thinned
from cnn_lstm.data.session_features import SESSIONS
from cnn_lstm.data.statistics import LEAST_ROWS, TrainingStatistics
from cnn_lstm.data.symbol_codes import SYMBOL_CODE, code_of
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import microseconds
from cnn_lstm.data.windows import CHUNK, Panel
from cnn_lstm.errors import DataError, Defect, DefectsError, ValidityError, require
from cnn_lstm.hints import counted, first_names

log = logging.getLogger(__name__)
LEAK_CORRELATION = 0.999
# warned of from here on, by whether the target is hard to know: volatilities of the past reach 0.8 with those to come
LIKELY_LEAK = {True: 0.5, False: 0.9}
DAY = 86_400_000_000  # microseconds
MOST_ROWS = 1_000_000  # whose scales are compared; of more rows so many, spread evenly
UNEVEN = 10.0  # a symbol whose scale is one in so many of another's is drowned by it
RAW = ("columns", FAMILY_OF_USER)
CODES = (SYMBOL_CODE,)


def skip_short(prices: pd.DataFrame, bound: BoundRecipe) -> pd.DataFrame:
    """Refuses symbols with too few rows for one labelled window, or leaves them out if the checks say so.

    Raises:
        DefectsError: Naming each short symbol and the rows it needs.
    """
    recipe, reach = bound.recipe, bound.reach
    needed = bound.needed_rows + reach + 1
    counts = prices.groupby("symbol", sort=False).size()
    short = counts[counts < needed]
    if short.empty:
        return prices
    warmup = needed - recipe.window - reach - 1
    parts = f"warm-up {warmup} + window {recipe.window} + label {reach} + 1"
    needs, fix = f"needs at least {needed} ({parts})", "give more history, or set data.checks.on_short to skip"
    defects = [Defect(306, f"{counted(rows, 'row')}, {needs}", str(symbol), fix) for symbol, rows in short.items()]
    if recipe.checks.on_short == "error" or len(short) == len(counts):
        raise DefectsError(defects)
    for defect in defects:
        log.warning("%s — %s — left out", defect.what, defect.where)
    return prices[~prices["symbol"].isin(short.index)].reset_index(drop=True)


def check_parts(panel: Panel, parts: SplitRows, bound: BoundRecipe) -> None:
    """Refuses a part without a window, and symbols without one in some part, saying why there is none.

    With `on_short: skip` such symbols stay where they have some. They are not left out: dropping those that end before
    the test part would keep the survivors only.

    Raises:
        DataError: E323, naming the empty part.
        DefectsError: E306, naming each symbol and part.
    """
    if empty_part(parts):
        cause = cause_of_no_window(panel, bound, parts.boundaries)
        require_rows(parts, *(() if cause is None else (cause.what, cause.fix)))
    windows = {name: np.diff(panel.edges_among(rows)) for name, rows in parts.by_name.items()}
    lacking = [(name, code) for code in range(len(panel.symbols)) for name in windows if not windows[name][code]]
    defects = _lacking(panel, parts, bound, lacking)
    if defects and bound.recipe.checks.on_short == "error":
        raise DefectsError(defects)
    for defect in defects:
        log.warning("%s — %s — used where it has windows", defect.what, defect.where)


def _lacking(panel: Panel, parts: SplitRows, bound: BoundRecipe, lacking: Sequence[tuple[str, int]]) -> list[Defect]:
    """Symbols without a window in a part, each with the dates of its windows, or the cause that it has none."""
    if not lacking:
        return []
    rows = np.concatenate(list(parts.by_name.values()))
    defects = []
    for name, code in lacking:
        cause = span = span_of_windows(panel, rows, code)
        fix = "give more history, move the dates"
        if not span and (found := cause_of_no_window(panel, bound, parts.boundaries, code)):
            cause, fix = found.what, found.fix
        where = f"{panel.symbols[code]}: {cause}" if cause else panel.symbols[code]
        defects.append(
            Defect(306, f"no window in the {name} part", where, f"{fix}, or set data.checks.on_short to skip")
        )
    return defects


def check_columns(prices: pd.DataFrame, targets: Sequence[Target]) -> None:
    """Refuses columns that are not what their targets say, see `Target.defects`.

    Raises:
        DefectsError: All defects of all targets.
    """
    if defects := [defect for target in targets for defect in target.defects(prices)]:
        raise DefectsError(defects)


def check_labels(panel: Panel, parts: SplitRows, targets: Sequence[Target]) -> None:
    """Refuses a constant target, and a part that holds one class only.

    Raises:
        DataError: Naming the target and the counts.
    """
    for column, target in enumerate(targets):
        if target.classes:
            _check_classes(panel, parts, target, column)
            continue
        chunks = (panel.labels[torch.from_numpy(part), column] for part in in_chunks(parts.train))
        extremes = [(float(labels.min()), float(labels.max())) for labels in chunks]
        least, most = min(low for low, _ in extremes), max(high for _, high in extremes)
        if least == most:
            what = f"the target never changes: always {least:g}"
            where = f"{target.name}, {counted(len(parts.train), 'training row')}"
            raise DataError(what, where, "choose another target or longer data", code=318)


def _check_classes(panel: Panel, parts: SplitRows, target: Target, column: int) -> None:
    """Refuses a part that holds one class only."""
    for name, rows in parts.by_name.items():
        counts = np.zeros(target.classes, dtype=np.int64)
        for part in in_chunks(rows):
            known = panel.labels[torch.from_numpy(part), column].long().numpy()
            counts += np.bincount(known, minlength=target.classes)
        if (counts > 0).sum() < 2:
            where = f"{target.name}, rows of each class: {counts.tolist()}"
            raise DataError(f"only one class in the {name} part", where, "move the thresholds or the dates", code=322)


def check_calendar(timestamps: pd.Series, bound: BoundRecipe) -> list[Defect]:
    """Refuses a zone and features of sessions for daily bars; warns where hours in UTC wander with a clock change.

    Args:
        timestamps: Those of a checked table, UTC.
        bound: The recipe.

    Returns:
        None or one warning.

    Raises:
        ConfigError: E278 or E230.
    """
    zone = bound.recipe.zone
    daily = not bool((microseconds(timestamps) % DAY).any())
    fix = "leave it out: a date has no zone"
    require(not (zone and daily), f"calendar_zone={zone} for daily bars", "data.calendar_zone", fix, code=278)
    placed = [one.name for one in bound.features if one.family == SESSIONS]
    what = f"{', '.join(placed)} for daily bars"
    require(not (placed and daily), what, "data.features", "leave it out: a date has no place in a session", code=230)
    hours = [one.name for one in bound.features if one.name.startswith(("hour_", "minute_of_day_"))]
    begin = None if zone or daily or not hours else wandering_sessions(timestamps)
    if begin is None:
        return []
    what = f"sessions begin at {begin[0]} UTC in winter and at {begin[1]} in summer, and {hours[0]} runs in UTC"
    fix = "set data.calendar_zone to the zone of the market, for example America/New_York"
    return [Defect(352, what, counted(len(timestamps), "row"), fix, fatal=False)]


def check_leak(
    panel: Panel, rows: Rows, features: Sequence[str], targets: Sequence[Target], codes: Collection[str] = CODES
) -> list[Defect]:
    """Refuses a feature that is the target itself, known too early; warns of one that is it with some noise.

    Args:
        panel: The panel.
        rows: Training rows, (n,).
        features: Names of its features, in order.
        targets: Its targets.
        codes: Names of features that are codes: they say whose window it is, and their size means nothing.

    Returns:
        A warning for each feature that says more of a target than any honest one does, see `LIKELY_LEAK`.

    Raises:
        ValidityError: Naming feature and target.
    """
    warnings, where = [], counted(len(rows), "training row")
    for target, (name, correlations) in zip(targets, label_correlations(panel, rows, targets).items(), strict=True):
        likely = LIKELY_LEAK[_is_hard(target)]
        for feature, correlation in zip(features, correlations.tolist(), strict=True):
            if feature in codes:
                continue
            if abs(correlation) > LEAK_CORRELATION:
                what = f"the feature {feature} is the target {name}: correlation {correlation:.5f}"
                raise ValidityError(what, where, "remove the feature: it knows the future", code=819)
            if abs(correlation) > likely:
                what = f"the feature {feature} nearly is the target {name}: correlation {correlation:.3f}"
                fix = "remove it if it knows the future; `cnn-lstm audit` looks for the row that it knows too early"
                warnings.append(Defect(819, what, where, fix, fatal=False))
    return warnings


def _is_hard(target: Target) -> bool:
    """Whether no honest feature is close to the target: a return, its class, or the change of a level."""
    about = quantity(target.kind)
    return about.is_return or about.is_level or (about.is_class and not target.holds_labels)


def label_correlations(panel: Panel, rows: Rows, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Correlation of each feature with the label of each target by its name, each (F,); 0 where one never changes.

    A level hardly moves from row to row, so levels are compared by how far they are from the latest known value.

    Args:
        panel: The panel.
        rows: The rows to compare, (n,).
        targets: The panel's targets.
    """
    moments = {target.name: _Comoments() for target in targets}
    for index in torch.from_numpy(rows).split(CHUNK // 8):
        values = panel.values[index].double()
        for column, target in enumerate(targets):
            label = panel.labels[index, column].double()
            base = panel.present[index, column].double() if target.level else torch.zeros_like(label)
            finite = torch.isfinite(label)
            moments[target.name].add((values - base[:, None])[finite], (label - base)[finite])
    return {name: of_target.correlation() for name, of_target in moments.items()}


class _Comoments:
    """Sums of squares and products around the means, chunk by chunk, merged as Chan, Golub and LeVeque (1983) do."""

    def __init__(self) -> None:
        self._count = 0
        self._x, self._y, self._xx, self._yy, self._xy = (torch.zeros(1, dtype=torch.float64) for _ in range(5))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Takes features, (n, F), and labels, (n,)."""
        if not len(y):
            return
        x_mean, y_mean, total = x.mean(dim=0), y.mean(), self._count + len(y)
        dx, dy, weight = x_mean - self._x, y_mean - self._y, self._count * len(y) / total
        x, y = x - x_mean, y - y_mean
        self._xx = self._xx + (x**2).sum(dim=0) + dx**2 * weight
        self._yy = self._yy + (y**2).sum() + dy**2 * weight
        self._xy = self._xy + (x * y[:, None]).sum(dim=0) + dx * dy * weight
        self._x, self._y, self._count = self._x + dx * (len(y) / total), self._y + dy * (len(y) / total), total

    def correlation(self) -> Tensor:
        """Correlation of each feature with the label, (F,); 0 where one never changes."""
        scale = (self._xx * self._yy).sqrt()
        return torch.where(scale > 0, self._xy / scale, 0.0)


def uneven_scales(panel: Panel, rows: Rows, bound: BoundRecipe, y_anchor: Sequence[int]) -> list[Defect]:
    """A warning where one symbol's scale is a tenth of another's, or less, although all are divided by one scale.

    The pooled scale is then that of the wildest symbols. What is left of the calm ones is next to a constant: the
    training hardly sees their errors, and the pooled error hides them. Looked at are the targets, and the features
    that are not indicators of ours: these are free of scale.

    Args:
        panel: The panel.
        rows: Training rows, (n,).
        bound: Its recipe.
        y_anchor: For each target the position of its anchor feature, or -1.

    Returns:
        None or one, of the target or feature that differs most.
    """
    rows = thinned(rows, MOST_ROWS)
    values = _scaled_together(panel, torch.from_numpy(rows), bound, y_anchor)
    uneven = {name: scales for name, column in values.items() if (scales := _uneven(panel, rows, column))}
    if not uneven:
        return []
    name, ((low, least), (high, most)) = max(uneven.items(), key=lambda item: item[1][1][1] / item[1][0][1])
    also = f", and {len(uneven) - 1} more like it" if len(uneven) > 1 else ""
    what = f"the scale of {name} is {most / least:.3g} times as large for {high} as for {low}{also}"
    where = f"standard deviations {most:.3g} and {least:.3g} over the training rows"
    fix = "errors on the small one hardly count: set data.per_symbol: true, or use returns or logs"
    return [Defect(342, what, where, fix, fatal=False)]


def _scaled_together(panel: Panel, index: Tensor, bound: BoundRecipe, y_anchor: Sequence[int]) -> dict[str, Tensor]:
    """Numeric targets and raw columns at rows (n,), each (n,): what one scale of all symbols divides."""
    values = {}
    for k, (target, anchor) in enumerate(zip(bound.targets, y_anchor, strict=True)):
        if not target.classes:
            label = panel.labels[index, k].double()
            values[target.name] = label - panel.values[index, anchor].double() if anchor >= 0 else label
    for k, feature in enumerate(bound.features):
        if feature.family in RAW:
            last, first = (panel.values[row, k].double() for row in (index, index - bound.recipe.window + 1))
            values[feature.name] = last - first if feature.name in bound.recipe.anchor else last
    return values


def _uneven(panel: Panel, rows: Rows, values: Tensor) -> tuple[tuple[str, float], tuple[str, float]] | None:
    """Symbols with the least and the largest standard deviation of values (n,), if these differ too much."""
    edges, numbers = panel.edges_among(rows), values.numpy()
    known = dict(zip(panel.symbols, np.split(numbers, edges[1:-1]), strict=True))
    scales = {name: float(part.std()) for name, part in known.items() if len(part) >= LEAST_ROWS}
    moving = {name: scale for name, scale in scales.items() if scale > 0}
    if not moving:
        return None
    low, high = min(moving.items(), key=itemgetter(1)), max(moving.items(), key=itemgetter(1))
    return (low, high) if high[1] >= UNEVEN * low[1] else None


def muted_features(
    statistics: TrainingStatistics, features: Sequence[str], codes: Collection[str] = CODES
) -> list[str]:
    """Names of the features that never change over the training rows; codes are muted in any case."""
    _, scales = statistics.of_all_symbols
    return [
        name
        for name, scale in zip(features, scales.tolist(), strict=True)
        if scale == float("inf") and name not in codes
    ]


def scaled_symbols(panel: Panel, statistics: TrainingStatistics) -> list[str]:
    """Symbols of a panel that have a location and scale of their own."""
    codes = set(statistics.codes.tolist())
    return [symbol for symbol in panel.symbols if code_of(symbol) in codes]


def without_scale(panel: Panel, statistics: TrainingStatistics) -> list[Defect]:
    """A warning of the symbols that have no scale of their own where others have one.

    Returns:
        None or one.
    """
    scaled = set(scaled_symbols(panel, statistics))
    others = [symbol for symbol in panel.symbols if symbol not in scaled]
    if not scaled or not others:
        return []
    what = f"no scale of its own for {first_names(others)}: fewer than {LEAST_ROWS} training rows"
    fix = "it takes the scale of all symbols together: give more history, or leave it out"
    return [Defect(343, what, "data.per_symbol", fix, fatal=False)]
