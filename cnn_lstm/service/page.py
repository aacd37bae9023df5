"""The page of a look: the verdict on top, then what it rests on, for a reader who did not train the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_lstm.evaluation.formatting import number, percent
from cnn_lstm.pages.environment import Plot, page_environment
from cnn_lstm.service.courses import TargetCourse
from cnn_lstm.service.health import MEANINGS, Verdict
from cnn_lstm.service.json_types import PastLook
from cnn_lstm.service.look import Look
from cnn_lstm.service.plots import alarm_plot, coverage_plot, lead_plot, novelty_plot, rank_plot

TEMPLATE = "monitor.html.jinja"
EVENINGS = 30  # that the page lists
MARKS: dict[Verdict, str] = {"fine": "✓", "watch": "!", "stale": "✗"}
CLASSES: dict[Verdict, str] = {"fine": "passed", "watch": "note", "stale": "failed"}


@dataclass(frozen=True)
class TargetSection:
    """What the page says of a target.

    Attributes:
        name: The target.
        loss: Name of its loss.
        baseline: The naive forecast that it is compared with.
        plots: Its plots.
        losses: Name of each forecaster, its loss in the test and in service, and the lead of the model over it then.
    """

    name: str
    loss: str
    baseline: str
    plots: list[Plot]
    losses: list[list[str]]


def monitor_page(run: str, seen: Look, history: Sequence[PastLook]) -> str:
    """A page of HTML that needs no other file.

    Args:
        run: Name of the run.
        seen: What was looked at.
        history: Evenings before, and this one.
    """
    template = page_environment(Path(__file__).parent).get_template(TEMPLATE)
    verdict = seen.health.verdict
    return template.render(
        run=run,
        verdict=verdict,
        mark=MARKS[verdict],
        meaning=MEANINGS[verdict],
        reasons=seen.health.reasons,
        subtitle=seen.period,
        signs=[(sign.name, CLASSES[sign.verdict], sign.verdict, sign.reason) for sign in seen.health.signs],
        targets=[_section(course, seen) for course in seen.courses],
        novelty=novelty_plot(seen.distances, seen.end),
        features=_features(seen),
        evenings=[(past["checked"], CLASSES[past["verdict"]], past["verdict"]) for past in history[-EVENINGS:][::-1]],
    )


def _section(course: TargetCourse, seen: Look) -> TargetSection:
    mine = [sign for sign in seen.health.signs if sign.name.endswith(f" of {course.target}")]
    plots = []
    if course.target in seen.evidence:
        plots.append(lead_plot(course, seen.evidence[course.target]))
    if len(course.lead.dates):  # before the first label in service has ended, nothing can be drawn
        plots.append(alarm_plot([sign for sign in mine if sign.detection is not None], course.lead.dates))
    if course.missed is not None and len(course.missed.service):
        plots.append(coverage_plot(course.missed, course.symbols))
    if course.ranks is not None and len(course.ranks[1]):
        plots.append(rank_plot(*course.ranks))
    return TargetSection(course.target, course.about.quantity.loss, course.baseline, plots, _losses(course))


def _losses(course: TargetCourse) -> list[list[str]]:
    model = course.losses["model"]
    lines = []
    for name, losses in course.losses.items():
        skills = ["" if name == "model" else _skill(mine, its) for mine, its in zip(model, losses, strict=True)]
        lines.append([name, *map(_known, losses), *skills])
    return lines


def _known(value: float) -> str:
    return number(value if value == value else None)


def _skill(model: float, baseline: float) -> str:
    """Share of a loss that the model saves; a dash where one of them is unknown."""
    return percent(1 - model / baseline) if baseline > 0 and model == model else "-"


def _features(seen: Look) -> list[tuple[str, str, str, bool]]:
    ordered = sorted(seen.features, key=lambda one: -one.index)[:10]
    return [(one.feature, f"{one.index:.2f}", f"{one.usual:.2f}", one.drifted) for one in ordered]
