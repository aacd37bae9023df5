"""What a predictions table says of the test and of the time since, date by date.

Shapes: m dates of the test, n dates in service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.forecasts import NAIVE, judged_rows, read_forecasts
from cnn_lstm.evaluation.metrics.distribution import pit
from cnn_lstm.evaluation.metrics.heads import read_head
from cnn_lstm.evaluation.verdict import hardest
from cnn_lstm.inference.intervals import MOST_DIGITS
from cnn_lstm.service.health import LEVEL, Course

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class TargetCourse:
    """One target, in the test and since.

    Attributes:
        target: Its name.
        about: What the table says of it.
        baseline: The best naive forecast of the test, which stays the one to compare with.
        lead: Loss of that forecast minus loss of the model, on each date.
        missed: Share of the intervals, or sets of classes, of each date that missed the truth; None without any.
        symbols: Forecasts a date, at most.
        losses: Mean loss of each forecaster in the test and in service, by its name, the model first.
        ranks: Probability integral transforms of the test and in service; None for classes and without scores.
    """

    target: str
    about: TargetInfo
    baseline: str
    lead: Course
    missed: Course | None
    symbols: int
    losses: Mapping[str, tuple[float, float]]
    ranks: tuple[Floats, Floats] | None


def courses(table: pd.DataFrame, end: pd.Timestamp) -> list[TargetCourse]:
    """Reads the targets of a predictions table.

    A forecast belongs to the test where its label ended before the model was made; every later one is in service. A
    value at a date needs no later date, so that a look in the past says today what it said then.

    Args:
        table: Predictions table with baselines, of the test part and everything since.
        end: First moment that the run's own test knew nothing of.
    """
    infos = target_infos(table)
    return [one for name, about in infos.items() if (one := _course(table, name, about, end)) is not None]


def _course(table: pd.DataFrame, name: str, about: TargetInfo, end: pd.Timestamp) -> TargetCourse | None:
    rows = judged_rows(table, name, about)
    if not len(rows):
        return None
    forecasts = {one: forecast.loss for one, forecast in read_forecasts(rows, about).items()}
    losses = {one: loss for one, loss in forecasts.items() if loss is not None}
    tested = (rows["target_end"] < end).to_numpy()
    baseline = _best_naive(losses, tested if tested.any() else ~tested)
    known = ~np.isnan(losses[baseline])
    lead = losses[baseline] - losses["model"]
    missed = _missed(rows, about)
    return TargetCourse(
        target=name,
        about=about,
        baseline=baseline,
        lead=_by_date(lead, rows["as_of"], tested, known),
        missed=None if missed is None else _by_date(missed, rows["as_of"], tested, ~np.isnan(missed)),
        symbols=int(rows.groupby("as_of").size().max()),
        losses={one: (_mean(loss[tested]), _mean(loss[~tested])) for one, loss in losses.items()},
        ranks=_ranks(rows, about, tested),
    )


def _best_naive(losses: Mapping[str, Floats], rows: Bools) -> str:
    """The naive forecast that the model had the least lead over. What is fitted would break together with the model."""
    naive = {one: loss[rows] for one, loss in losses.items() if one in NAIVE and np.isfinite(loss[rows]).any()}
    model = losses["model"][rows]
    means, skill, share = {}, {}, {}
    for one, loss in naive.items():
        known = ~np.isnan(loss)
        means[one], share[one] = float(loss[known].mean()), float(known.mean())
        skill[one] = 1 - float(model[known].mean()) / means[one] if means[one] else np.nan
    return hardest(skill, means, share)


def _by_date(values: Floats, date: pd.Series, tested: Bools, known: Bools) -> Course:
    """The mean of each date."""

    def mean(rows: Bools) -> pd.Series:
        by_date: pd.Series[float] = pd.Series(values[rows]).groupby(date[rows].to_numpy()).mean()
        return by_date.sort_index()

    test, service = mean(tested & known), mean(~tested & known)
    return Course(test.to_numpy(np.float64), service.to_numpy(np.float64), list(pd.DatetimeIndex(service.index)))


def _missed(rows: pd.DataFrame, about: TargetInfo) -> Floats | None:
    """Whether each interval or set of `LEVEL` missed the truth, (rows,); NaN where it is unknown."""
    true = rows["y_true"].to_numpy(np.float64)
    if about.quantity.is_class:
        if f"set_{LEVEL}" not in rows:
            return None
        return np.array(list(_outside(rows[f"set_{LEVEL}"], true, about.classes)), dtype=np.float64)
    if f"lower_{LEVEL}" not in rows:
        return None
    lower, upper = (rows[f"{end}_{LEVEL}"].to_numpy(np.float64) for end in ("lower", "upper"))
    missed = ((true < lower) | (true > upper)).astype(np.float64)
    return np.where(np.isnan(lower) | np.isnan(upper), np.nan, missed)


def _outside(sets: pd.Series, true: Floats, classes: int) -> Iterator[float]:
    for members, truth in zip(sets, true, strict=True):
        if not isinstance(members, str):
            yield np.nan
        else:
            yield float(str(int(truth)) not in (members.split() if classes > MOST_DIGITS else list(members)))


def _ranks(rows: pd.DataFrame, about: TargetInfo, tested: Bools) -> tuple[Floats, Floats] | None:
    """Where the truth ranks in the distribution that was forecast, by date: that of the head, else of the scores."""
    if about.quantity.is_class:
        return None
    true = rows["y_true"].to_numpy(np.float64)
    head = read_head(rows)
    if head is not None:
        values = head.cdf(true)
    elif about.scores is not None and not isinstance(about.scores, Mapping) and "scale" in rows:
        forecast, scale = (rows[name].to_numpy(np.float64) for name in ("y_pred", "scale"))
        values = pit(true, forecast, scale, np.asarray(about.scores, np.float64))
    else:
        return None
    order = np.argsort(rows["as_of"].to_numpy(), kind="stable")
    values, tested = values[order], tested[order]
    return values[tested], values[~tested]


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
