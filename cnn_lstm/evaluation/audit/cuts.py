"""The moments after which the future is changed: where leaks show, and some at random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.datamodule import MarketDataModule

Times = NDArray[np.datetime64]
RANDOM = 8
MOST_RUNS = 30


@dataclass(frozen=True)
class Cuts:
    """Moments, and why they were chosen.

    Attributes:
        times: Ascending, (n,) datetime64[us], UTC; each has rows before and after it.
        why: How many of which kind, for the report.
    """

    times: Times
    why: str


def cuts_of(data: MarketDataModule, table: pd.DataFrame, seed: int) -> Cuts:
    """Random rows, the first row of runs of missing values, the border rows of each part, each symbol's last row.

    A pause of the calendar counts as a run of missing values: the last row before it. Of more than `MOST_RUNS` runs
    as many are taken, evenly spread; of last rows likewise.

    Args:
        data: A data module that has read its data.
        table: Raw price table.
        seed: Seed of the random ones.
    """
    when = times_of(table)
    distinct = np.unique(when)
    random = np.random.default_rng(seed).choice(distinct[:-1], min(RANDOM, len(distinct) - 1), replace=False)
    runs = np.unique(np.concatenate([_missing(table, when), _pauses(data)]))
    taken = spread(runs, MOST_RUNS)
    last = np.unique(pd.Series(when).groupby(table["symbol"].to_numpy()).max().to_numpy(dtype="datetime64[us]"))
    every = np.unique(np.concatenate([random, taken, _borders(data), spread(last, MOST_RUNS)]))
    inside = every[(every >= distinct[0]) & (every < distinct[-1])]
    runs_told = f"{len(taken)} of {len(runs)}" if len(taken) < len(runs) else str(len(runs))
    return Cuts(inside, f"{len(inside)} cuts: {len(random)} random, {runs_told} at missing rows, borders, last rows")


def spread(times: Times, most: int) -> Times:
    """At most so many of ascending times, evenly spread, with the first and the last."""
    chosen: Times = times[np.unique(np.linspace(0, len(times) - 1, min(most, len(times))).round().astype(int))]
    return chosen


def times_of(table: pd.DataFrame) -> Times:
    """Timestamps of a price table in UTC, (n,) datetime64[us]."""
    times: Times = table["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return times


def _missing(table: pd.DataFrame, when: Times) -> Times:
    """First row of each run of missing values."""
    found: list[Iterable[np.datetime64]] = [np.empty(0, dtype="datetime64[us]")]
    order = np.lexsort((when, table["symbol"].to_numpy(dtype=object).astype(str)))
    symbol = table["symbol"].to_numpy(dtype=object)[order]
    for name in table.columns.difference(KEYS):
        gap = table[name].isna().to_numpy()[order]
        before = np.concatenate([[False], gap[:-1] & (symbol[1:] == symbol[:-1])])
        found.append(when[order][gap & ~before])
    return np.concatenate([np.asarray(part) for part in found])


def _pauses(data: MarketDataModule) -> Times:
    """Last row before each pause of a symbol."""
    panel = data.panel
    ends = (np.diff(panel.segment) != 0) & (np.diff(panel.symbol) == 0)
    last: Times = panel.time[:-1][ends]
    return last


def _borders(data: MarketDataModule) -> Times:
    """First and last row of each part."""
    times = [data.panel.time[rows] for rows in (data.parts.train, data.parts.validation, data.parts.test)]
    return np.array([edge for part in times for edge in (part.min(), part.max())])
