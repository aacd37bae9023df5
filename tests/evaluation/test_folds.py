"""Tables of several folds as one, and the sheet of all."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from cnn_lstm.evaluation.folds import fold_metrics, joint_sheet, render_folds, stitch
from cnn_lstm.evaluation.report import evaluate
from tests.evaluation.tables import information, predictions_table


def folds() -> list[pd.DataFrame]:
    """Two halves of a table, each as the test part of a fold."""
    table = predictions_table(("return", "log_volatility"), dates=120, resamples=100)
    table = table.assign(data_sha256="abc")
    middle = table["as_of"].median()
    parts = []
    for fold, rows in enumerate((table["as_of"] <= middle, table["as_of"] > middle)):
        first = pd.Timestamp("2020-01-01", tz="UTC")
        part = table[rows].assign(train_first=first, train_last=first + pd.Timedelta(days=300 * (fold + 1)))
        part = part.reset_index(drop=True)
        part.attrs["targets"]["return_1"]["scores"] = [-1.0 - fold, 0.0, 1.0]
        parts.append(part)
    return parts


def test_stitched_rows_are_in_the_order_of_one_table_with_their_folds() -> None:
    parts = folds()
    before = [part.copy() for part in parts]
    result = stitch(parts)
    keys = ["target", "symbol", "as_of"]
    assert result[keys].equals(result[keys].sort_values(keys, ignore_index=True))
    for fold, part in enumerate(parts):
        rows = result[result["fold"] == fold].drop(columns="fold").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, part)
        pd.testing.assert_frame_equal(part, before[fold])
    assert result.attrs["targets"]["return_1"]["scores"] == {"0": [-1.0, 0.0, 1.0], "1": [-2.0, 0.0, 1.0]}
    assert parts[0].attrs["targets"]["return_1"]["scores"] == [-1.0, 0.0, 1.0]


def test_the_distribution_of_each_row_is_that_of_its_own_fold() -> None:
    parts = folds()
    result = evaluate(stitch(parts))["targets"]["return_1"]["distribution"]["crps"]
    alone = [evaluate(part)["targets"]["return_1"] for part in parts]
    rows = [one["rows"] for one in alone]
    wanted = sum(one["distribution"]["crps"] * count for one, count in zip(alone, rows, strict=True)) / sum(rows)
    assert result == pytest.approx(wanted, rel=1e-12)


def test_folds_that_forecast_the_same_are_refused() -> None:
    first, _ = folds()
    with pytest.raises(ValueError, match="two folds forecast the same"):
        stitch([first, first])


def test_each_fold_has_a_line_and_all_together_have_one() -> None:
    parts = folds()
    table = stitch(parts)
    result = fold_metrics(table, [evaluate(part) for part in parts], evaluate(table))
    lines = result["return_1"]["folds"]
    assert [line["fold"] for line in lines] == ["0", "1", "all"]
    assert [(line["train_first"], line["train_last"]) for line in lines] == [
        ("2020-01-01", "2020-10-27"),
        ("2020-01-01", "2021-08-23"),
        ("2020-01-01", "2021-08-23"),
    ]
    assert lines[2]["rows"] == lines[0]["rows"] + lines[1]["rows"]
    assert lines[0]["test_last"] < lines[1]["test_first"]
    text = render_folds(result)
    assert text.count("\n\n") == 1
    assert "log_volatility_5, QLIKE by fold" in text


def test_unknown_dates_of_training_are_left_open() -> None:
    """Of checkpoints that do not tell."""
    unknown: dict[str, Any] = {"train_first": pd.NaT, "train_last": pd.NaT}
    parts = [part.assign(**unknown) for part in folds()]
    table = stitch(parts)
    result = fold_metrics(table, [evaluate(part) for part in parts], evaluate(table))
    assert "  -..-  " in render_folds(result)


def test_the_sheet_has_the_worst_outcome_and_all_test_dates() -> None:
    sheets: list[Any] = [information(), information(), information()]
    sheets[1]["leakage"][5] |= {"outcome": "failed", "found": "labels overlap"}
    sheets[0]["leakage"][3] |= {"outcome": "note"}
    sheets[0]["split"]["test"] = {"forecasts": 10, "first": "2001-01-01", "last": "2001-12-31"}
    sheets[2]["test_rows_used"] = {"times": 7, "models": 1}
    result = joint_sheet(sheets)
    outcomes = [check["outcome"] for check in result["leakage"]]
    assert outcomes == ["passed"] * 3 + ["note", "passed", "failed", "passed", "note"]
    assert result["leakage"][5]["found"] == "fold 1: labels overlap"
    assert result["leakage"][3]["found"].startswith("fold 0: ")
    assert result["split"]["test"] == {"forecasts": 6_010, "first": "2001-01-01", "last": "2023-12-01"}
    assert result["test_rows_used"] == {"times": 7, "models": 2}
    assert len(result["folds"]) == 3


def test_the_rows_of_a_fold_are_those_of_its_comparison() -> None:
    parts = folds()
    stitched = stitch(parts)
    reports = [evaluate(part) for part in parts]
    target = reports[0]["targets"]["return_1"]
    target["comparisons"][target["best_baseline"]]["rows"] = 7
    lines = fold_metrics(stitched, reports, evaluate(stitched))["return_1"]["folds"]
    assert [line["rows"] for line in lines[:2]] == [7, reports[1]["targets"]["return_1"]["rows"]]
    del target["comparisons"][target["best_baseline"]]["rows"]  # as in reports of older versions
    lines = fold_metrics(stitched, reports, evaluate(stitched))["return_1"]["folds"]
    assert lines[0]["rows"] == target["rows"]
