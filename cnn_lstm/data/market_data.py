"""Joins the modules of the data room: source, checks, features, targets, windows, split.

Nothing of Lightning is imported here, so that commands without a trainer start fast; see `datamodule`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd

from cnn_lstm.data.ahead_rows import require_facts, without_facts
from cnn_lstm.data.exchange import known_exchange
from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.panel_cache import AUTO, PanelCache
from cnn_lstm.data.panel_checks import (
    check_labels,
    check_leak,
    check_parts,
    muted_features,
    scaled_symbols,
    uneven_scales,
    without_scale,
)
from cnn_lstm.data.panel_of_prices import PanelOfPrices
from cnn_lstm.data.parts import (
    FitOn,
    Known,
    Order,
    SplitRows,
    rows_before_test,
    same_dates,
    split_chunks,
    split_keeping,
    split_spans,
)
from cnn_lstm.data.prepared import warn_of
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.recipe import BoundRecipe, Recipe
from cnn_lstm.data.row_numbers import Rows, in_chunks, span_of_rows
from cnn_lstm.data.side_tables import SideTables, with_side_columns
from cnn_lstm.data.sources.base import PriceSource, known_zone
from cnn_lstm.data.sources.frame import FrameBars
from cnn_lstm.data.sources.sample import SampleBars
from cnn_lstm.data.spans import KnownSince
from cnn_lstm.data.splits import Begin, Boundaries, Dates, Split, split_of
from cnn_lstm.data.static_columns import StaticColumns
from cnn_lstm.data.statistics import Scaler, Scaling, TrainingStatistics, training_statistics
from cnn_lstm.data.symbol_codes import SYMBOL_CODE, with_symbol_code
from cnn_lstm.data.targets import ForwardReturn, Target, check_targets
from cnn_lstm.data.windows import Panel, labelled
from cnn_lstm.errors import require
from cnn_lstm.specs import Serializable

log = logging.getLogger(__name__)
if TYPE_CHECKING:
    from cnn_lstm.data.arrow_frames import Frame

    Prices = PriceSource | Frame
else:
    Prices = PriceSource  # a configuration names a source; a frame exists in Python alone


class MarketData(PanelOfPrices, Serializable):
    """Windows of a price table, split by date; `MarketDataModule` gives them to a trainer.

    Args:
        source: Where the prices come from; in Python also a DataFrame of pandas, Polars or Arrow, see `FrameBars`.
        symbols: Symbols to use; all that the source has by default.
        start: First day, ISO; the source's first by default.
        end: Day after the last one, ISO; the source's last by default.
        features: Names of the feature columns, see docs/features.md.
        targets: What is forecast.
        split: How the dates are cut into train, validation and test.
        window: Rows of a window.
        batch_size: Windows in a batch of one process.
        scaling: Mean and standard deviation of the training rows, or median and interquartile range.
        anchor: Features taken relative to the window's last value; for levels such as exchange rates. A
            `ForwardValue` target of such a column is forecast as a change and added back.
        checks: How defects of the price table are treated.
        panel_device: `auto` puts the panel on the accelerator when it fits, `cpu` never does.
        predict_part: What `predict` forecasts: the test part and everything after it, or every window.
        train_stride: Each training epoch takes every n-th training row of each symbol, from a random phase; 1 takes
            all rows. Statistics and baselines use all rows in any case.
        fit_on: Rows that a model and its statistics are fitted on. `train_and_validation` is for the final model, whose
            settings and number of epochs were chosen before: a fit then has no validation.
        per_symbol: Whether each symbol's features and targets are scaled by its own training rows; `auto` does it
            where the scale of one symbol is ten times that of another. A symbol with few training rows, or one that
            comes later, is scaled by all symbols together.
        calendar_zone: Zone of the features of the calendar, for example America/New_York, so that a session has the
            same hours in summer and winter; UTC by default. Daily bars have dates, and no zone.
        exchange: Exchange of all symbols, for example XNYS, by the code of exchange_calendars: gaps are counted in its
            sessions, so that a holiday is not a gap; missing sessions are reported; `minutes_since_open` and
            `minutes_to_close` are features. See docs/data.md.
        cache: Folder in which panels are kept from one command to the next, see docs/data.md. `auto` keeps those that
            take some seconds to build, in `runs/.panels`; None keeps none.
        cache_limit: Most gigabytes of that folder; the panels that were not used for longest are removed.
        storage: Files for a panel that does not fit in memory, see docs/large_data.md; it lies in memory by default.
        order: Order of the windows in a training epoch. `global` shuffles all of them; `blocks` shuffles blocks of
            neighbouring windows, and the windows of some blocks together, for a panel in files that no memory holds.
        known_future: Facts whose future values are known ahead, such as earnings dates, from a table of their own.
        static: What never changes of a symbol, such as its sector or the symbol itself.
        validation: First day of the validation part, ISO, or a year or month; a short form of `split: DateSplit`.
        test: First day of the test part; it goes with `validation`.
    """

    def __init__(  # noqa: PLR0913 - each argument is a key of the YAML
        self,
        source: Prices | None = None,
        symbols: list[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        features: list[str] | None = None,
        targets: list[Target] | None = None,
        split: Split | None = None,
        window: int = 60,
        batch_size: int = 32,
        scaling: Scaling = "standard",
        anchor: list[str] | None = None,
        checks: Checks | None = None,
        panel_device: Literal["auto", "cpu"] = "auto",
        predict_part: Literal["test", "all"] = "test",
        train_stride: int = 1,
        fit_on: FitOn = "train",
        per_symbol: bool | Literal["auto"] = False,
        calendar_zone: str | None = None,
        exchange: str | None = None,
        cache: str | None = AUTO,
        cache_limit: float = 20.0,
        storage: MappedPanel | None = None,
        order: Order = "global",
        known_future: KnownFuture | None = None,
        static: StaticColumns | None = None,
        validation: Begin | None = None,
        test: Begin | None = None,
    ) -> None:
        super().__init__()
        require(cache_limit > 0, f"cache_limit={cache_limit}", "data.cache_limit", "give gigabytes above 0")
        require(cache != "", "cache is empty", "data.cache", "give a folder, auto or null")
        self.cache = PanelCache.of(cache, cache_limit)
        for name, value in (("window", window), ("batch_size", batch_size), ("train_stride", train_stride)):
            require(value >= 1, f"{name}={value}", f"data.{name}", "give at least 1")
        self.symbols, self.start, self.end, self.storage, self.order = symbols, start, end, storage, order
        self.targets: list[Target] = [ForwardReturn()] if targets is None else targets
        check_targets(self.targets)
        self.split = split_of(split, validation, test)
        if validation is not None:  # a second look at the arguments finds the dates there
            self._init_args = {**self.init_args, "split": self.split, "validation": None, "test": None}
        self.batch_size, self.scaling, self.train_stride = batch_size, scaling, train_stride
        self.panel_device, self.predict_part = panel_device, predict_part
        self.fit_on, self.per_symbol = fit_on, per_symbol
        names, ahead = with_side_columns(features or DEFAULT_FEATURES, known_future, static, self.targets)
        self.recipe = Recipe(
            features=with_symbol_code(names, bool(per_symbol)),
            targets=tuple(target.spec() for target in self.targets),
            window=window,
            anchor=tuple(anchor or ()),
            checks=checks or Checks(),
            zone=known_zone(calendar_zone, "data.calendar_zone") if calendar_zone else "",
            known_future=ahead,
            static=tuple(static.columns) if static is not None else (),
            tables=SideTables(known_future, static, open_end=True),
            exchange=known_exchange(exchange),
        )
        self.source = SampleBars() if source is None else source_of(source, self.recipe)
        if isinstance(self.source, FrameBars):  # else the frame would be kept twice
            self._init_args = {**self.init_args, "source": self.source}
        fix = "list at least one, see docs/features.md"
        require(features is None or bool(features), "no feature", "data.features", fix, code=225)
        unknown = [name for name in self.recipe.anchor if name not in self.recipe.of_prices or name == SYMBOL_CODE]
        require(not unknown, f"anchor {unknown} is not a feature", "data.anchor", "name listed features", code=225)
        self._ready = False
        self._kept: Boundaries | None = None
        self._own_gap_limit = self.recipe.checks.max_gap_days is not None

    def keep_dates(self, dates: Dates) -> None:
        """Splits by the dates of a checkpoint, before or after the data are read; see `split_keeping`.

        A `Forecaster` or an `Ensemble` that a trainer tests, validates or predicts with calls it.

        Args:
            dates: The dates of the checkpoint.
        """
        self._kept = Boundaries.of(dates)
        if self._ready and not same_dates(self.parts.boundaries, self._kept):
            self._split_rows()

    def keep_gap_limit(self, days: float | None) -> None:
        """Takes the limit of gaps of a checkpoint where the settings name none, before or after the data are read.

        Args:
            days: The limit, None if the checkpoint says none.
        """
        checks = self.recipe.checks
        if days is None or self._own_gap_limit or days == checks.max_gap_days:
            return
        self.recipe = replace(self.recipe, checks=replace(checks, max_gap_days=days))
        if self._ready:
            self._ready = False
            self.setup()

    def resplit(self, split: Split) -> None:
        """Splits by another rule, before or after the data are read."""
        self.split, self._kept = split, None
        if self._ready:
            self._split_rows()

    def setup(self, stage: str | None = None) -> None:
        """Reads, checks and splits the data once, for all stages."""
        if self._ready:
            return
        made = self._make()
        self.bound: BoundRecipe = self._bound(made)
        self.recipe = self.bound.recipe
        self.panel: Panel = made.panel
        self.fingerprint = self.recipe.fingerprint(made.fingerprint)
        self.column_kinds, self.messages = made.kinds, made.messages
        self._split_rows()
        leaks = check_leak(self.panel, self.fit_rows, self.recipe.features, self.targets, self.recipe.codes)
        warn_of([*without_facts(self.panel, self.recipe), *leaks])
        for name in muted_features(self.statistics, self.recipe.features, self.recipe.codes):
            log.warning("%s is constant over the training rows — data.features — it is muted (always 0)", name)
        if not self.per_symbol:
            warn_of(uneven_scales(self.panel, self.parts.train, self.bound, self.statistics.y_anchor.tolist()))
        warn_of(without_scale(self.panel, self.statistics))
        self._ready = True

    def _split_rows(self) -> None:
        """Cuts the parts, by the dates of a checkpoint where there is one, and takes the statistics."""
        if self._kept is not None:
            self.split, warnings = split_keeping(self._kept, self.split, self.times, self.parts_of)
            warn_of(warnings)
        self.parts: SplitRows = self.parts_of(self.split)
        self.require_sound(self.parts)
        self.statistics: TrainingStatistics = self.statistics_of(self.panel, self.fit_rows)
        self.vocabulary = self.vocabulary_of(self.fit_rows)

    def on_prices(self, table: pd.DataFrame, checks: Checks) -> Self:
        """The same data module, set up on another price table: what it would have made of that one.

        Args:
            table: Raw price table.
            checks: How its defects are treated.
        """
        other = copy.copy(self)
        other.source, other.storage = _OneTable(table), None
        other.recipe = replace(self.recipe, checks=checks)
        other._ready, other._tables, other.cache = False, None, None
        other.setup()
        return other

    def statistics_of(self, panel: Panel, rows: Rows) -> TrainingStatistics:
        """Statistics of training rows, (n,), of a panel of this recipe."""
        scaler, per_symbol = Scaler.of(self.recipe, self.targets, self.scaling), bool(self.per_symbol)
        if self.per_symbol == "auto":
            per_symbol = bool(uneven_scales(panel, rows, self.bound, scaler.y_anchor))
        return training_statistics(panel, rows, scaler, per_symbol)

    def parts_of(self, split: Split) -> SplitRows:
        """Labelled windows of the parts of a split, the one of this data module or another."""
        return _parts_of(self, split.boundaries(self.times))

    def _known(self) -> Iterator[Known]:
        """Labelled windows, their decisions and the ends of their labels, in chunks."""
        time = self.panel.time
        for rows in in_chunks(self.windows):
            known = rows[labelled(self.panel, rows)]
            yield known, time[known], time[known + self.bound.reach]

    @property
    def fit_rows(self) -> Rows:
        """Rows that a model and its statistics are fitted on, (n,)."""
        if self.fit_on == "train":
            return self.parts.train
        collector, boundaries = self.collector(), self.split.boundaries(self.times)
        for chunk in self._known():
            collector.add(rows_before_test(*chunk, boundaries))
        return collector.rows()

    @property
    def fit_end(self) -> np.datetime64:
        """First date that a fit knows nothing of: that of the validation part, or of the test part of a final fit."""
        edges = self.parts.boundaries
        return edges.validation if self.fit_on == "train" else edges.test

    def require_sound(self, parts: SplitRows) -> None:
        """Refuses parts that nothing can be learnt from or judged on.

        Raises:
            DataError: If a part has no window, a symbol has none in a part, or labels are all the same.
        """
        check_parts(self.panel, parts, self.bound)
        check_labels(self.panel, parts, self.targets)

    def rows_to_predict(self) -> Rows:
        """Rows that `predict` forecasts, (n,), also those whose label is not known yet.

        Raises:
            DataError: E375, if the facts known ahead do not reach far enough for the last rows.
        """
        require_facts(self.panel, self.recipe)
        if self.predict_part == "all":
            return self.windows
        begins = self.parts.boundaries.test
        if self._kept is not None and not self.split.gives_dates:
            begins = self._kept.test  # also where the prices do not reach back to the training part
        collector = self.collector()
        for rows in in_chunks(self.windows):
            collector.add(rows[self.parts.boundaries.tested_or_since(begins, self.panel.time[rows])])
        return collector.rows()

    def contract(self) -> dict[str, Any]:
        """What a checkpoint must know of the data, in plain values."""
        return _contract_of(self)


def _parts_of(data: MarketData, boundaries: Boundaries) -> SplitRows:
    """Labelled windows of the parts; those of a combination also by what they read."""
    if boundaries.spans is None:
        return split_chunks(data._known, boundaries, data.collector)

    def known_since() -> Iterator[KnownSince]:
        for rows, decision, label_end in data._known():
            since = data.panel.time[data.panel.first_of(rows, data.bound.needed_rows)]
            yield rows, since, decision, label_end

    return split_spans(known_since, boundaries, data.times, data.collector)


def _contract_of(data: MarketData) -> dict[str, Any]:
    """What a checkpoint must know of a data module, in plain values."""
    edges, trained = data.parts.boundaries, span_of_rows(data.panel.time, data.fit_rows)
    return {
        "recipe": data.recipe.to_plain(),
        "source": type(data.source).__name__,
        "symbols": list(data.panel.symbols),
        "scaled_symbols": scaled_symbols(data.panel, data.statistics) or None,
        "target_names": [target.name for target in data.targets],
        "target_kinds": [target.kind for target in data.targets],
        "target_units": [target.unit for target in data.targets],
        "target_mean": data.statistics.y_mean.tolist(),
        "boundaries": edges.to_plain(),
        "training": {"first": str(trained[0]), "last": str(trained[1])},
        "fitted_on": "" if data.fit_on == "train" else data.fit_on,
        "fingerprint": data.fingerprint,
        "scaling": data.scaling,
        "per_symbol": str(data.per_symbol).lower(),
        "static": data.vocabulary,
    }


def source_of(prices: Prices, recipe: Recipe) -> PriceSource:
    """A source as it is, and a frame as one, whose columns have the names that a recipe asks for.

    Args:
        prices: What the argument `source` was given.
        recipe: The recipe.

    Raises:
        DataError: As `FrameBars`.
    """
    return prices if isinstance(prices, PriceSource) else FrameBars(recipe.read(prices))


class _OneTable(PriceSource):
    """A source that returns one given table."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        return self.table
