"""Three ways to change every row after a moment, so that what has seen them gives itself away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import KEYS, PRICES

Mask = NDArray[np.bool_]
Perturbation = Callable[[pd.DataFrame, Mask], pd.DataFrame]
SEED = 20
MOST_NAMES = 20


def moved(table: pd.DataFrame, later: Mask) -> pd.DataFrame:
    """Prices times a lognormal factor with sigma 1, shapes of the bars too; volume drawn again; others moved as far.

    The bars stay valid: high is the highest of a bar, low its lowest. A column of few whole numbers, such as classes,
    is shuffled.

    Args:
        table: Price table.
        later: The rows to change, (n,).
    """
    random, rows = np.random.default_rng(SEED), int(later.sum())
    changed = as_floats(table)
    factor = np.exp(random.normal(0.0, 1.0, rows))
    prices = [name for name in PRICES if name in table]
    for name in prices:
        changed.loc[later, name] *= factor * np.exp(random.normal(0.0, 0.02, rows))
    for name, extreme in (("high", "max"), ("low", "min")):
        if name in table:
            changed.loc[later, name] = changed.loc[later, prices].agg(extreme, axis=1)
    for name in table.columns.difference([*KEYS, *PRICES], sort=False):
        if name == "volume":
            changed.loc[later, name] = np.round(np.exp(random.normal(10.0, 2.0, rows)))
        elif few_numbers(table[name]):
            changed.loc[later, name] = random.permutation(changed.loc[later, name].to_numpy())
        else:
            changed.loc[later, name] *= np.exp(random.normal(0.0, 1.0, rows))
    return changed


def few_numbers(column: pd.Series) -> bool:
    """Whether a column, (n,), holds at most 20 different values, all whole numbers: they are names, not sizes."""
    values = column.dropna().unique()
    return len(values) <= MOST_NAMES and bool((values % 1 == 0).all())


def blanked(table: pd.DataFrame, later: Mask) -> pd.DataFrame:
    """Nothing known any more; a symbol that had not begun is gone, since there is nothing to fill it from.

    Args:
        table: Price table.
        later: The rows to change, (n,).
    """
    changed = as_floats(table)
    changed.loc[later, changed.columns.difference(KEYS)] = np.nan
    begun = set(table.loc[~later, "symbol"])
    return changed[changed["symbol"].isin(begun)].reset_index(drop=True)


def removed(table: pd.DataFrame, later: Mask) -> pd.DataFrame:
    """The table as it was then.

    Args:
        table: Price table.
        later: The rows to take out, (n,).
    """
    return table[~later].reset_index(drop=True)


PERTURBATIONS: dict[str, Perturbation] = {"moved": moved, "blanked": blanked, "removed": removed}


def as_floats(table: pd.DataFrame) -> pd.DataFrame:
    """A price table whose values, of all columns but symbol and timestamp, are float64."""
    return table.astype(dict.fromkeys(table.columns.difference(KEYS), "float64"))
