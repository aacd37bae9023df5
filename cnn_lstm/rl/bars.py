"""What an agent can see and trade: prices on common dates, feature windows, and where episodes may lie.

Shapes: D dates that all traded symbols have in common, S symbols, N panel rows, F features, T window length.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES
from cnn_lstm.data.prices import Checks, check_prices
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.splits import Boundaries, FractionSplit, Split
from cnn_lstm.data.windows import Panel, complete_windows
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.hints import nearest
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract, digest_of

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Times = NDArray[np.datetime64]
Part = Literal["train", "validation", "test"]
PARTS: tuple[str, ...] = get_args(Part)


@dataclass(frozen=True)
class Bars:
    """Prices and feature windows of the traded symbols.

    Attributes:
        symbols: Traded symbols.
        dates: Dates that they have in common, UTC, ascending, (D,).
        close: Prices at which positions change, (D, S).
        returns: Simple return of the bar from a date to the next one, (D, S); 0 at the last date, and over a gap,
            which no episode crosses. Rounded to float32 as `bar_return` in the predictions table is, so that the same
            positions earn the same.
        features: Names of the feature columns.
        values: Features, (N, F) float32.
        rows: Panel row of each date and symbol, (D, S).
        window: Rows of a window, T.
        last: Last date of the gap-free stretch of the part that a date lies in, as a position in `dates`, (D,); -1
            where the date lies in none. An episode never leaves its stretch.
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
        """Windows of all symbols that end at dates, (n,) positions -> (n, S, T, F), a copy."""
        count, width = self.values.shape
        shape, strides = (count - self.window + 1, self.window, width), (self.values.strides[0], *self.values.strides)
        overlapping = np.lib.stride_tricks.as_strided(self.values, shape, strides, writeable=False)
        return overlapping[self.rows[at] - (self.window - 1)]


def read_bars(
    prices: pd.DataFrame | str | Path,
    recipe: Recipe,
    boundaries: Boundaries | Split | None = None,
    *,
    part: Part | None = None,
    symbols: Sequence[str] | None = None,
    between: tuple[str | None, str | None] = (None, None),
    column: str = "close",
) -> Bars:
    """Prepares a price table for trading.

    Features are computed on the whole table before symbols and dates are chosen, so that cross-sectional ones and
    those of the first dates are the forecaster's.

    Args:
        prices: Long price table, or a file or pattern of files with one.
        recipe: Features, window and checks.
        boundaries: Dates of the parts, or the rule that gives them; thirds as in `FractionSplit` by default.
        part: Part in which episodes lie, bars included: no price of a later part is ever seen or earned. Everything
            by default.
        symbols: Symbols to trade; all by default.
        between: First day of episodes, and the day after the last one, ISO; open ends follow the table.
        column: Column of the traded price.

    Raises:
        DataError: If the table is damaged, or leaves no date to trade.
        ConfigError: If a symbol, a part or a day is unknown.
    """
    table = prices if isinstance(prices, pd.DataFrame) else PriceFiles(str(prices)).load(None, None, None)
    bound = recipe.bind(table.columns, [])
    checked = check_prices(table, recipe.checks, required=[*bound.needed_columns, column])
    for defect in checked.warnings:
        log.warning("[W%d] %s — %s — %s", defect.code, defect.what, defect.where, defect.fix)
    panel = bound.panel(checked.table)
    traded = _chosen(panel.symbols, symbols)
    dates, rows = _common(panel, traded)
    close = checked.table[column].to_numpy(dtype=np.float64)[rows]
    returns = np.zeros_like(close)
    returns[:-1] = (close[1:] / close[:-1] - 1.0).astype(np.float32)
    segment = panel.segment[rows]
    fresh = np.ones(len(rows), dtype=bool)  # starts a segment of some symbol
    fresh[1:] = (segment[1:] != segment[:-1]).any(axis=1)
    returns[:-1][fresh[1:]] = 0.0
    complete = np.isin(rows, complete_windows(panel, recipe.window)).all(axis=1)
    complete &= _inside(dates, _edges(boundaries, part, np.unique(panel.time)), between)
    return Bars(
        symbols=traded,
        dates=dates,
        close=close,
        returns=returns,
        features=recipe.features,
        values=panel.values.numpy(),
        rows=rows,
        window=recipe.window,
        last=_stretches(complete, fresh),
    )


def contract_of(checkpoint: str | Path) -> tuple[Recipe, Boundaries, str]:
    """Recipe and dates of the parts that a checkpoint was trained with, and the digest of its weights.

    Args:
        checkpoint: Checkpoint file of `fit`, or an ensemble.
    """
    content = read_checkpoint(checkpoint)
    contract = Contract.of(content)
    edges = {name: np.datetime64(day) for name, day in asdict(contract.boundaries).items()}
    return Recipe.from_plain(contract.recipe), Boundaries(**edges), digest_of(content)


def own_recipe(features: Sequence[str] | None = None, window: int = 60) -> Recipe:
    """Recipe of features and window alone, for an agent without a forecaster."""
    return Recipe(tuple(DEFAULT_FEATURES if features is None else features), (), window, (), Checks())


def _chosen(known: Sequence[str], symbols: Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(known if symbols is None else [symbols] if isinstance(symbols, str) else symbols)
    for name in chosen:
        if name not in known:
            raise ConfigError(f"no symbol {name} in the prices", "symbols", nearest(name, list(known)) or "", code=265)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"symbols={list(chosen)}", "symbols", "name each traded symbol once", code=265)
    return chosen


def _common(panel: Panel, symbols: Sequence[str]) -> tuple[Times, Integers]:
    """Dates of all symbols (D,), and the panel rows at them (D, S)."""
    own = [np.flatnonzero(panel.symbol == panel.symbols.index(name)) for name in symbols]
    dates = panel.time[own[0]]
    for rows in own[1:]:
        dates = np.intersect1d(dates, panel.time[rows], assume_unique=True)
    at = [rows[np.searchsorted(panel.time[rows], dates)] for rows in own]
    return dates, np.stack(at, axis=1).astype(np.int64)


def _edges(boundaries: Boundaries | Split | None, part: str | None, times: Times) -> tuple[Any, Any]:
    """First time of a part and the first one that nothing in it may reach; null where it is open."""
    if part is None:
        return None, None
    if part not in PARTS:
        raise ConfigError(f"part={part!r}", "part", f"one of {', '.join(PARTS)}", code=265)
    if not isinstance(boundaries, Boundaries):
        boundaries = (boundaries or FractionSplit()).boundaries(times)
    start, stop, unreached = boundaries.parts[PARTS.index(part)]
    return start, stop if unreached is None else min(stop, unreached)


def _inside(dates: Times, edges: tuple[Any, Any], between: tuple[str | None, str | None]) -> NDArray[np.bool_]:
    inside = np.ones(len(dates), dtype=bool)
    days = [None if day is None else stamp(day, name) for name, day in zip(("start", "end"), between, strict=True)]
    for first, end in (edges, days):
        if first is not None:
            inside &= dates >= first
        if end is not None:
            inside &= dates < end
    return inside


def _stretches(usable: NDArray[np.bool_], starts: NDArray[np.bool_]) -> Integers:
    """Last position of the run of usable dates that each date lies in; -1 for the others."""
    if not usable.any():
        raise DataError(
            "no date on which all traded symbols have a complete window",
            f"{len(usable)} common dates",
            "trade fewer symbols, or give more history, another part, start or end",
            code=361,
        )
    ends = np.flatnonzero(usable & ~np.append(usable[1:] & ~starts[1:], False))
    last = np.full(len(usable), -1, dtype=np.int64)
    inside = np.flatnonzero(usable)
    last[inside] = ends[np.searchsorted(ends, inside)]
    return last
