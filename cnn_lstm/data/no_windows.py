"""Why a part of the data has no window: empty features, gaps, or the rows that come before the first window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cnn_lstm.data.checks import STEPS_OF_A_GAP
from cnn_lstm.data.exchange import DAY, elapsed, unit_of_pauses
from cnn_lstm.data.recipe import BoundRecipe
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.splits import Boundaries
from cnn_lstm.data.times import time_text
from cnn_lstm.data.windows import Panel, complete_windows, labelled
from cnn_lstm.hints import counted, first_names


@dataclass(frozen=True)
class Cause:
    """What keeps a part of the data from having a window.

    Attributes:
        what: What keeps rows from being a window.
        fix: The setting that helps.
    """

    what: str
    fix: str


def cause_of_no_window(panel: Panel, bound: BoundRecipe, edges: Boundaries, symbol: int | None = None) -> Cause | None:
    """The cause that is found first, from the plainest on; None if the dates of the split alone are to blame.

    Args:
        panel: The panel.
        bound: Its recipe.
        edges: The dates of the parts.
        symbol: Position of the symbol that lacks windows; None looks at all rows.
    """
    every = slice(0, len(panel)) if symbol is None else panel.rows_of(symbol)
    rows: Rows = np.arange(every.start, every.stop)
    return next(_causes(panel, bound, edges, rows), None)


def _causes(panel: Panel, bound: BoundRecipe, edges: Boundaries, rows: Rows) -> Iterator[Cause]:
    known = torch.isfinite(panel.values[torch.from_numpy(rows)]).numpy()
    yield from _empty(bound, known)
    yield from _gaps(panel, bound, rows)
    yield from _holes(bound, known)
    yield from _late(panel, bound, edges, rows)


def _empty(bound: BoundRecipe, known: NDArray[np.bool_]) -> Iterator[Cause]:
    """Features without any value, such as those of a volume that is 0 throughout."""
    never = [feature for k, feature in enumerate(bound.features) if not known[:, k].any()]
    if never:
        names = first_names([feature.name for feature in never], most=3)
        volume = all("volume" in feature.inputs for feature in never)
        why = ": is the volume 0 throughout?" if volume else ""
        yield Cause(f"{names}: no value in any of {len(known)} rows{why}", "leave it out of data.features")


def _gaps(panel: Panel, bound: BoundRecipe, rows: Rows) -> Iterator[Cause]:
    """Gaps that leave no stretch as long as a window and its label."""
    _, lengths = np.unique(panel.segment[rows], return_counts=True)
    needed, gaps = bound.recipe.window + bound.reach, len(lengths) - len(np.unique(panel.symbol[rows]))
    if gaps == 0 or lengths.max() >= needed:
        return
    limit, exchange = bound.recipe.checks.gap_limit(), bound.recipe.exchange
    unit = unit_of_pauses(exchange)
    same = np.diff(panel.symbol[rows]) == 0
    step = float(np.median(np.diff(elapsed(panel.time[rows].view(np.int64), exchange))[same] / DAY))
    what = f"{counted(gaps, 'gap')} of more than {limit:g} {unit} (data.checks.max_gap_days) leave at most"
    what = f"{what} {counted(int(lengths.max()), 'row')} in a row, and one window takes {needed}"
    if step > limit:
        fix = f"bars are {step:.0f} {unit} apart: set data.checks.max_gap_days: {math.ceil(STEPS_OF_A_GAP * step)}"
        yield Cause(what, f"{fix}, or null, which follows the bars")
    else:
        yield Cause(what, "raise data.checks.max_gap_days, or shorten data.window")


def _holes(bound: BoundRecipe, known: NDArray[np.bool_]) -> Iterator[Cause]:
    """A feature that is empty too often for one window."""
    for k, feature in enumerate(bound.features):
        holes = np.flatnonzero(np.concatenate([[True], ~known[:, k], [True]]))
        longest = int(np.diff(holes).max()) - 1
        if longest < bound.recipe.window:
            what = f"{feature.name} is empty in {int((~known[:, k]).sum())} of {len(known)} rows"
            yield Cause(f"{what}, never known for {bound.recipe.window} rows in a row", "leave it out of data.features")


def _late(panel: Panel, bound: BoundRecipe, edges: Boundaries, rows: Rows) -> Iterator[Cause]:
    """Windows that all come later than the training part, as warm-up and window take the rows before."""
    windows = np.intersect1d(complete_windows(panel, bound.recipe.window), rows)
    windows = windows[labelled(panel, windows)]
    if not len(windows) or panel.time[windows].min() < edges.validation:
        return
    longest = max(bound.features, key=lambda feature: feature.warmup)
    parts = f"warm-up of {longest.name} {longest.warmup} rows + window {bound.recipe.window}"
    what = f"the first window ends on {time_text(panel.time[windows].min())} ({parts})"
    fix = "give more history, leave out features with a long warm-up, or shorten data.window"
    yield Cause(what, fix)


def span_of_windows(panel: Panel, windows: Rows, symbol: int) -> str:
    """First and last decision of a symbol's windows, for a message.

    Args:
        panel: The panel.
        windows: Its windows, (n,).
        symbol: Position of the symbol.
    """
    times = panel.time[windows[panel.symbol[windows] == symbol]]
    return f"its windows end from {time_text(times.min())} to {time_text(times.max())}" if len(times) else ""
