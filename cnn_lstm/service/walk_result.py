"""What a roll has forecast so far, as one table with its report; and whether rolling has paid.

Shapes: n forecasts of a predictions table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.predictions import set_target_infos, target_infos
from cnn_lstm.data.splits import day
from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.evaluation.folds import joint_sheet, stitch
from cnn_lstm.evaluation.foreign.compare import TargetComparison, compare_forecasters, comparison_text
from cnn_lstm.evaluation.formatting import aligned, number, p_value
from cnn_lstm.evaluation.judge import Judgement, write_report
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.service.contest import LEAST_DATES, Decision
from cnn_lstm.service.fitted import FittedModels
from cnn_lstm.service.roll_plan import Step

ROLLED, NEVER, NEWEST = "rolled", "never refit", "always the newest"


@dataclass(frozen=True)
class Reign:
    """Steps that follow each other with the same champion.

    Attributes:
        champion: Step whose model it is.
        first: The first of the steps.
        last: The last one.
    """

    champion: int
    first: Step
    last: Step


def reigns(steps: Sequence[Step], decisions: Sequence[Decision]) -> list[Reign]:
    """The champions in their order.

    Args:
        steps: All steps that are due.
        decisions: The decision of each.
    """
    pairs = zip(steps, decisions, strict=True)
    groups = [(number, list(group)) for number, group in groupby(pairs, key=lambda pair: pair[1].champion)]
    return [Reign(number, group[0][0], group[-1][0]) for number, group in groups]


def served(models: FittedModels, steps: Sequence[Step], decisions: Sequence[Decision]) -> list[pd.DataFrame]:
    """The forecasts of each reign, next to the baselines of its model; each was made by a model that had not seen it.

    Args:
        models: The models.
        steps: All steps that are due.
        decisions: The decision of each.
    """
    return [_between(models.judged(one.champion), one.first, one.last) for one in reigns(steps, decisions)]


def _between(table: pd.DataFrame, first: Step, last: Step) -> pd.DataFrame:
    begin, stop = (pd.Timestamp(moment, tz="UTC") for moment in (first.date, last.stop))
    chosen = table[(table["as_of"] >= begin) & (table["as_of"] < stop)].reset_index(drop=True)
    set_target_infos(chosen, target_infos(table))
    return chosen


def write_walk(
    folder: Path,
    models: FittedModels,
    steps: Sequence[Step],
    decisions: Sequence[Decision],
    settings: Evaluation,
) -> Judgement | None:
    """Writes all forecasts of the champions, each from its reign, and judges those whose outcome is known.

    Args:
        folder: Where to write.
        models: The models.
        steps: All steps that are due.
        decisions: The decision of each.
        settings: Evaluation settings.

    Returns:
        The judgement; None where too few outcomes are known, so that there is a table but no report.
    """
    champions = [one.champion for one in reigns(steps, decisions)]
    parts = zip(champions, served(models, steps, decisions), strict=True)
    kept = [(champion, part.assign(champion=champion)) for champion, part in parts if len(part)]
    table = stitch([part for _, part in kept])
    if table.loc[table["y_true"].notna(), "as_of"].nunique() < LEAST_DATES:
        write_table(folder / "predictions.parquet", table)
        return None
    sheets = [models.sheet(champion, part) for champion, part in kept]
    return write_report(folder, table, joint_sheet(sheets), settings)


def does_it_pay(
    models: FittedModels, steps: Sequence[Step], decisions: Sequence[Decision], settings: Evaluation
) -> dict[str, TargetComparison]:
    """Rolling next to what it is to be better than: the first model for ever, and always the newest one.

    Args:
        models: The models.
        steps: All steps that are due.
        decisions: The decision of each.
        settings: Resamples and seed of the bootstraps.

    Returns:
        The comparison by target. Of ways that made the same forecasts one is left; empty where one is left in all, or
        too few outcomes are known.
    """
    champions, newest = [one.champion for one in decisions], [step.number for step in steps]
    ways = {ROLLED: champions, NEVER: [0] * len(steps), NEWEST: newest}
    distinct = {name: way for name, way in ways.items() if name == ROLLED or way != champions}
    tables = {name: _of_way(models, steps, way) for name, way in distinct.items()}
    known = tables[ROLLED]["y_true"].notna()
    if len(tables) < 2 or tables[ROLLED].loc[known, "as_of"].nunique() < LEAST_DATES:
        return {}
    return compare_forecasters(tables, settings)


def _of_way(models: FittedModels, steps: Sequence[Step], way: Sequence[int]) -> pd.DataFrame:
    parts = []
    for step, number_of_model in zip(steps, way, strict=True):
        part = models.plain(number_of_model, step.date, step.stop)
        parts.append(part)
    infos = target_infos(parts[0])
    for part in parts:
        part.attrs = {}  # pandas compares them where it joins
    table = pd.concat(parts, ignore_index=True)
    set_target_infos(table, infos)
    return table


def steps_text(steps: Sequence[Step], decisions: Sequence[Decision]) -> str:
    """The steps as a table for people, a line per step and target.

    Args:
        steps: All steps that are due.
        decisions: The decision of each.
    """
    heading = ("step", "forecasts", "judged on", "dates", "champion", "challenger", "DM p", "health", "in service")
    lines = [line for pair in zip(steps, decisions, strict=True) for line in _lines(*pair)]
    return aligned([heading, *lines], left=3)


def _lines(step: Step, decision: Decision) -> list[tuple[str, ...]]:
    span = f"{day(step.date)}..{day(step.stop)}"
    after = f"step {decision.champion}" + (", new" if decision.promoted else "")
    if not decision.targets:
        return [(str(step.number), span, "-", "-", "-", "-", "-", "-", after)]
    judged = f"{decision.judged_from[:10]}..{decision.date[:10]}"
    lines: list[tuple[str, ...]] = []
    for one in decision.targets.values():
        losses = (number(one.champion), number(one.challenger), p_value(one.dm_p))
        lines.append((str(step.number), span, judged, f"{one.dates:,}", *losses, decision.health or "-", after))
    return lines


def pay_text(compared: Mapping[str, TargetComparison], decisions: Sequence[Decision]) -> str:
    """What `does_it_pay` found, for people.

    Args:
        compared: What it returned.
        decisions: The decision of each step.
    """
    if len(decisions) == 1:
        return "one step so far: no challenger yet"
    promoted = sum(one.promoted for one in decisions[1:])
    lines = [f"{promoted} of {len(decisions) - 1} challengers were promoted"]
    if promoted == 0:
        lines.append(f"{ROLLED} and {NEVER} are the same")
    if promoted == len(decisions) - 1:
        lines.append(f"{ROLLED} and {NEWEST} are the same")
    return "\n".join(["; ".join(lines), *(["", comparison_text(compared)] if compared else [])])


def plain_result(compared: Mapping[str, TargetComparison], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Steps and comparison in plain values, as roll.json holds them."""
    steps = [{**asdict(one), "champion": one.champion} for one in decisions]
    return {"steps": steps, "comparison": {name: one.to_plain() for name, one in compared.items()}}
