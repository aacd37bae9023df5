"""Every row as a cut: a value of a user's own feature must be there without the rows behind it.

A leak that needs an event shows at the few rows before it, and sampled cuts miss them. To cut the table at each row
would take a call per row. So the cuts are screened together: a table that keeps `memory` rows before each of some cuts,
and drops the next `GAP` rows behind it, has the values of all these cuts in one call. What differs there is computed
again from the rows until it, which alone decides: a value that only reaches further back than `memory` is not a leak. A
feature of which much differs without a leak, such as a running sum, cannot be screened, and takes a call per row.
Shapes: n rows of the bars, d positions in time (rows of one symbol, or dates of a cross-sectional feature).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.features import Feature, evaluate_feature
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.times import time_text, utc_times
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.evaluation.audit.findings import NOT_APPLICABLE, Finding, Result, result
from cnn_lstm.hints import counted

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

EVERY_ROW = "own features at every row"
GAP = 250  # dropped behind a cut: about a year of days
MEMORIES = (64, 512)  # rows before a cut, tried for a feature that declares no warm-up
WARMUPS = (2, 8)  # and in warm-ups of one that does
MOST_SUSPECTS = 60  # of a screening, computed again
FEW = 0.005  # share of the rows: what differs at more of them without a leak sees that rows were dropped
MOST_PREFIXES = 12_000  # cuts of a feature that looks back without an end
TOLERANCE = 1e-6  # of a value and of the standard deviation of its column; sums of other lengths round otherwise

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Late:
    """Which values of a feature need later rows.

    Attributes:
        rows: Rows whose value is another one without what follows, ascending, (k,); some of them where there are many.
        cuts: Number of rows that were cuts.
    """

    rows: Positions
    cuts: int


def own_features_at_every_row(data: MarketDataModule) -> Result:
    """Cuts the table at every row, for the features that are functions of the user's own.

    Args:
        data: A data module that has read its data.
    """
    own = [item for item in data.bound.features if item.reads_all_rows]
    if not own:
        return Result(EVERY_ROW, NOT_APPLICABLE, "no feature is a function of your own")
    rows = len(data.prices)
    findings: list[Finding] = []
    partly: list[str] = []
    for item in own:
        late = [(bars, late_values(item, bars)) for bars in _bars_of(item, data.prices)]
        findings += [_finding(item, bars, each.rows) for bars, each in late if len(each.rows)]
        cuts = sum(each.cuts for _, each in late)
        partly += [f"{item.name} at {cuts:,} of them"] if cuts < rows else []
    compared = f"{counted(len(own), 'feature')}, {counted(rows, 'row')}, each of them a cut"
    return result(EVERY_ROW, f"{compared}, but {', '.join(partly)}" if partly else compared, findings)


def _bars_of(item: Feature, prices: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The tables that a feature takes at once."""
    if item.cross_sectional:
        yield prices.reset_index(drop=True)
        return
    for _, bars in prices.groupby("symbol", sort=False):
        yield bars.reset_index(drop=True)


def _finding(item: Feature, bars: pd.DataFrame, rows: Positions) -> Finding:
    when = utc_times(bars["timestamp"])
    first = rows[when[rows].argmin()]
    what = "its value is another one without the rows behind it"
    return Finding("features", item.name, str(bars["symbol"].iloc[first]), time_text(when[first]), what, len(rows))


def late_values(item: Feature, bars: pd.DataFrame) -> Late:
    """Values that need rows behind their own.

    Args:
        item: The feature.
        bars: What it takes at once, with a RangeIndex: the bars of one symbol, or of all if it is cross-sectional.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=30, tz="UTC")
        >>> bars = pd.DataFrame({"symbol": "A", "timestamp": days, "close": np.arange(30.0)})
        >>> bars.loc[10, "close"] = 99.0
        >>> repaired = lambda bars: bars["close"].where(bars["close"] < 90).bfill()
        >>> late_values(Feature("repaired", repaired, 0, ("close",), "own"), bars).rows.tolist()
        [10]
    """
    course = _Course(item, bars)
    for memory in (factor * item.warmup for factor in WARMUPS) if item.warmup else MEMORIES:
        suspects = np.flatnonzero(course.screened(memory, min(GAP, max(course.count // 4, 1))))
        late = course.late_of(suspects[evenly_spread(len(suspects), MOST_SUSPECTS)])
        if len(late) or len(suspects) <= FEW * len(bars):
            return Late(late, len(bars))
    # it looks back without an end, or at the dates of the next rows: a call per row
    cuts = evenly_spread(course.count, MOST_PREFIXES)
    rows = np.flatnonzero(np.isin(course.position, cuts))
    return Late(course.late_of(rows), len(rows))


class _Course:
    """A feature on the bars that it takes at once, and on parts of them."""

    def __init__(self, item: Feature, bars: pd.DataFrame) -> None:
        self.item, self.bars = item, bars
        times, date = np.unique(utc_times(bars["timestamp"]), return_inverse=True)
        self.position: Positions = date if item.cross_sectional else np.arange(len(bars))
        self.count = len(times) if item.cross_sectional else len(bars)
        self.values = self._values(bars)
        known = self.values[np.isfinite(self.values)]
        self.deviation = float(known.std()) if len(known) else 0.0
        age = bars.groupby("symbol", sort=False).cumcount().to_numpy()
        self.settled: Marks = age >= item.warmup  # the first ones are blanked

    def _values(self, bars: pd.DataFrame) -> Floats:
        with np.errstate(all="ignore"):
            values = evaluate_feature(self.item, bars)
        return np.where(np.isfinite(values), values, np.nan)

    def _differ(self, rows: Marks | slice, values: Floats) -> Marks:
        """Whether values of some rows differ from those of all bars; a blanked row does not."""
        before = self.values[rows]
        apart = np.abs(before - values) > TOLERANCE * (np.abs(before) + self.deviation)
        return np.asarray((apart | (np.isnan(before) != np.isnan(values))) & self.settled[rows])

    def screened(self, memory: int, gap: int) -> Marks:
        """Rows whose value differs on tables that have `memory` rows before each cut and lack the `gap` behind it."""
        suspects = np.zeros(len(self.bars), dtype=bool)
        length = memory + 1 + gap
        for phase in range(min(length, self.count)):
            ahead = (phase - self.position) % length  # distance to the next cut
            kept, cuts = ahead <= memory, ahead == 0
            try:
                part = self.bars[kept].reset_index(drop=True)
                suspects[cuts] = self._differ(cuts, self._values(part)[cuts[kept]])
            except CnnLstmError:  # a function may need more bars than these
                suspects[cuts] = self.settled[cuts]
        return suspects

    def late_of(self, rows: Positions) -> Positions:
        """Those of some rows, (k,), whose value is another one on the bars until it."""
        late: list[int] = []
        for position in np.unique(self.position[rows]).tolist():
            try:
                late += self._late_at(position)
            except CnnLstmError:  # it could not have had a value there
                continue
        return np.array(sorted(late), dtype=np.intp)

    def _late_at(self, position: int) -> list[int]:
        if not self.item.cross_sectional:
            until = self.bars.iloc[: position + 1]
            differs = self._differ(slice(position, position + 1), self._values(until)[-1:])
            return [position] if differs[0] else []
        kept, here = self.position <= position, self.position == position
        values = self._values(self.bars[kept].reset_index(drop=True))[here[kept]]
        return [int(row) for row in np.flatnonzero(here)[self._differ(here, values)]]
