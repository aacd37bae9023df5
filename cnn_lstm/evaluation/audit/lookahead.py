"""Whatever happens after t changes no bit of anything at or before t, from the source to the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.times import Times, time_text, utc_times
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.evaluation.audit.findings import NOT_APPLICABLE, Finding, Result, merge, result
from cnn_lstm.evaluation.audit.perturbations import PERTURBATIONS
from cnn_lstm.evaluation.audit.stages import Base, Stage, Stages

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

FUTURE, SOURCE = "future perturbation", "prices as they were known"
MODEL_CUTS = 8
OF_THE_MODEL = ("moved", "removed")  # the perturbations that the model is tried on too
SOURCE_CUTS = 3
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
    panel, parts, when = data.panel, data.parts, utc_times(table["timestamp"])
    distinct = np.unique(when)
    random = np.random.default_rng(seed).choice(distinct[:-1], min(RANDOM, len(distinct) - 1), replace=False)
    pauses = panel.time[:-1][(np.diff(panel.segment) != 0) & (np.diff(panel.symbol) == 0)]
    runs = np.unique(np.concatenate([_missing(table, when), pauses]))
    taken = runs[evenly_spread(len(runs), MOST_RUNS)]
    times = [panel.time[rows] for rows in (parts.train, parts.validation, parts.test)]
    borders = [edge(part) for part in times for edge in (np.min, np.max)]
    last = np.unique(pd.Series(when).groupby(table["symbol"].to_numpy()).max().to_numpy(dtype="datetime64[us]"))
    every = np.unique(np.concatenate([random, taken, borders, last[evenly_spread(len(last), MOST_RUNS)]]))
    inside = every[(every >= distinct[0]) & (every < distinct[-1])]
    missing = f"{len(taken)} of {len(runs)}" if len(taken) < len(runs) else str(len(runs))
    return Cuts(inside, f"{len(inside)} cuts: {len(random)} random, {missing} at missing rows, borders, last rows")


def _missing(table: pd.DataFrame, when: Times) -> Times:
    """First row of each run of missing values, of any column."""
    gaps = table.drop(columns=KEYS).isna().iloc[np.argsort(when, kind="stable")]
    begins = gaps & ~gaps.groupby(table["symbol"]).shift(fill_value=False)
    return when[begins.any(axis=1).sort_index().to_numpy()]


def future_perturbation(
    base: Base,
    cuts: Cuts,
    perturbations: Collection[str] = tuple(PERTURBATIONS),
    at: Callable[[int], None] = lambda number: None,
) -> Result:
    """Changes every row after each cut in several ways; the rows until then must stay as they are in every bit.

    Args:
        base: The stages of the table as it is.
        cuts: The moments.
        perturbations: Names of the ways.
        at: Is called with the number of each moment, from 1.
    """
    with_model = set(cuts.times[evenly_spread(len(cuts.times), MODEL_CUTS)].tolist()) if base.forecasts else set()
    every_stage = base.known | base.forecasts
    findings: list[Finding] = []
    values = trials = skipped = 0
    for number, cut in enumerate(cuts.times, start=1):
        at(number)
        for name in perturbations:
            model = cut.item() in with_model and name in OF_THE_MODEL
            after = _stages_after(base, base.when > cut, name, cut if model else None)
            if after is None:
                skipped += 1
                continue
            trials += 1
            what = f"it changed when all rows were {name} after {time_text(cut)}"
            for stage, changed in after.items():
                before = every_stage[stage].until(cut)
                values += before.values.size
                findings += before.other_bits(changed.until(cut), what)
    compared = f"{cuts.why}; {trials} trials x {len(every_stage)} stages, {values:,} values"
    if skipped:
        compared += f"; {skipped} tables that no pipeline could have taken were left out"
    if base.forecasts:
        every = len(base.panel.symbols)
        compared += f"; the model at {len(with_model)} cuts, {len(base.symbols)} of {every} symbols"
    return result(FUTURE, compared, findings)


def _stages_after(
    base: Base, later: NDArray[np.bool_], perturbation: str, model_until: np.datetime64 | None
) -> Stages | None:
    """Stages of the table with another future; None where no such table passes the checks."""
    pipeline = base.pipeline
    try:
        panel = pipeline.panel(PERTURBATIONS[perturbation](base.table, later))
    except CnnLstmError:
        if perturbation == "moved":
            raise
        # a column that had not begun has nothing to be filled from, and a user's function may need more bars
        return None
    stages = pipeline.known(panel)
    if model_until is None:
        return stages
    return stages | pipeline.forecast(panel, pipeline.windows(panel, base.symbols, model_until))


def prices_as_known(data: MarketDataModule, table: pd.DataFrame) -> Result:
    """Loads the prices again with an earlier end: symbols and prices until then must be the same.

    A universe of the symbols that survived, or prices that are divided by the last one, change with the end.

    Args:
        data: A data module that has read its data.
        table: Raw price table.
    """
    if not data.source.local:
        return Result(SOURCE, NOT_APPLICABLE, f"{type(data.source).__name__} would have to be asked again")
    when = utc_times(table["timestamp"])
    begun = pd.Series(when).groupby(table["symbol"].to_numpy()).min().max().to_datetime64().astype("datetime64[us]")
    distinct = np.unique(when[when > begun])
    days = np.unique(distinct.astype("datetime64[D]"))
    days = days[len(days) // 4 : max(len(days) - 1, 1)]
    ends = days[evenly_spread(len(days), SOURCE_CUTS, down=True)]
    findings = [finding for end in ends for finding in _reloaded(data, table, when, end)]
    return result(SOURCE, f"loaded again with {len(ends)} earlier ends, {len(table):,} rows", findings)


def _reloaded(data: MarketDataModule, table: pd.DataFrame, when: Times, end: np.datetime64) -> Iterator[Finding]:
    what = f"other prices when loaded with the end {end}"
    try:
        again = data.load(str(end))
    except CnnLstmError as error:
        yield Finding("prices", "rows", "", str(end), f"cannot be loaded with this end: {error.what}")
        return
    one, other = (_as_stage(part) for part in (table[when < end], again))
    yield from merge(one.other_bits(other, what))


def _as_stage(table: pd.DataFrame) -> Stage:
    table = table.sort_values(KEYS, kind="stable", ignore_index=True)
    names = sorted(table.columns.difference(KEYS))
    values = table[names].to_numpy(dtype=np.float64)
    time = utc_times(table["timestamp"])
    return Stage("prices", tuple(names), table["symbol"].to_numpy(dtype=object), time, values)
