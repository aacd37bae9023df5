"""Whether the champion of a roll still works: its losses next to the best baseline, and the coverage of its intervals.

Shapes: n forecasts of a predictions table.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.forecasts import judged_rows, read_forecasts
from cnn_lstm.evaluation.series import clustered_by_date
from cnn_lstm.service.contest import known_by
from cnn_lstm.service.health import LEVEL, Course, Health, Sign, coverage_sign, health, loss_sign

REFERENCE_DATES = 120  # half a year of trading days, by which a champion is known before it is watched


def champion_health(table: pd.DataFrame, chosen: np.datetime64, date: np.datetime64, seed: int = 0) -> Health:
    """How a champion does at the date of a step, by what is known then.

    Its first 120 dates that did not make it the champion are the reference, those after them its service. Dates that
    chose it are left out: the winner of a contest looks better there than it is, and any later date worse.

    Args:
        table: Predictions table of the champion with its baselines, since the first decision that it did not know.
        chosen: First decision, UTC, that did not make it the champion.
        date: Date of the step, UTC; what ends at or after it is not known.
        seed: Makes the thresholds repeatable.

    Returns:
        `stale` only where a sum that may be looked at every day has passed its threshold; see `health_of_losses`.
    """
    known = known_by(table, date)
    since = known[known["as_of"] >= pd.Timestamp(chosen, tz="UTC")]
    since.attrs = table.attrs
    signs = [sign for name, about in target_infos(table).items() for sign in _signs(since, name, about, seed)]
    return health(signs or [Sign("loss", "watch", "Nothing can be said yet: no outcome is known.")])


def _signs(table: pd.DataFrame, target: str, about: TargetInfo, seed: int) -> Iterator[Sign]:
    rows = judged_rows(table, target, about)
    forecasts = read_forecasts(rows, about) if len(rows) else {}
    losses = {name: one.loss for name, one in forecasts.items() if one.loss is not None and one.known.all()}
    if "model" not in losses or len(losses) < 2:
        return
    dates = rows["as_of"]
    edge = np.sort(dates.unique())[:REFERENCE_DATES][-1]
    early = (dates <= edge).to_numpy()
    model = losses.pop("model")
    best = min(losses, key=lambda name: float(np.mean(losses[name][early])))
    yield loss_sign(
        _course(losses[best] - model, dates, early), about.horizon, best, name=f"loss of {target}", seed=seed
    )
    bounds = [f"lower_{LEVEL}", f"upper_{LEVEL}"]
    if set(bounds) <= set(rows) and not rows[bounds].isna().any(axis=None):
        missed = ~rows["y_true"].between(rows[bounds[0]], rows[bounds[1]]).to_numpy()
        symbols = int(rows.groupby("as_of").size().max())
        course = _course(missed.astype(np.float64), dates, early)
        yield coverage_sign(course, about.horizon, symbols, name=f"coverage of {target}", seed=seed)


def _course(values: Floats, dates: pd.Series[pd.Timestamp], early: NDArray[np.bool_]) -> Course:
    """Values of rows, (n,), as one a date; the early ones are the reference."""
    reference, service = (
        clustered_by_date(values[part], dates[part]) if part.any() else values[:0] for part in (early, ~early)
    )
    return Course(reference, service, list(pd.DatetimeIndex(np.sort(dates[~early].unique()))))
