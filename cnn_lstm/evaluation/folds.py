"""Walk-forward: the predictions tables of all folds as one, and the result of each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from pandas.api.typing import NaTType

from cnn_lstm.data.predictions import set_target_infos, target_infos
from cnn_lstm.evaluation.formatting import aligned, number, percent
from cnn_lstm.evaluation.json_types import (
    CheckRecord,
    FoldLine,
    JointModelInfo,
    JudgedModelInfo,
    PartRecord,
    Report,
    TargetFolds,
    TargetReport,
)

KEYS = ["target", "symbol", "as_of"]
OVERALL = "all"
# worst last
OUTCOMES = ("passed", "note", "failed")


def stitch(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One predictions table of those of all folds.

    Args:
        tables: Predictions table of each fold's test part, as `test` writes it.

    Returns:
        The rows of all, sorted by target, symbol and date, with the column `fold`. `attrs["targets"]` has the
        calibration scores of each fold.

    Raises:
        ValueError: If two folds forecast the same dates of a symbol.
    """
    parts = []
    for fold, table in enumerate(tables):
        part = table.assign(fold=fold)
        part.attrs = {}  # `concat` would compare those of all parts, which takes time
        parts.append(part)
    stitched = pd.concat(parts).sort_values(KEYS, ignore_index=True)
    if stitched.duplicated(KEYS).any():
        raise ValueError("two folds forecast the same dates")
    stitched.attrs = dict(tables[0].attrs)
    infos = [target_infos(table) for table in tables]
    joint = dict(infos[0])
    for name, about in joint.items():
        if about.scores is not None:
            of_folds: dict[str, Any] = {str(fold): one[name].scores for fold, one in enumerate(infos)}
            joint[name] = replace(about, scores=of_folds)
    set_target_infos(stitched, joint)
    return stitched


def joint_sheet(sheets: Sequence[JudgedModelInfo]) -> JointModelInfo:
    """One model information sheet of those of all folds.

    Args:
        sheets: Content of each fold's model_info.json.

    Returns:
        The last fold's, with the dates of all test parts, each fold's split under `folds`, the worst outcome of each
        check for leakage, and the most uses of a fold's test rows.
    """
    splits = [sheet["split"] for sheet in sheets]
    tests = [split["test"] for split in splits]
    test: PartRecord = {
        "forecasts": sum(part["forecasts"] for part in tests),
        "first": tests[0]["first"],
        "last": tests[-1]["last"],
    }
    uses = [sheet["test_rows_used"] for sheet in sheets]
    return {
        **sheets[-1],
        "split": {**splits[-1], "test": test},
        "folds": splits,
        "leakage": [_worst(checks) for checks in zip(*(sheet["leakage"] for sheet in sheets), strict=True)],
        "test_rows_used": {"times": max(use["times"] for use in uses), "models": max(use["models"] for use in uses)},
    }


def _worst(checks: Sequence[CheckRecord]) -> CheckRecord:
    """The check of the fold where it came out worst, the last one of equals."""
    fold = max(range(len(checks)), key=lambda k: (OUTCOMES.index(checks[k]["outcome"]), k))
    return {**checks[fold], "found": f"fold {fold}: {checks[fold]['found']}"}


def fold_metrics(table: pd.DataFrame, folds: Sequence[Report], overall: Report) -> dict[str, TargetFolds]:
    """The losses and the verdict of each fold by the fold's report, and of all folds together.

    Args:
        table: Stitched predictions table.
        folds: Content of each fold's report.json.
        overall: The report of the stitched table.

    Returns:
        For each target the name of its `loss` and one line per fold, then one of all folds.
    """
    trained = table.groupby("fold")[["train_first", "train_last"]].first()
    dates = [(_day(first), _day(last)) for first, last in trained.itertuples(index=False)]
    by_target: dict[str, TargetFolds] = {}
    for name, target in overall["targets"].items():
        lines = [_line(str(k), report["targets"][name], *dates[k]) for k, report in enumerate(folds)]
        by_target[name] = {"loss": target["loss"], "folds": [*lines, _line(OVERALL, target, dates[0][0], dates[-1][1])]}
    return by_target


def _line(fold: str, target: TargetReport, train_first: str | None, train_last: str | None) -> FoldLine:
    compared = target["comparisons"][target["best_baseline"]]
    return {
        "fold": fold,
        "train_first": train_first,
        "train_last": train_last,
        "test_first": target["first"][:10],
        "test_last": target["last"][:10],
        "rows": compared.get("rows", target["rows"]),
        "best_baseline": target["best_baseline"],
        "loss_model": compared["loss_model"],
        "loss_baseline": compared["loss_baseline"],
        "skill": compared["skill"],
        "evidence": target["evidence"],
    }


def _day(stamp: pd.Timestamp | NaTType) -> str | None:
    return None if pd.isna(stamp) else f"{stamp:%Y-%m-%d}"


def render_folds(by_target: Mapping[str, TargetFolds]) -> str:
    """The table of `walk-forward` as text, a block for each target.

    Args:
        by_target: What `fold_metrics` returned.

    Example:
        >>> line = {"fold": "0", "train_first": "2000-01-03", "train_last": "2003-06-30", "test_first": "2004-01-02"}
        >>> line |= {"test_last": "2004-12-31", "rows": 252, "best_baseline": "zero", "loss_model": 0.9}
        >>> line |= {"loss_baseline": 1.0, "skill": 0.1, "evidence": True}
        >>> print(render_folds({"return_1": {"loss": "squared error", "folds": [line]}}))
        return_1, squared error by fold
        fold  trained on              tested on               rows  model  best baseline  skill  evidence
        0     2000-01-03..2003-06-30  2004-01-02..2004-12-31  252   0.9    1 zero         10.0%  yes
    """
    return "\n\n".join(_block(name, target) for name, target in by_target.items())


def _block(name: str, target: TargetFolds) -> str:
    heading = ("fold", "trained on", "tested on", "rows", "model", "best baseline", "skill", "evidence")
    return f"{name}, {target['loss']} by fold\n{aligned([heading, *map(_cells, target['folds'])])}"


def _cells(line: FoldLine) -> tuple[str, ...]:
    return (
        line["fold"],
        f"{line['train_first'] or '-'}..{line['train_last'] or '-'}",
        f"{line['test_first']}..{line['test_last']}",
        f"{line['rows']:,}",
        number(line["loss_model"]),
        f"{number(line['loss_baseline'])} {line['best_baseline']}",
        percent(line["skill"]),
        "yes" if line["evidence"] else "no",
    )
