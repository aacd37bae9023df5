"""The data of a market: prices on common dates, feature windows, and the dates on which episodes may lie.

Shapes: D dates that all traded symbols have in common, S symbols, N panel rows, F features, T window length.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES
from cnn_lstm.data.panel_checks import check_calendar
from cnn_lstm.data.prices import Checks, check_prices
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.sources.base import known_zone, stamp
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.splits import Boundaries, FractionSplit, Split
from cnn_lstm.data.windows import Panel, complete_windows
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.hints import counted, nearest
from cnn_lstm.inference.given_tables import GivenTables
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract, digest_of

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Times = NDArray[np.datetime64]
WINDOW = 60  # rows of a window without a checkpoint, as in `MarketDataModule`
Part = Literal["train", "validation", "test"]
PARTS: tuple[str, ...] = get_args(Part)
NO_TABLES = GivenTables()


@dataclass(frozen=True)
class MarketData:
    """Prices and feature windows of the traded symbols.

    Attributes:
        symbols: Traded symbols.
        dates: Dates that they have in common, UTC, ascending, (D,).
        close: Prices at which positions change, (D, S).
        returns: Simple return of the bar from a date to the next one, (D, S); 0 at the last date, and over a gap,
            which no episode crosses. They are rounded to float32, as `bar_return` in the predictions table is, so that
            the same positions earn the same.
        features: Names of the feature columns, F.
        values: Features, (N, F) float32.
        rows: Panel row of each date and symbol, (D, S).
        window: Rows of a window, T.
        last: Last date of the gap-free stretch of the part that a date lies in, as a position in `dates`, (D,); -1
            for a date outside of all stretches. An episode never leaves its stretch.
    """

    symbols: tuple[str, ...]
    dates: Times
    close: Floats
    returns: Floats
    features: tuple[str, ...]
    values: NDArray[np.float32]
    rows: Integers
    window: int
    last: Integers

    def windows(self, at: Integers) -> NDArray[np.float32]:
        """Windows of all symbols that end at given dates.

        Args:
            at: Positions in `dates`, (n,).

        Returns:
            A copy of the windows, (n, S, T, F).
        """
        count, width = self.values.shape
        shape, strides = (count - self.window + 1, self.window, width), (self.values.strides[0], *self.values.strides)
        overlapping = np.lib.stride_tricks.as_strided(self.values, shape, strides, writeable=False)
        return overlapping[self.rows[at] - (self.window - 1)]

    def kept_to(self, dates: NDArray[np.bool_]) -> MarketData:
        """The same market, in which no episode lies on other dates than these: a date left out ends a stretch.

        Args:
            dates: Whether each date may be part of an episode, (D,).

        Raises:
            DataError: E361, if no date is left.
        """
        starts = np.diff(self.last, prepend=-1) != 0
        return replace(self, last=_stretches((self.last >= 0) & dates, starts))


def read_market_data(
    prices: Frame | str | Path,
    recipe: Recipe,
    boundaries: Boundaries | Split | None = None,
    *,
    part: Part | None = None,
    symbols: Sequence[str] | None = None,
    between: tuple[str | None, str | None] = (None, None),
) -> MarketData:
    """Prepares a price table for trading.

    Features are computed on the whole table before symbols and dates are chosen, so that cross-sectional features and
    features of the first dates are the forecaster's.

    Args:
        prices: Price table, see `price_table`, or a file or pattern of files that hold one.
        recipe: Features, window and checks.
        boundaries: Dates of the parts, or the rule that gives them; as in `FractionSplit` by default.
        part: Part in which episodes lie with all of their bars: no price of a later part is ever seen or earned. All
            dates by default.
        symbols: Symbols to trade; all by default.
        between: First day of episodes, and the day after the last one, ISO; open ends follow the table.

    Raises:
        DataError: If the table is damaged, or leaves no date to trade.
        ConfigError: E265, if a symbol, a part or a day is unknown; E278, if daily bars are given a zone.
    """
    files = isinstance(prices, str | Path)
    table = recipe.read(PriceFiles(str(prices)).load(None, None, None) if files else prices)
    bound = recipe.bind(table.columns, [])
    required = [*bound.needed_columns, "close"]
    checked = check_prices(table, recipe.checks, required, exchange=recipe.exchange)
    # a checkpoint has targets, and its training has looked at its zone
    calendar = [] if recipe.targets else check_calendar(checked.table["timestamp"], bound)
    for defect in [*checked.warnings, *calendar]:
        log.warning("[W%d] %s — %s — %s", defect.code, defect.what, defect.where, defect.fix)
    panel = bound.panel(checked.table)
    traded = _chosen(panel.symbols, symbols)
    dates, rows = _common(panel, traded)
    close = checked.table["close"].to_numpy(dtype=np.float64)[rows]
    returns = np.zeros_like(close)
    returns[:-1] = (close[1:] / close[:-1] - 1.0).astype(np.float32)
    segment = panel.segment[rows]
    starts = np.ones(len(rows), dtype=bool)  # a date that starts a segment of some symbol
    starts[1:] = (segment[1:] != segment[:-1]).any(axis=1)
    returns[:-1][starts[1:]] = 0.0
    complete = np.isin(rows, complete_windows(panel, recipe.window)).all(axis=1)
    complete &= _inside(dates, _edges(boundaries, part, np.unique(panel.time)), between)
    return MarketData(
        symbols=traded,
        dates=dates,
        close=close,
        returns=returns,
        features=recipe.features,
        values=panel.values.numpy(),
        rows=rows,
        window=recipe.window,
        last=_stretches(complete, starts),
    )


def recipe_of(
    checkpoint: str | Path | None,
    features: Sequence[str] | None,
    window: int | None,
    split: Split | None,
    calendar_zone: str | None = None,
    tables: GivenTables = NO_TABLES,
) -> tuple[Recipe, Boundaries | Split | None, str | None]:
    """Recipe, dates of the parts and digest of the weights of a checkpoint, or what is given in place of one.

    Args:
        checkpoint: Checkpoint file of `fit`, or an ensemble.
        features: Names of the feature columns, without a checkpoint.
        window: Rows of a window, T, without a checkpoint.
        split: How the dates are cut into parts, without a checkpoint.
        calendar_zone: Zone of the features of the calendar, without a checkpoint; UTC by default.
        tables: What the checkpoint reads next to the prices.

    Returns:
        The recipe; the dates of the parts, or the rule that gives them; and the digest, None without a checkpoint.

    Raises:
        ConfigError: E266, if there is a checkpoint and anything else, or tables and no checkpoint; E210, if the zone is
            unknown.
        CheckpointError: E429, if the checkpoint needs a table and gets none.
        DataError: If a table is missing or damaged.
    """
    if checkpoint is None:
        if tables.known_future is not None or tables.static is not None:
            fix = "give the checkpoint that reads them, or leave them out"
            raise ConfigError("known_future or static without a checkpoint", "MarketEnv", fix, code=266)
        names = tuple(DEFAULT_FEATURES if features is None else features)
        zone = "" if calendar_zone is None else known_zone(calendar_zone, "calendar_zone")
        return Recipe(names, (), WINDOW if window is None else window, (), Checks(), zone), split, None
    if any(given is not None for given in (features, window, split, calendar_zone)):
        fix = "leave them out: the checkpoint has its own"
        raise ConfigError("features, window, split or calendar_zone next to a checkpoint", "MarketEnv", fix, code=266)
    content = read_checkpoint(checkpoint)
    contract = Contract.of(content)
    recipe = tables.join(Recipe.from_plain(contract.recipe), contract.static)
    return recipe, Boundaries.of(contract.boundaries), digest_of(content)


def _chosen(known: Sequence[str], symbols: Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(known if symbols is None else [symbols] if isinstance(symbols, str) else symbols)
    for name in chosen:
        if name not in known:
            raise ConfigError(f"no symbol {name} in the prices", "symbols", nearest(name, list(known)) or "", code=265)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"symbols={list(chosen)}", "symbols", "name each traded symbol once", code=265)
    return chosen


def _common(panel: Panel, symbols: Sequence[str]) -> tuple[Times, Integers]:
    """Dates that all symbols have, (D,), and the panel rows at them, (D, S)."""
    symbol_rows = [np.flatnonzero(panel.symbol == panel.symbols.index(name)) for name in symbols]
    dates = panel.time[symbol_rows[0]]
    for rows in symbol_rows[1:]:
        dates = np.intersect1d(dates, panel.time[rows], assume_unique=True)
    at = [rows[np.searchsorted(panel.time[rows], dates)] for rows in symbol_rows]
    return dates, np.stack(at, axis=1).astype(np.int64)


def _edges(boundaries: Boundaries | Split | None, part: str | None, times: Times) -> tuple[Any, Any]:
    """First time of a part, and the first time after it that nothing in it may reach; None where it is open."""
    if part is None:
        return None, None
    if part not in PARTS:
        raise ConfigError(f"part={part!r}", "part", f"one of {', '.join(PARTS)}", code=265)
    if not isinstance(boundaries, Boundaries):
        boundaries = (boundaries or FractionSplit()).boundaries(times)
    start, stop, unreached = boundaries.parts[PARTS.index(part)]
    return start, stop if unreached is None else min(stop, unreached)


def _inside(dates: Times, edges: tuple[Any, Any], between: tuple[str | None, str | None]) -> NDArray[np.bool_]:
    """Whether each date lies in the part and between the days, (D,)."""
    inside = np.ones(len(dates), dtype=bool)
    days = [None if day is None else stamp(day, name) for name, day in zip(("start", "end"), between, strict=True)]
    for first, end in (edges, days):
        if first is not None:
            inside &= dates >= first
        if end is not None:
            inside &= dates < end
    return inside


def _stretches(usable: NDArray[np.bool_], starts: NDArray[np.bool_]) -> Integers:
    """Last position of the run of usable dates that each date lies in, (D,); -1 for a date that is not usable.

    Args:
        usable: Whether an agent can act on a date, (D,).
        starts: Whether a gap lies before a date, (D,).

    Raises:
        DataError: E361, if no date is usable.
    """
    if not usable.any():
        what = "no date on which all traded symbols have a complete window"
        fix = "trade fewer symbols, or give more history, another part, start or end"
        raise DataError(what, counted(len(usable), "common date"), fix, code=361)
    ends = np.flatnonzero(usable & ~np.append(usable[1:] & ~starts[1:], False))
    last = np.full(len(usable), -1, dtype=np.int64)
    inside = np.flatnonzero(usable)
    last[inside] = ends[np.searchsorted(ends, inside)]
    return last
