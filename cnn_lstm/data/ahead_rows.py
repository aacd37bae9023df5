"""The last rows of each symbol, where facts known ahead may end before the interval of a forecast does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import Defect
from cnn_lstm.hints import counted, first_names


def without_facts(panel: Panel, recipe: Recipe) -> list[Defect]:
    """A warning of rows that are left out, since the facts of their interval are not in the table yet.

    Labels of such rows are not known yet either, so that training, validation and test lose nothing.

    Args:
        panel: The panel.
        recipe: Its recipe.

    Returns:
        None or one.
    """
    if not recipe.known_future or recipe.tables is None:
        return []
    bars, table = _last_bars(panel, recipe), recipe.tables.facts()
    unknown = np.zeros(len(bars), dtype=bool)
    for fact in recipe.known_future:
        unknown |= np.isnan(table.over(fact, bars, open_end=True))
    if not unknown.any():
        return []
    symbols = first_names(list(bars.loc[unknown, "symbol"].unique()), most=3)
    what = f"known_future ends before the interval of the last {counted(int(unknown.sum()), 'row')}"
    fix = "they are left out; `predict` refuses them until the table is longer"
    return [Defect(375, what, symbols, fix, fatal=False)]


def require_facts(panel: Panel, recipe: Recipe) -> None:
    """Refuses a panel whose last rows cannot be forecast, since the table of known facts is too short.

    Raises:
        DataError: E375, naming symbol, date and how far the table must reach.
    """
    if recipe.known_future and recipe.tables is not None:
        bars, table = _last_bars(panel, recipe), recipe.tables.facts()
        for fact in recipe.known_future:
            table.over(fact, bars)


def _last_bars(panel: Panel, recipe: Recipe) -> pd.DataFrame:
    """Symbol and timestamp of the last rows of each symbol, as many as the longest interval has."""
    longest = max((fact.last for fact in recipe.known_future), default=0)
    parts = [np.arange(max(start, stop - longest), stop) for start, stop in pairwise(panel.edges)]
    rows = np.concatenate(parts)
    names = np.asarray(panel.symbols, dtype=object)[panel.symbol[rows]]
    return pd.DataFrame({"symbol": names, "timestamp": utc_index(panel.time[rows])})
