"""Whatever happens after t changes no bit of anything at or before t, from the source to the embeddings."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.windows import Panel, Rows
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.evaluation.audit.cuts import Cuts, Times, spread, times_of
from cnn_lstm.evaluation.audit.findings import NOT_APPLICABLE, Finding, Result, merge, moved_bits, result, shown
from cnn_lstm.evaluation.audit.perturbations import FUTURES
from cnn_lstm.evaluation.audit.stages import Pipeline, Stage, Stages

FUTURE, SOURCE = "future perturbation", "prices as they were known"
MODEL_CUTS = 8
MODEL_FUTURES = ("moved", "removed")
SOURCE_CUTS = 3


class Base:
    """The stages of the table as it is, which every trial is compared with.

    Args:
        pipeline: The pipeline.
        table: Raw price table.
    """

    def __init__(self, pipeline: Pipeline, table: pd.DataFrame) -> None:
        self.pipeline, self.table, self.when = pipeline, table, times_of(table)
        self.panel: Panel = pipeline.panel(table)
        self.known: Stages = pipeline.known(self.panel)
        self.symbols = pipeline.few_symbols(self.panel) if pipeline.predictor is not None else ()
        self.rows: Rows = pipeline.windows(self.panel, self.symbols)
        self.forecasts: Stages = pipeline.forecast(self.panel, self.rows)


def future_perturbation(base: Base, cuts: Cuts, futures: Collection[str] = tuple(FUTURES)) -> Result:
    """Changes every row after each cut in several ways; the rows until then must stay as they are in every bit.

    Args:
        base: The stages of the table as it is.
        cuts: The moments.
        futures: Names of the ways.
    """
    with_model = set(spread(cuts.times, MODEL_CUTS).tolist()) if base.forecasts else set()
    found: list[Finding] = []
    values = trials = skipped = 0
    for cut in cuts.times:
        for name in futures:
            model = cut.item() in with_model and name in MODEL_FUTURES
            after = _stages_after(base, base.when > cut, name, cut if model else None)
            if after is None:
                skipped += 1
                continue
            trials += 1
            for stage, changed in after.items():
                before = _before(base, stage).until(cut)
                values += before.values.size
                found += moved_bits(before, changed.until(cut), f"{_told(name)} after {shown(cut)}")
    stages = len(base.known) + len(base.forecasts)
    told = f"{cuts.why}; {trials} trials x {stages} stages, {values:,} values"
    if skipped:
        told += f"; {skipped} tables that no pipeline could have taken were left out"
    if base.forecasts:
        every = len(base.panel.symbols)
        told += f"; the model at {len(with_model)} cuts, {len(base.symbols)} of {every} symbols"
    return result(FUTURE, told, found)


def _stages_after(
    base: Base, later: NDArray[np.bool_], future: str, model_until: np.datetime64 | None
) -> Stages | None:
    """Stages of the table with another future; None where no such table passes the checks."""
    pipeline = base.pipeline
    try:
        panel = pipeline.panel(FUTURES[future](base.table, later))
    except CnnLstmError:
        if future == "moved":
            raise
        # a column that had not begun has nothing to be filled from, and a user's function may need more bars
        return None
    stages = pipeline.known(panel)
    if model_until is None:
        return stages
    return stages | pipeline.forecast(panel, pipeline.windows(panel, base.symbols, model_until))


def _before(base: Base, stage: str) -> Stage:
    return base.known[stage] if stage in base.known else base.forecasts[stage]


def _told(future: str) -> str:
    return f"it changed when all rows were {future}"


def prices_as_known(data: MarketDataModule, table: pd.DataFrame) -> Result:
    """Loads the prices again with an earlier end: symbols and prices until then must be the same.

    A universe of the symbols that survived, or prices that are divided by the last one, change with the end.

    Args:
        data: A data module that has read its data.
        table: Raw price table.
    """
    if not data.source.local:
        return Result(SOURCE, NOT_APPLICABLE, f"{type(data.source).__name__} would have to be asked again")
    when = times_of(table)
    begun = pd.Series(when).groupby(table["symbol"].to_numpy()).min().max().to_datetime64().astype("datetime64[us]")
    distinct = np.unique(when[when > begun])
    days = np.unique(distinct.astype("datetime64[D]"))
    ends = (
        days[np.unique(np.linspace(len(days) // 4, max(len(days) - 2, 0), SOURCE_CUTS).astype(int))]
        if len(days)
        else []
    )
    found = [finding for end in ends for finding in _reloaded(data, table, when, end)]
    return result(SOURCE, f"loaded again with {len(ends)} earlier ends, {len(table):,} rows", found)


def _reloaded(data: MarketDataModule, table: pd.DataFrame, when: Times, end: np.datetime64) -> Iterator[Finding]:
    what = f"other prices when loaded with the end {end}"
    try:
        again = data.source.load(data.symbols, data.start, str(end))
    except CnnLstmError as error:
        yield Finding("prices", "rows", "", str(end), f"cannot be loaded with this end: {error.what}")
        return
    one, other = (_as_stage(part) for part in (table[when < end], again))
    yield from merge(moved_bits(one, other, what))


def _as_stage(table: pd.DataFrame) -> Stage:
    table = table.sort_values(KEYS, kind="stable", ignore_index=True)
    names = sorted(table.columns.difference(KEYS))
    values = table[names].to_numpy(dtype=np.float64)
    return Stage("prices", tuple(names), table["symbol"].to_numpy(dtype=object), times_of(table), values)
