"""Test rows that were filtered or chosen by their label: what is judged must not be what is easy to forecast.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import Times
from cnn_lstm.data.windows import labelled
from cnn_lstm.evaluation.audit.findings import FAILED, PASSED, WARNED, Finding, Result, merge
from cnn_lstm.evaluation.audit.stages import earliest

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

SELECTION = "rows chosen by label"
FEWEST = 8  # stretches of `horizon` dates with a missing row
ERRORS = 4.5  # standard errors of the mean rank of their moves from that of a random choice
APART = 0.2  # and the least distance itself
FEWEST_DAYS = 60
USUAL = 0.8  # share of the weeks that have a weekday of the calendar


def label_selection(data: MarketDataModule, warnings_fail: bool = False) -> Result:
    """The test part holds every labelled window of its dates, and the rows that it lacks are like those that it has.

    A row that a split or a loader leaves out is a failure. A row that the table lacks, between rows of its symbol and
    on a date of other symbols or a usual weekday, or whose cell of labels is empty, is a hole. What the price did after
    the holes is compared with what it did after all rows: a table that was filtered by its labels, which happens where
    extreme labels are dropped, has its holes before the largest moves. Halts of trading look the same, so that is a
    warning.

    Args:
        data: A data module that has read its data.
        warnings_fail: Whether a warning is a failure.
    """
    left_out = list(_left_out(data))
    holes = 0
    findings: list[Finding] = []
    for target in data.targets:
        if target.holds_labels and "close" not in data.prices:
            continue  # nothing says what an unknown label would have been
        moves = _test_moves(data, target)
        holes = max(holes, int(moves["hole"].sum()))
        findings += _unlike_the_others(data, target, moves)
    test = len(data.parts.test)
    compared = f"{test:,} test rows against the labelled windows of their dates; {holes:,} rows missing between them"
    outcome = FAILED if left_out or (findings and warnings_fail) else WARNED if findings else PASSED
    return Result(SELECTION, outcome, compared, merge([*left_out, *findings]))


# -- rows that are there and are not judged ----------------------------------------------------------------------------


def _left_out(data: MarketDataModule) -> Iterator[Finding]:
    expected = _test_windows(data)
    loaded = np.concatenate([batch.row.cpu().numpy() for batch in data.test_dataloader()])
    for name, rows in (("rows of the test part", data.parts.test), ("rows of the test loader", loaded)):
        missing = np.setdiff1d(expected, rows)
        if len(missing):
            what = f"labelled windows of the test dates are left out{_sizes(data, missing, expected)}"
            yield Finding("split", name, *earliest(data.panel, missing), what, len(missing))


def _test_windows(data: MarketDataModule) -> Rows:
    """All labelled windows of the dates of the test part."""
    panel = data.panel
    given = data.split.boundaries(np.unique(panel.time))
    rows = data.windows[labelled(panel, data.windows)]
    when = panel.time[rows + data.bound.reach] if given.by == "label" else panel.time[rows]
    return rows[given.inside("test", when)]


def _sizes(data: MarketDataModule, missing: Rows, expected: Rows) -> str:
    """How their labels compare with those that are kept."""
    labels = data.panel.labels[:, 0].numpy()
    sizes = np.abs(labels - np.median(labels[expected]))
    kept = np.setdiff1d(expected, missing)
    if not len(kept) or not sizes[kept].mean() > 0:
        return ""
    return f"; their labels lie {sizes[missing].mean() / sizes[kept].mean():.2g} times as far from the median"


# -- rows that are not there -------------------------------------------------------------------------------------------


def _test_moves(data: MarketDataModule, target: Target) -> pd.DataFrame:
    """What the price does over the label's interval of each test row, and whether a row is missing there, (n,).

    Returns:
        symbol, time, `stretch` of `horizon` dates, `move` in units of a root of dates, and `hole`: the row itself has
        no label, or a date of the calendar lies between it and the next row. The label of a row that was left out
        there begins at the same row as its own.
    """
    price = "close" if target.holds_labels else target.column
    panel = data.panel
    cell = np.searchsorted(_calendar(panel.time), panel.time)
    level = np.log(data.prices[price].where(data.prices[price] > 0).to_numpy(dtype=np.float64))
    row = np.arange(len(panel))
    known = row[: max(len(row) - target.reach, 0)]
    known = known[panel.symbol[known] == panel.symbol[known + target.reach]]
    start, end = known + target.delay, known + target.reach
    move = np.full(len(panel), np.nan)
    move[known] = (level[end] - level[start]) / np.sqrt(cell[end] - cell[start])
    hole = np.zeros(len(panel), dtype=bool)
    hole[known] = cell[known + 1] - cell[known] > 1
    if target.holds_labels:
        hole[data.windows[~labelled(panel, data.windows)]] = True
    edges = data.parts.boundaries
    kept = edges.inside("test", panel.time) & np.isfinite(move)
    columns = {"symbol": panel.symbol, "time": panel.time, "stretch": cell // target.horizon}
    return pd.DataFrame(columns | {"move": move, "hole": hole}).iloc[np.flatnonzero(kept)]


def _calendar(times: Times) -> Times:
    """The dates of all symbols, and of daily bars also the missing ones of weekdays that most weeks have."""
    dates = np.unique(times)
    days = dates.astype("datetime64[D]")
    if len(days) < FEWEST_DAYS or (days != dates).any():
        return dates
    every = np.arange(days[0], days[-1] + 1)
    weekday, there = pd.DatetimeIndex(every).day_of_week.to_numpy(), np.isin(every, days)
    share = np.bincount(weekday, there, minlength=7) / np.bincount(weekday, minlength=7)
    return np.union1d(dates, every[share[weekday] > USUAL].astype(dates.dtype))


def _unlike_the_others(data: MarketDataModule, target: Target, moves: pd.DataFrame) -> Iterator[Finding]:
    """Holes whose moves are larger, or more often of one sign, than those of a random choice of rows."""
    of_symbol = moves.groupby("symbol")["move"]
    size = (moves["move"] - of_symbol.transform("median")).abs()
    hole = moves["hole"].to_numpy()
    for what, values, one_sided in (("the largest moves", size, True), ("moves of one sign", moves["move"], False)):
        rank = values.groupby(moves["symbol"]).rank(pct=True)[hole]
        # one value per stretch of dates: symbols of a date, and labels that overlap, say the same
        by_stretch = rank.groupby(moves["stretch"][hole]).mean()
        apart = float(by_stretch.mean()) - 0.5 if len(by_stretch) >= FEWEST else 0.0
        apart = apart if one_sided else abs(apart)
        if apart > APART and apart * np.sqrt(12 * len(by_stretch)) > ERRORS:
            first = moves[hole].sort_values("time").iloc[0]
            place = data.panel.symbols[int(first["symbol"])], str(first["time"])[:10]
            text = f"rows that are missing precede {what}: mean rank {by_stretch.mean():.2f}, of a random choice 0.50"
            yield Finding("prices", f"test rows for {target.name}", *place, text, int(hole.sum()))
            return
