"""Does a model in service still work? The verdict, and the signs that it rests on; no folder, no file, no network.

Shapes: m reference dates, n dates in service, in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binom

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.formatting import number, p_value
from cnn_lstm.evaluation.metrics.intervals import kupiec_p
from cnn_lstm.evaluation.significance import diebold_mariano
from cnn_lstm.evaluation.verdict import USUAL_LEVEL
from cnn_lstm.hints import counted
from cnn_lstm.service.drift import FEWEST, Detection, detect_worse, steady_scores

Verdict = Literal["fine", "watch", "stale"]
VERDICTS: tuple[Verdict, ...] = ("fine", "watch", "stale")  # from the best to the worst
ERROR = 0.01  # probability of a false alarm of one detector in a year of daily looks
CLOSE = 0.75  # share of the alarm level that is worth a word
LEVEL = 90  # the interval whose coverage is watched, %


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at.

    Attributes:
        name: What it is, in a few words.
        verdict: What it says of the model.
        reason: Why, in whole sentences.
        detection: The cumulative sum that it rests on, if it rests on one.
    """

    name: str
    verdict: Verdict
    reason: str
    detection: Detection | None = None


@dataclass(frozen=True)
class Health:
    """What all signs say together.

    Attributes:
        verdict: The worst of them.
        reasons: The reasons of the signs of that verdict; those of a model that is fine are those of all signs.
        signs: All signs.
    """

    verdict: Verdict
    reasons: list[str]
    signs: list[Sign] = field(default_factory=list)


def health(signs: Iterable[Sign]) -> Health:
    """The verdict that follows from signs: the worst one counts.

    Only signs that rest on a `Detection` say stale, so that the error of that word is known.

    Args:
        signs: At least one.

    Example:
        >>> health([Sign("loss", "fine", "The lead holds."), Sign("bars", "watch", "The last bar is old.")]).reasons
        ['The last bar is old.']
    """
    kept = list(signs)
    worst = max((sign.verdict for sign in kept), key=VERDICTS.index)
    return Health(worst, [sign.reason for sign in kept if sign.verdict == worst], kept)


@dataclass(frozen=True)
class Course:
    """One value a date, of the reference period and since.

    Attributes:
        reference: Values of the period in which the model was judged, (m,).
        service: Values since, as far as they are known, (n,).
        dates: Dates of the latter, (n,); without them a reason counts dates.
    """

    reference: Floats
    service: Floats
    dates: Sequence[pd.Timestamp] = ()

    @classmethod
    def of(cls, reference: ArrayLike, service: ArrayLike, dates: Sequence[pd.Timestamp] = ()) -> Course:
        """The same of anything that numpy takes as numbers."""
        return cls(np.asarray(reference, np.float64), np.asarray(service, np.float64), dates)

    def since(self, date: int) -> str:
        """A date of the service, counted from 0, in words."""
        if len(self.dates):
            return f"since {self.dates[date]:%Y-%m-%d}"
        return f"for {counted(len(self.service) - date, 'date')}"


def health_of_losses(
    reference: ArrayLike,
    service: ArrayLike,
    horizon: int = 1,
    *,
    dates: Sequence[pd.Timestamp] = (),
    baseline: str = "the baseline",
    error: float = ERROR,
    seed: int = 0,
) -> Health:
    """Whether a model still has the lead over a baseline that it had when it was tested.

    Args:
        reference: Loss of the baseline minus loss of the model on each date of the test, (m,). The model must not have
            been chosen by these dates: the best lead of many looks better than it is, and any later one worse.
        service: The same of each date since, as far as the labels are known, (n,); any number of looks is allowed.
        horizon: Steps that a label spans.
        dates: Dates of `service`, (n,), for the reasons.
        baseline: What the baseline is called.
        error: Probability of a false alarm in a year of daily looks.
        seed: Makes the threshold repeatable.

    Returns:
        `stale` where the lead has shrunk or turned, by a test that allows a look every day; `watch` where it is close
        to that, where it was so and has recovered, where there was no evidence of a lead that could be lost, or where
        the reference is too short; else `fine`.

    Example:
        >>> random = np.random.default_rng(0)
        >>> tested, since = random.normal(0.5, 1, 400), random.normal(0.5, 1, 60)
        >>> health_of_losses(tested, since).verdict, health_of_losses(tested, since - 1).verdict
        ('fine', 'stale')
    """
    course = Course.of(reference, service, dates)
    return health([loss_sign(course, horizon, baseline, error=error, seed=seed)])


def loss_sign(
    course: Course, horizon: int, baseline: str, name: str = "loss", error: float = ERROR, seed: int = 0
) -> Sign:
    """The sign of `health_of_losses`.

    Args:
        course: Loss of the baseline minus loss of the model.
        horizon: Steps that a label spans.
        baseline: What the baseline is called.
        name: What the sign is called.
        error: Probability of a false alarm in a year of daily looks.
        seed: Makes the threshold repeatable.
    """
    scores, since = steady_scores(course.reference, course.service) if len(course.reference) else _nothing(course)
    detection = detect_worse(-scores, -since, horizon, error, seed=seed)
    statistic, p = diebold_mariano(course.reference, horizon) if len(course.reference) else (0.0, 1.0)
    if not (statistic > 0 and p < USUAL_LEVEL):
        return Sign(name, "watch", _without_skill(course, baseline, p, detection), detection)
    if not np.isfinite(detection.threshold):
        return Sign(name, "watch", _too_short(course, "lead"), detection)
    means = f"{number(course.reference.mean())} when it was tested"
    if not len(course.service):
        return Sign(name, "fine", f"The lead over {baseline} was {means}; no label has ended since.", detection)
    means = f"{number(course.service.mean())} a date in service, {means}"
    return _judged(name, f"The lead over {baseline}", f"the mean lead is {means}", course, detection)


def coverage_sign(
    course: Course, horizon: int, symbols: int = 1, name: str = "coverage", error: float = ERROR, seed: int = 0
) -> Sign:
    """Whether intervals still hold the truth as often as they promise, or as they did when the model was tested.

    Args:
        course: Share of the intervals of each date that have missed the truth.
        horizon: Steps that a label spans.
        symbols: Intervals a date.
        name: What the sign is called.
        error: Probability of a false alarm in a year of daily looks.
        seed: Makes the threshold repeatable.
    """
    promised = 1 - LEVEL / 100
    reference = _no_calmer_than_promised(course.reference, promised, symbols, seed)
    detection = detect_worse(reference, course.service, horizon, error, least=promised, seed=seed)
    if not np.isfinite(detection.threshold):
        return Sign(name, "watch", _too_short(course, "coverage"), detection)
    if not len(course.service):
        return Sign(name, "fine", "No label has ended since: the coverage in service is not known yet.", detection)
    held = 1 - float(course.service.mean())
    means = f"the {LEVEL} % intervals held {held:.1%} in service, {1 - float(course.reference.mean()):.1%} in the test"
    misses, count = round(float(course.service.sum() * symbols)), len(course.service) * symbols
    p = kupiec_p(misses, count, LEVEL / 100)
    means += f" (one look, Kupiec's p {p_value(p)}{', overlapping labels' if horizon > 1 else ''})"
    return _judged(name, "The coverage of the intervals", means, course, detection)


def _judged(name: str, what: str, means: str, course: Course, detection: Detection) -> Sign:
    """The sign of a cumulative sum."""
    alarm, level = detection.alarm, f"{detection.share:.0%} of the alarm level"
    if alarm is not None:
        begun = "" if detection.begun is None else f"; it began to show {course.since(detection.begun)}"
        reason = f"{what} is worse than in the test: the alarm stands {course.since(alarm)}{begun}; {means}."
        return Sign(name, "stale", reason, detection)
    if detection.recovered:
        return Sign(name, "watch", f"{what} was worse than in the test, and has recovered; {means}.", detection)
    if detection.share > CLOSE:
        return Sign(name, "watch", f"{what} is close to an alarm, at {level}; {means}.", detection)
    return Sign(name, "fine", f"{what} holds, at {level}; {means}.", detection)


def _without_skill(course: Course, baseline: str, p: float, detection: Detection) -> str:
    """What is said of a model that never had a lead."""
    lead = number(course.reference.mean()) if len(course.reference) else "unknown"
    text = f"The test found no evidence of a lead over {baseline} (mean {lead}, p {p_value(p)}): none can be lost."
    if detection.alarm is not None:
        text += f" Its losses have become worse still, {course.since(detection.alarm)}."
    return text


def _too_short(course: Course, what: str) -> str:
    return (
        f"Nothing can be said of the {what}: the test has {counted(len(course.reference), 'date')}, "
        f"at least {FEWEST} that differ are needed."
    )


def _nothing(course: Course) -> tuple[Floats, Floats]:
    return course.reference, course.service


def _no_calmer_than_promised(misses: Floats, promised: float, symbols: int, seed: int) -> Floats:
    """The shares of misses, (m,), or independent ones of the promised probability where theirs vary less.

    A test without any miss would make every first one an alarm.
    """
    if not len(misses) or misses.std() >= np.sqrt(promised * (1 - promised) / max(symbols, 1)):
        return misses
    evenly = binom.ppf((np.arange(len(misses)) + 0.5) / len(misses), symbols, promised) / symbols
    return np.random.default_rng(seed).permutation(evenly)
