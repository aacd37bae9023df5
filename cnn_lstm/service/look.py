"""A look at a model in service: its forecasts since the test, and everything that they say of it.

Shapes: n windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.anytime import THRESHOLD, ConfidenceSequence, confidence_sequence, e_process
from cnn_lstm.evaluation.formatting import number
from cnn_lstm.evaluation.judge import with_baselines, with_smearing
from cnn_lstm.evaluation.same_recipe import take_over
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.service.bars import Age, age_sign, ages, data_sign
from cnn_lstm.service.courses import TargetCourse, courses
from cnn_lstm.service.health import ERROR, Health, Sign, coverage_sign, health, loss_sign
from cnn_lstm.service.lost_symbols import without_lost
from cnn_lstm.service.novelty import Distances, Stability, distance_sign, distances, stabilities, stability_sign
from cnn_lstm.service.ranks import rank_sign

KEYS = ["target", "symbol", "as_of"]


@dataclass(frozen=True)
class Evidence:
    """What may be said of the mean lead in service on any date.

    Attributes:
        sequence: Where the mean lead lies, with 90% for all dates together: each end by itself is sure to 95 %.
        better: Wealth of the e-process for a lead after each date: 20 is evidence.
        worse: Wealth against "the model is at least as good as the baseline" after each date.
    """

    sequence: ConfidenceSequence
    better: Floats
    worse: Floats

    @classmethod
    def of(cls, course: TargetCourse) -> Evidence:
        """That of a target."""
        lead, horizon = course.lead.service, course.about.horizon
        return cls(confidence_sequence(lead, horizon, level=0.1), e_process(lead, horizon), e_process(-lead, horizon))

    def sign(self, course: TargetCourse) -> Sign:
        """Whether the model has lost to its baseline in service, whatever it was worth in the test.

        That alone does not make it stale: it may have been no better in the test.
        """
        low, high = (float(ends[-1]) for ends in (self.sequence.low, self.sequence.high))
        name, over = f"evidence of {course.target}", f"the mean lead over {course.baseline}"
        text = f"Whenever one looks, with 90%: {over} lies in {number(low)} to {number(high)}."
        if not np.isfinite([low, high]).all():
            text = f"There are too few dates for an interval of {over}."
        if (self.worse >= THRESHOLD).any():
            return Sign(name, "watch", f"In service the model has been worse than {course.baseline}. {text}")
        if (self.better >= THRESHOLD).any():
            return Sign(name, "fine", f"There is evidence of a lead in service. {text}")
        return Sign(name, "fine", f"The time in service alone does not tell yet. {text}")


@dataclass(frozen=True)
class Look:
    """Everything that was looked at.

    Attributes:
        health: The verdict.
        end: First moment that counts as service.
        now: The moment of the look.
        courses: Each target, in the test and since.
        evidence: What may be said of the lead of each target.
        issued: Forecasts of live.parquet that were used, and how many of them were issued too late.
        distances: Of the windows from those of the training.
        features: How much each feature has moved.
        ages: Of the newest bar of each symbol.
    """

    health: Health
    end: pd.Timestamp
    now: pd.Timestamp
    courses: list[TargetCourse]
    evidence: dict[str, Evidence]
    issued: tuple[int, int]
    distances: Distances
    features: list[Stability]
    ages: list[Age]

    @property
    def period(self) -> str:
        """When it was looked at, and what, in words."""
        last = max(age.last for age in self.ages)
        since = self.end.ceil("D")
        return f"Looked at on {self.now:%Y-%m-%d}. In service since {since:%Y-%m-%d}, newest bar of {last:%Y-%m-%d}."


def look(
    data: MarketData,
    predictor: Predictor,
    settings: Evaluation,
    live: pd.DataFrame | None,
    since: pd.Timestamp | None,
    now: pd.Timestamp,
) -> Look:
    """Looks at a model: forecasts everything since its test began, as `predict` would, and compares test and service.

    Args:
        data: Data of the run's configuration, with the bars of today.
        predictor: The run's checkpoint.
        settings: Season of the naive forecast, and seed.
        live: Forecasts that were issued, which count where there are some; None without any.
        since: First moment that counts as service; by default the first that the fit knew nothing of.
        now: The moment of the look, UTC.

    Raises:
        CheckpointError: E436, if the data are of another recipe.
    """
    take_over(data, predictor)
    contract = predictor.forecaster.contract
    without_lost(data, contract.symbols, data.setup)
    trained = pd.Timestamp(contract.boundaries.end, tz="UTC")
    end = trained if since is None else since
    rows = data.rows_to_predict()
    plain = predictor.predict_rows(data.panel, rows)
    table, issued = _with_issued(plain, live)
    table = with_baselines(table, data, with_smearing(contract, table, predictor, data), settings)
    read = courses(table, end)
    far, moved, old = _inputs(predictor, data, rows, end), stabilities(data, rows), ages(data, now)
    evidence = {course.target: Evidence.of(course) for course in read if len(course.lead.service)}
    signs = [sign for course in read for sign in _signs(course, settings.seed)]
    signs += [evidence[course.target].sign(course) for course in read if course.target in evidence]
    signs += [distance_sign(far), stability_sign(moved), age_sign(old), data_sign(data, contract, trained)]
    signs += [_late(issued)] if issued[0] else []
    return Look(health(signs), end, now, read, evidence, issued, far, moved, old)


def _inputs(predictor: Predictor, data: MarketData, rows: Rows, end: pd.Timestamp) -> Distances:
    return distances(predictor, data, rows, np.datetime64(end.tz_localize(None)))


def _signs(course: TargetCourse, seed: int) -> list[Sign]:
    """The signs of one target; each of them may raise a false alarm, so they share the error."""
    horizon, name = course.about.horizon, course.target
    signs = [loss_sign(course.lead, horizon, course.baseline, f"loss of {name}", ERROR, seed)]
    if course.missed is not None:
        signs.append(coverage_sign(course.missed, horizon, course.symbols, f"coverage of {name}", ERROR, seed))
    if course.ranks is not None:
        signs.append(rank_sign(*course.ranks, horizon, course.symbols, f"PIT of {name}"))
    return signs


def _late(issued: tuple[int, int]) -> Sign:
    known, late = issued
    text = f"{known:,} forecasts are those that were issued, {late:,} of them too late to be used"
    return Sign("issued", "watch" if late > known / 10 else "fine", f"{text}.")


def _with_issued(table: pd.DataFrame, live: pd.DataFrame | None) -> tuple[pd.DataFrame, tuple[int, int]]:
    """The table with the forecasts that were issued in place of those computed today, and how many, and how many late.

    An issued forecast keeps its truth, where that was filled in: both are of the prices of that time.
    """
    if live is None or not len(live):
        return table, (0, 0)
    issued = live.set_index(KEYS)
    place = pd.MultiIndex.from_frame(table[KEYS])
    found = place.isin(issued.index)
    rows = issued.reindex(place[found])
    merged = table.copy()
    shared = [name for name in table.columns if name in rows.columns and name not in (*KEYS, "target_start")]
    for name in shared:
        values = rows[name].to_numpy()
        known = ~pd.isna(values)
        kept = merged[name].to_numpy(copy=True)
        kept[found] = np.where(known, values, kept[found])
        merged[name] = pd.Series(kept, index=merged.index).astype(table[name].dtype)
    merged.attrs = table.attrs
    late = rows["late"].fillna(False).astype(bool).sum() if "late" in rows else 0
    return merged, (int(found.sum()), int(late))
