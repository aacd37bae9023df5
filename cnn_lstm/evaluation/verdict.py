"""The verdict: is there evidence of skill, over naive forecasts and over the best fitted baseline?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import cast

from cnn_lstm.evaluation.forecasts import NAIVE
from cnn_lstm.evaluation.formatting import p_value
from cnn_lstm.evaluation.json_types import Answer, Answers, ComparedLosses, Verdict
from cnn_lstm.evaluation.significance import Comparison

EVIDENCE = "EVIDENCE OF SKILL"
NO_EVIDENCE = "NO EVIDENCE OF SKILL"
USUAL_LEVEL = 0.05
LEAST_SHARE = 0.5  # of the rows; a baseline that knows fewer is compared, but is not the best one
# on fewer dates the Diebold-Mariano test and the bootstrap reject two to four times as often as they should
FEWEST_DATES, FEWEST_HORIZONS = 30, 5


def dates_needed(horizon: int) -> int:
    """Fewest dates that a test of targets of that many steps may rest on.

    Example:
        >>> dates_needed(1), dates_needed(20)
        (30, 100)
    """
    return max(FEWEST_DATES, FEWEST_HORIZONS * horizon)


def holds_up(comparison: Comparison, level: float = USUAL_LEVEL) -> bool:
    """Whether the model is better by both tests and by the whole interval of its skill.

    Args:
        comparison: The model against one baseline.
        level: Both p-values have to be below it.

    Returns:
        True only where the model is better; a NaN anywhere is not evidence.

    Example:
        >>> comparison = Comparison(0.9, 1.0, 0.1, (0.02, 0.2), (0.02, 0.2), 2.5, 0.01, 0.01)
        >>> holds_up(comparison), holds_up(comparison, level=0.005)
        (True, False)
    """
    return (
        comparison.dm_statistic > 0
        and comparison.dm_p < level
        and comparison.bootstrap_p < level
        and comparison.skill_interval[0] > 0
    )


def hardest(skill: Mapping[str, float], loss: Mapping[str, float], share: Mapping[str, float]) -> str:
    """The best of the baselines: the one over which the model has the least skill.

    Mean losses on different rows cannot be compared, since some rows are harder than others. Skills can: each compares
    the model with a baseline on the rows that both know. On equal rows the least skill is that over the baseline with
    the lowest loss. A baseline that knows less than half of the rows counts only where no other knows more.

    Args:
        skill: Skill of the model over each baseline, by its name; NaN where it has no value.
        loss: Mean loss of each baseline on the same rows.
        share: Share of the model's rows that each baseline knows.

    Returns:
        Its name. A baseline without any loss is the hardest of all.

    Example:
        >>> hardest({"zero": 0.1, "ridge": 0.02, "own": -0.5}, dict.fromkeys(("zero", "ridge", "own"), 1.0),
        ...         {"zero": 1.0, "ridge": 0.7, "own": 0.1})
        'ridge'
    """
    enough = [name for name in skill if share[name] >= LEAST_SHARE] or list(skill)

    def rank(name: str) -> tuple[float, float]:
        if math.isnan(loss[name]):
            return math.inf, math.inf
        unknown = -math.inf if loss[name] == 0 else math.inf
        return unknown if math.isnan(skill[name]) else skill[name], loss[name]

    return min(enough, key=rank)


def verdict(
    loss: str, best: str, comparison: Comparison, level: float, objections: Sequence[str] = (), rows: int = 0
) -> Verdict:
    """Whether a model beats the best of its baselines by more than chance, and why.

    Args:
        loss: Name of the loss.
        best: Name of the best baseline, see `hardest`.
        comparison: The model compared with it.
        level: Significance level; both tests must be below it, and the 95 % interval of the skill above 0.
        objections: What rules out evidence whatever the metrics are, such as leakage.
        rows: Rows that the model knows; the reason says how many the baseline knows where they are fewer.

    Returns:
        Whether there is evidence, the verdict, and the reason in one sentence.

    Example:
        >>> comparison = Comparison(0.9, 1.0, 0.1, (0.02, 0.2), (0.02, 0.2), 2.5, 0.012, 0.014)
        >>> verdict("squared error", "ridge", comparison, 0.05)["verdict"]
        'EVIDENCE OF SKILL'
        >>> verdict("squared error", "ridge", comparison, 0.05, ["leakage found: L3.1"])["verdict"]
        'NO EVIDENCE OF SKILL'
    """
    evidence = holds_up(comparison, level) and not objections
    reason = "; ".join([*objections, _difference(loss, f"the best baseline, {best}", comparison, level, rows)])
    return {"evidence": evidence, "verdict": EVIDENCE if evidence else NO_EVIDENCE, "reason": reason}


def answers(
    loss: str,
    comparisons: Mapping[str, Comparison],
    compared: Mapping[str, ComparedLosses],
    level: float,
    horizon: int,
    rows: int,
    failed: Sequence[str] = (),
    moments: str = "dates",
) -> Answers:
    """The verdict over all baselines, and the answers to its two questions: over naive ones, and over fitted ones.

    Args:
        loss: Name of the loss.
        comparisons: The model against each baseline, by its name.
        compared: The same as the report has it.
        level: Significance level.
        horizon: Steps that a target spans.
        rows: Rows that the model knows.
        failed: Kinds of leakage whose check failed; they rule out any evidence.
        moments: What the moments of decisions are called.
    """
    leaks = [f"leakage found: {', '.join(failed)}"] if failed else []

    def objections(name: str) -> list[str]:
        dates, needed = comparisons[name].dates, dates_needed(horizon)
        return [*leaks, *([f"too few {moments}: {dates}, at least {needed} are needed"] if dates < needed else [])]

    def answer(names: Iterable[str]) -> Answer | None:
        chosen = {name: comparisons[name] for name in names}
        if not chosen:
            return None
        best = _hardest(chosen, rows)
        evidence = holds_up(chosen[best], level) and not objections(best)
        reason = "; ".join([*objections(best), _difference(loss, best, chosen[best], level, rows)])
        return cast("Answer", {"evidence": evidence, "best_baseline": best, "reason": reason, **compared[best]})

    best = _hardest(comparisons, rows)
    return {
        "best_baseline": best,
        **verdict(loss, best, comparisons[best], level, objections(best), rows),
        "over_naive": answer(name for name in comparisons if name in NAIVE),
        "over_fitted": answer(name for name in comparisons if name not in NAIVE),
    }


def as_plain(comparison: Comparison, smallest: float) -> ComparedLosses:
    """A comparison as the report has it, with the smallest skill that it could have found."""
    return cast("ComparedLosses", {**asdict(comparison), "smallest_skill": smallest})


def _hardest(comparisons: Mapping[str, Comparison], rows: int) -> str:
    skill = {name: one.skill for name, one in comparisons.items()}
    loss = {name: one.loss_baseline for name, one in comparisons.items()}
    return hardest(skill, loss, {name: one.rows / rows for name, one in comparisons.items()})


def _difference(loss: str, baseline: str, comparison: Comparison, level: float, rows: int) -> str:
    low, high = comparison.skill_interval
    size = "not comparable with"
    if math.isfinite(comparison.skill):
        word = "below" if comparison.skill > 0 else "above"
        size = f"{abs(comparison.skill):.1%} {word}" if comparison.skill else "equal to that of"
    parts = [
        f"{loss} {size} {baseline}",
        f"skill's 95% interval {low:+.3f} to {high:+.3f}",
        f"Diebold-Mariano p {p_value(comparison.dm_p)}, bootstrap p {p_value(comparison.bootstrap_p)}",
    ]
    if level != USUAL_LEVEL:
        parts.append(f"level {level:g}")
    if comparison.rows < rows:
        parts.append(f"on the {comparison.rows:,} of {rows:,} rows that it knows")
    return "; ".join(parts)
