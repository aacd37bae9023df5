"""The moments after which the future is changed: where leaks show, and some at random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.times import Times, utc_times

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
    when = utc_times(table["timestamp"])
    distinct = np.unique(when)
    random = np.random.default_rng(seed).choice(distinct[:-1], min(RANDOM, len(distinct) - 1), replace=False)
    runs = np.unique(np.concatenate([_missing(table, when), _pauses(data)]))
    taken = runs[evenly_spread(len(runs), MOST_RUNS)]
    last = np.unique(pd.Series(when).groupby(table["symbol"].to_numpy()).max().to_numpy(dtype="datetime64[us]"))
    every = np.unique(np.concatenate([random, taken, _borders(data), last[evenly_spread(len(last), MOST_RUNS)]]))
    inside = every[(every >= distinct[0]) & (every < distinct[-1])]
    missing = f"{len(taken)} of {len(runs)}" if len(taken) < len(runs) else str(len(runs))
    return Cuts(inside, f"{len(inside)} cuts: {len(random)} random, {missing} at missing rows, borders, last rows")


def _missing(table: pd.DataFrame, when: Times) -> Times:
    """First row of each run of missing values."""
    firsts: list[Iterable[np.datetime64]] = [np.empty(0, dtype="datetime64[us]")]
    order = np.lexsort((when, table["symbol"].to_numpy(dtype=object).astype(str)))
    symbol = table["symbol"].to_numpy(dtype=object)[order]
    for name in table.columns.difference(KEYS):
        gap = table[name].isna().to_numpy()[order]
        before = np.concatenate([[False], gap[:-1] & (symbol[1:] == symbol[:-1])])
        firsts.append(when[order][gap & ~before])
    return np.concatenate([np.asarray(part) for part in firsts])


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
