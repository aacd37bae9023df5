"""Combinatorial cross-validation: forecasts of many fits as whole paths, and how the result differs between them.

A path has one forecast of each row, from a fit that did not know it. The paths share fits and truths, so that they are
no independent samples: their spread says how much the result depends on which dates are learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from cnn_lstm.data.spans import Span
from cnn_lstm.data.splits import CPCV, day
from cnn_lstm.data.times import utc_times
from cnn_lstm.evaluation.folds import joint_sheet, stitch
from cnn_lstm.evaluation.formatting import aligned, number, percent
from cnn_lstm.evaluation.json_types import JointModelInfo, JudgedModelInfo, Report, TargetReport
from cnn_lstm.hints import counted
from cnn_lstm.pages.environment import page_environment

TEMPLATE = "paths.html.jinja"
HEADING = ("path", "fits", "rows", "model", "best baseline", "skill", "evidence", "Sharpe")


class PathLine(TypedDict):
    """One path: its fits, one for each group of dates, losses, verdict, and the annual Sharpe ratio after costs."""

    path: int
    fits: list[int]
    rows: int
    best_baseline: str
    loss_model: float
    loss_baseline: float
    skill: float | None
    evidence: bool
    sharpe: float | None


class Spread(TypedDict):
    """A metric over the paths on which it is known; `std` is None of a single one."""

    paths: int
    mean: float
    std: float | None
    min: float
    max: float
    above_zero: float


class TargetPaths(TypedDict):
    """The paths of one target; cross_validation.json holds these by target."""

    loss: str
    paths: list[PathLine]
    spread: dict[str, Spread]


def path_table(tables: Sequence[pd.DataFrame], groups: Sequence[Span], fits: Sequence[int]) -> pd.DataFrame:
    """The predictions table of one path.

    Args:
        tables: Predictions table of each fit's test part, as `test` writes it.
        groups: The dates of each group.
        fits: The fit whose forecasts of each group the path takes.

    Returns:
        The rows of all groups; the column `fold` is the group.
    """
    parts = []
    for span, fit in zip(groups, fits, strict=True):
        as_of = utc_times(tables[fit]["as_of"])
        part = tables[fit][(as_of >= span.start) & (as_of < span.stop)]
        part.attrs = tables[fit].attrs
        parts.append(part)
    return stitch(parts)


def path_sheet(sheets: Sequence[JudgedModelInfo], table: pd.DataFrame, fits: Sequence[int]) -> JointModelInfo:
    """The model information sheet of one path: the worst outcome of each check in its fits.

    Args:
        sheets: Content of each fit's model_info.json.
        table: The predictions table of the path.
        fits: The fit of each group.
    """
    sheet = joint_sheet([sheets[fit] for fit in dict.fromkeys(fits)])
    first, last = (day(time) for time in (utc_times(table["as_of"]).min(), utc_times(table["as_of"]).max()))
    forecasts = len(table) // table["target"].nunique()
    sheet["split"]["test"] = {"forecasts": forecasts, "first": first, "last": last}
    return sheet


def path_metrics(split: CPCV, reports: Sequence[Report]) -> dict[str, TargetPaths]:
    """Each target's metrics on every path, and their spread.

    Args:
        split: Any combination of the cross-validation.
        reports: The report of each path.
    """
    return {name: _target([report["targets"][name] for report in reports], split) for name in reports[0]["targets"]}


def _target(reports: Sequence[TargetReport], split: CPCV) -> TargetPaths:
    lines = [_line(number, split.path(number), report) for number, report in enumerate(reports)]
    known = {
        "skill": [line["skill"] for line in lines if line["skill"] is not None],
        "sharpe": [line["sharpe"] for line in lines if line["sharpe"] is not None],
    }
    spread = {name: spread_of(values) for name, values in known.items() if values}
    return {"loss": reports[0]["loss"], "paths": lines, "spread": spread}


def _line(number: int, fits: Sequence[int], report: TargetReport) -> PathLine:
    compared = report["comparisons"][report["best_baseline"]]
    strategy = report["strategy"]
    return {
        "path": number,
        "fits": list(fits),
        "rows": compared.get("rows", report["rows"]),
        "best_baseline": report["best_baseline"],
        "loss_model": compared["loss_model"],
        "loss_baseline": compared["loss_baseline"],
        "skill": compared["skill"],
        "evidence": report["evidence"],
        "sharpe": None if strategy is None else strategy["sharpe"],
    }


def spread_of(values: Sequence[float]) -> Spread:
    """How a metric differs from path to path.

    Args:
        values: The metric of each path, at least one.

    Example:
        >>> spread = spread_of([0.1, -0.1, 0.3])
        >>> round(spread["mean"], 3), round(spread["std"], 3), round(spread["above_zero"], 3)
        (0.1, 0.2, 0.667)
    """
    return {
        "paths": len(values),
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "above_zero": float(np.mean(np.asarray(values) > 0)),
    }


def render_paths(by_target: Mapping[str, TargetPaths]) -> str:
    """The table of `cross-validate` as text, a block for each target.

    Args:
        by_target: What `path_metrics` returned.
    """
    return "\n\n".join(_block(name, target) for name, target in by_target.items())


def _block(name: str, target: TargetPaths) -> str:
    return "\n".join([f"{name}, {target['loss']} by path", aligned(_table(target)), *sentences(target)])


def _table(target: TargetPaths) -> list[tuple[str, ...]]:
    """The heading, and one line per path; with Sharpe ratios only where the target is traded."""
    table = [HEADING, *map(_cells, target["paths"])]
    traded = any(line["sharpe"] is not None for line in target["paths"])
    return table if traded else [line[:-1] for line in table]


def sentences(target: TargetPaths) -> list[str]:
    """The spread over the paths in words.

    Args:
        target: The paths of a target.
    """
    written: dict[str, tuple[str, Callable[[float], str]]] = {
        "skill": ("skill", percent),
        "sharpe": ("Sharpe ratio", "{:.2f}".format),
    }
    return [_sentence(*written[metric], one) for metric, one in target["spread"].items()]


def _sentence(name: str, write: Callable[[float], str], one: Spread) -> str:
    std = "" if one["std"] is None else f"std {write(one['std'])}, "
    extent = f"mean {write(one['mean'])}, {std}{write(one['min'])} to {write(one['max'])}"
    return f"{name} over {counted(one['paths'], 'path')}: {extent}, above 0 on {one['above_zero']:.0%} of them"


def _cells(line: PathLine) -> tuple[str, ...]:
    sharpe = line["sharpe"]
    return (
        str(line["path"]),
        " ".join(map(str, line["fits"])),
        f"{line['rows']:,}",
        number(line["loss_model"]),
        f"{number(line['loss_baseline'])} {line['best_baseline']}",
        percent(math.nan if line["skill"] is None else line["skill"]),
        "yes" if line["evidence"] else "no",
        "-" if sharpe is None else f"{sharpe:.2f}",
    )


def paths_page(by_target: Mapping[str, TargetPaths], split: CPCV, title: str) -> str:
    """A page of HTML that needs no other file; it links to the report of each path.

    Args:
        by_target: What `path_metrics` returned.
        split: Any combination of the cross-validation.
        title: Name of the folder.
    """
    blocks: list[dict[str, Any]] = [
        {"name": name, "loss": target["loss"], "table": _table(target), "says": sentences(target)}
        for name, target in by_target.items()
    ]
    template = page_environment(Path(__file__).parent).get_template(TEMPLATE)
    return template.render(title=title, blocks=blocks, split=split)
