"""How much a metric depends on the seed: its spread over runs that differ in nothing else, and what may be claimed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cnn_lstm.evaluation.formatting import aligned
from cnn_lstm.evaluation.json_types import Report, SeedStatistics, TargetSpread
from cnn_lstm.evaluation.verdict import hardest

MODEL = "model"
COLUMNS = ("mean", "std", "min", "max")


class TargetMetrics(NamedTuple):
    """What one report says of one target.

    Attributes:
        loss: Name of the loss that decides the verdict.
        model: Metrics of the model, that loss first.
        losses: That loss of each baseline.
        skill: Skill of the model against each baseline: the share of its loss that the model saves.
        share: Share of the model's rows that each baseline knows.
    """

    loss: str
    model: dict[str, float]
    losses: dict[str, float]
    skill: dict[str, float]
    share: dict[str, float]


def metrics_of(report: Report) -> dict[str, TargetMetrics]:
    """The metrics of a report of `test`, by target.

    Args:
        report: Content of report.json.
    """
    by_target = {}
    for name, target in report["targets"].items():
        loss, compared = target["loss"], target["comparisons"]
        # reports of older versions compare all baselines on the same rows
        whole = target.get("loss_model", next(iter(compared.values()))["loss_model"])
        metrics, rows = {loss: whole, **target["forecasts"][MODEL]}, target.get("rows", 1)
        if (key := loss.lower().replace(" ", "_")) != loss:
            metrics.pop(key, None)  # the same under its key
        by_target[name] = TargetMetrics(
            loss=loss,
            model={metric: _number(value) for metric, value in metrics.items() if _is_number(value)},
            losses={baseline: _number(comparison["loss_baseline"]) for baseline, comparison in compared.items()},
            skill={baseline: _number(comparison["skill"]) for baseline, comparison in compared.items()},
            share={baseline: comparison.get("rows", rows) / rows for baseline, comparison in compared.items()},
        )
    return by_target


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def seed_spread(reports: Mapping[int, Report], ensemble: Report | None = None) -> dict[str, TargetSpread]:
    """Mean and spread of each metric over seeds, by target.

    The baseline of the claim is the one over which the mean skill of the seeds is least, see `verdict.hardest`. It is
    the same for all seeds: the best of each run may be another one each time. The claim needs the lower end of that
    skill, mean - 2 std / sqrt(k), to be above 0.

    Args:
        reports: Content of report.json by seed.
        ensemble: Report of the seeds' average, which stands next to them and never counts as one of them.

    Returns:
        For each target: `loss`, `best_baseline`, `figures` (the metrics), `skill` against the best baseline with its
        `lower_end`, `skills` against each baseline, `claim`, `better` (number of seeds with a lower loss than the
        baseline), `rank` of the baseline among the seeds (1 is the best of `places`), and `ensemble`. The standard
        deviation of one seed is NaN.

    Source:
        Bouthillier et al. (2021), Accounting for Variance in Machine Learning Benchmarks.
    """
    by_seed = {seed: metrics_of(report) for seed, report in sorted(reports.items())}
    averaged = metrics_of(ensemble) if ensemble is not None else {}
    first = next(iter(by_seed.values()))
    return {name: _target([targets[name] for targets in by_seed.values()], averaged.get(name)) for name in first}


def _target(seeds: Sequence[TargetMetrics], ensemble: TargetMetrics | None) -> TargetSpread:
    loss = seeds[0].loss
    means = {name: float(np.mean([seed.losses[name] for seed in seeds])) for name in seeds[0].losses}
    skills = {name: _spread(seed.skill[name] for seed in seeds) for name in seeds[0].skill}
    baseline = hardest({name: spread["mean"] for name, spread in skills.items()}, means, seeds[0].share)
    skill = skills[baseline]
    better = sum(value > 0 for value in skill["values"])
    lower = skill["mean"] - 2 * skill["std"] / math.sqrt(len(seeds))
    target: TargetSpread = {
        "loss": loss,
        "best_baseline": baseline,
        "figures": {name: _spread(seed.model.get(name, math.nan) for seed in seeds) for name in seeds[0].model},
        "skill": {**skill, "lower_end": lower},
        "skills": skills,
        "claim": lower > 0,
        "better": better,
        "rank": better + 1,
        "places": len(seeds) + 1,
    }
    if ensemble is not None:
        average = ensemble.skill.get(baseline, math.nan)
        target["ensemble"] = {"figures": ensemble.model, "skill": average, "skills": ensemble.skill}
    return target


def _spread(values: Iterable[float]) -> SeedStatistics:
    """Mean, standard deviation (of a sample), smallest and largest value; a NaN of one seed makes them NaN."""
    given = [float(value) for value in values]
    std = float(np.std(given, ddof=1)) if len(given) > 1 else math.nan
    low, high = float(np.min(given)), float(np.max(given))
    return {"mean": float(np.mean(given)), "std": std, "min": low, "max": high, "values": given}


def render_seed_spread(by_target: Mapping[str, TargetSpread]) -> str:
    """The table of `repeat` as text, a block for each target.

    Args:
        by_target: What `seed_spread` returned.

    Example:
        >>> compared = {"zero": {"loss_model": 0.5, "loss_baseline": 1.0, "skill": 0.5}}
        >>> report = {"loss": "mse", "forecasts": {"model": {"mse": 0.5}}, "comparisons": compared}
        >>> print(render_seed_spread(seed_spread({42: {"targets": {"r": report}}})))
        r, seeds: 1
                           mean  std     min     max
        mse              0.5000    -  0.5000  0.5000
        skill over zero  0.5000    -  0.5000  0.5000
        NO CLAIM: one seed has no spread
        zero ranks 2 of 2 among the seeds, 1 of them with a lower mse
    """
    return "\n\n".join(_block(name, target) for name, target in by_target.items())


def _block(name: str, target: TargetSpread) -> str:
    baseline, seeds = target["best_baseline"], target["places"] - 1
    ensemble = target.get("ensemble")
    rows = [["", *COLUMNS, *(["ensemble"] if ensemble else [])]]
    for prefix, spreads, averages in (
        ("", target["figures"], ensemble and ensemble["figures"]),
        ("skill over ", target["skills"], ensemble and ensemble["skills"]),
    ):
        for key, spread in spreads.items():
            average = [averages.get(key, math.nan)] if averages is not None else []
            values = (spread["mean"], spread["std"], spread["min"], spread["max"], *average)
            rows.append([f"{prefix}{key}", *map(_text, values)])
    ranks = f"{baseline} ranks {target['rank']} of {target['places']} among the seeds"
    claim = f"{'CLAIM HOLDS OVER SEEDS' if target['claim'] else 'NO CLAIM'}: lower end of the skill, mean - 2 std / "
    claim += f"sqrt({seeds}): {_text(target['skill']['lower_end'])}"
    claims = [
        claim if seeds > 1 else "NO CLAIM: one seed has no spread",
        f"{ranks}, {target['better']} of them with a lower {target['loss']}",
    ]
    return "\n".join([f"{name}, seeds: {seeds}", aligned(rows, left=1), *claims])


def _text(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:#.4g}".removesuffix(".") if abs(value) < 1e4 else f"{value:,.0f}"
