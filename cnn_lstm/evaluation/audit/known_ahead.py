"""Facts that are declared as known ahead come from their own table alone, and from the sessions that they name.

Shapes: N panel rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.known_future import EVERY, AheadFact, FutureTable
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import Panel
from cnn_lstm.evaluation.audit.findings import NOT_APPLICABLE, Finding, Result, result
from cnn_lstm.evaluation.audit.stages import earliest

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

KNOWN_AHEAD = "facts known ahead"
TOLERANCE = 1e-5  # of a value and of 1: a panel holds float32


def facts_known_ahead(data: MarketDataModule) -> Result:
    """Names the features that are declared as known ahead, and computes them again from nothing but their table.

    Of the prices the symbols and times of the rows are read alone. Whether a fact really was known ahead no table
    says; a fact that is the label itself is refused by the check of the correlations with labels, E819.

    Args:
        data: A data module that has read its data.
    """
    recipe = data.recipe
    if not recipe.known_future or recipe.tables is None:
        return Result(KNOWN_AHEAD, NOT_APPLICABLE, "data.known_future is not given")
    table, findings, spans = recipe.tables.facts(), list[Finding](), []
    for fact in recipe.known_future:
        spans.append(f"{fact.name} = {fact.aggregate} of {fact.fact} over (t+{fact.first - 1}, t+{fact.last}]")
        values = data.panel.values[:, recipe.features.index(fact.name)].numpy()
        findings += _unlike(data.panel, fact, values, _of_table(table, fact, data.panel))
    return result(KNOWN_AHEAD, f"declared: {'; '.join(spans)}; {len(data.panel):,} rows from {table.place}", findings)


def _of_table(table: FutureTable, fact: AheadFact, panel: Panel) -> NDArray[np.float64]:
    """A fact at each row of a panel, (N,), by another way than the features take."""
    parts = []
    for code, symbol in enumerate(panel.symbols):
        key = EVERY if EVERY in table.sessions else symbol
        sessions = pd.Series(table.values[key][:, table.columns.index(fact.fact)], index=utc_index(table.sessions[key]))
        width = 1 if fact.aggregate == "last" else fact.last - fact.first + 1
        how = "mean" if fact.aggregate == "last" else fact.aggregate
        ahead = sessions.rolling(width).agg(how).shift(-fact.last)
        parts.append(ahead.reindex(utc_index(panel.time[panel.rows_of(code)])).to_numpy(dtype=np.float64))
    return np.concatenate(parts)


def _unlike(
    panel: Panel, fact: AheadFact, values: NDArray[np.float32], expected: NDArray[np.float64]
) -> Iterator[Finding]:
    apart = np.abs(values - expected) > TOLERANCE * (1.0 + np.abs(expected))
    rows = np.flatnonzero(apart | (np.isnan(values) != np.isnan(expected)))
    if len(rows):
        what = f"it is not the {fact.aggregate} of {fact.fact} in its table over (t+{fact.first - 1}, t+{fact.last}]"
        yield Finding("features", fact.name, *earliest(panel, rows), what, len(rows))
