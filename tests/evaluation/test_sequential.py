"""The evidence over time in the report: the least wealth over fixed baselines, with losses as they were first seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.predictions import target_infos
from cnn_lstm.evaluation.anytime import THRESHOLD, e_process
from cnn_lstm.evaluation.forecasts import judged_rows, known_forecasts
from cnn_lstm.evaluation.json_types import Report, Sequential, TargetReport
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.sequential import KEPT, POINTS, RECIPE, keep_losses, loss_differences, sequential
from cnn_lstm.evaluation.sequential_plot import sequence_plots
from cnn_lstm.evaluation.sequential_text import sequence_block, sequence_section, sequence_sentences
from cnn_lstm.evaluation.text import render_report
from tests.evaluation.tables import predictions_table

SYMBOLS = ("AAA", "BBB", "CCC")


def small(dates: int = 160, skill: float = 0.1) -> pd.DataFrame:
    return predictions_table(("return",), SYMBOLS, dates, skill, resamples=100)


def up_to(table: pd.DataFrame, dates: int) -> pd.DataFrame:
    """The rows of the first dates, with all attrs."""
    known: pd.DataFrame = table[table["as_of"] <= np.sort(table["as_of"].unique())[dates - 1]].reset_index(drop=True)
    known.attrs = dict(table.attrs)
    return known


def target_of(report: Report) -> TargetReport:
    return next(iter(report["targets"].values()))


def record_of(table: pd.DataFrame) -> Sequential:
    return target_of(evaluate(table))["sequential"]


def losses_of(table: pd.DataFrame) -> pd.DataFrame:
    ((name, about),) = target_infos(table).items()
    rows = judged_rows(table, name, about)
    return loss_differences(rows, known_forecasts(rows, about))


def made(columns: Mapping[str, Any]) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    return pd.DataFrame(dict(columns), pd.bdate_range("2020-01-01", periods=rows).as_unit("us"))


def test_losses_are_means_of_each_date() -> None:
    table = small()
    day = table["as_of"].unique()[50]
    rows = table[(table["as_of"] == day) & table["y_true"].notna()]
    wanted = ((rows["y_true"] - rows["y_ridge"]) ** 2 - (rows["y_true"] - rows["y_pred"]) ** 2).mean()
    assert losses_of(table)["ridge"][day.tz_localize(None)] == pytest.approx(wanted, rel=1e-12)


def test_later_rows_do_not_move_the_past() -> None:
    table = small()
    early, late = losses_of(up_to(table, 90)), losses_of(table)
    pd.testing.assert_frame_equal(late[: len(early)], early, check_exact=True)


def test_the_least_wealth_counts() -> None:
    random = np.random.default_rng(0)
    easy, hard = random.normal(0.5, 1, 300), random.normal(0.0, 1, 300)
    record = sequential(made({"easy": easy, "hard": hard}), None, 1)
    assert record["baseline"] == "hard"
    assert record["wealth"] == record["baselines"]["hard"]["wealth"] == pytest.approx(e_process(hard)[-1])
    assert record["baselines"]["easy"]["wealth"] > THRESHOLD
    assert record["highest"] == pytest.approx(np.minimum(e_process(easy), e_process(hard)).max())
    assert not record["evidence"]
    assert record["reached"] is None


def test_evidence_stays_when_the_wealth_falls_again() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0.5, 1, 300), np.random.default_rng(1).normal(-1, 1, 300)])
    series = made({"zero": values})
    record = sequential(series, None, 1)
    first = int(np.flatnonzero(e_process(values) >= THRESHOLD)[0])
    assert record["wealth"] < THRESHOLD <= record["highest"]
    assert record["evidence"]
    assert record["reached"] == series.index[first].isoformat()


def test_a_baseline_that_knows_few_dates_does_not_decide() -> None:
    random = np.random.default_rng(0)
    rare = np.where(np.arange(300) < 200, np.nan, random.normal(-1, 1, 300))
    record = sequential(made({"zero": random.normal(0.5, 1, 300), "rare": rare}), None, 1)
    assert record["baseline"] == "zero"
    assert record["evidence"]
    assert record["baselines"]["rare"]["dates"] == 100


def test_a_long_path_is_thinned_with_its_last_date() -> None:
    series = made({"zero": np.random.default_rng(0).normal(size=1000)})
    record = sequential(series, None, 5)
    assert len(record["path"]["dates"]) == POINTS
    assert record["path"]["dates"][-1] == record["last"] == series.index[-1].isoformat()
    assert record["path"]["wealth"][-1] == record["wealth"]
    assert record["path"]["low"][-1] == record["baselines"]["zero"]["low"]


def test_a_longer_table_goes_on_and_a_second_model_changes_nothing(tmp_path: Path) -> None:
    run = tmp_path / "one"
    run.mkdir()
    first, second = small(), small(skill=0.4)
    for name, table in (("a", first), ("b", second)):
        table.attrs |= {RECIPE: "recipe", "model": name}
    early = up_to(first, 100)
    keep_losses(run, early)
    assert KEPT not in early.attrs
    keep_losses(run, second)
    record = record_of(second)
    wanted = pd.concat([losses_of(first)[:100], losses_of(second)[100:]])
    assert record["kept"] == 100
    assert record["dates"] == len(wanted)
    assert record["wealth"] == sequential(wanted, None, 1)["wealth"]
    assert "wealth" in sequence_block(target_of(evaluate(second)))
    assert any("100 of" in sentence for sentence in sequence_sentences(target_of(evaluate(second))))
    keep_losses(run, first)
    assert record_of(first)["path"] == record["path"]


def test_a_table_without_a_recipe_has_a_sequence_of_its_own(tmp_path: Path) -> None:
    table = small()
    keep_losses(tmp_path / "one", table)
    assert not list(tmp_path.iterdir())
    assert record_of(table)["kept"] == 0


def test_what_was_kept_is_judged_again_from_the_table_alone(tmp_path: Path) -> None:
    """A ledger elsewhere learns the history from the table, as `judge` on a table of ours does."""
    for name in ("one", "two"):
        (tmp_path / name / "run").mkdir(parents=True)
    first, second = small(), small(skill=0.4)
    for table in (first, second):
        table.attrs |= {RECIPE: "recipe", "model": "m"}
    keep_losses(tmp_path / "one/run", up_to(first, 100))
    keep_losses(tmp_path / "one/run", second)
    record = record_of(second)
    keep_losses(tmp_path / "two/run", second)
    assert record_of(second) == record


def test_a_report_of_an_older_version_has_no_section() -> None:
    report = evaluate(small())
    target = target_of(report)
    assert "evidence over time" in render_report(report)
    del target["sequential"]
    assert "evidence over time" not in render_report(report)
    assert not list(sequence_plots(target))
    assert sequence_section(target) is None


def test_few_dates_say_so() -> None:
    target = target_of(evaluate(small(dates=20)))
    assert target["sequential"]["baselines"]["zero"]["low"] is None
    assert "is not known on so few dates" in " ".join(sequence_sentences(target))
    assert not list(sequence_plots(target))


def test_the_words_follow_the_wealth() -> None:
    target = target_of(evaluate(small()))
    record = target["sequential"]
    said = {}
    for reached, wealth in ((None, 3.0), ("2022-03-01T00:00:00", 99.96), ("2022-03-01T00:00:00", 0.5)):
        changed: Sequential = {**record, "reached": reached, "wealth": wealth, "highest": 123.4}
        said[wealth] = next(sequence_sentences({**target, "sequential": changed}))
    assert "has not reached 20" in said[3.0]
    assert "reached 20 on 2022-03-01: evidence at the level of 5%" in said[99.96]
    assert "It is 99.9 now." in said[99.96]
    assert "It is 0.50 now, since later dates spoke against the model." in said[0.5]


def test_the_verdict_stays_as_it_is() -> None:
    table = small()
    target = target_of(evaluate(table))
    assert target["evidence"] == (target["verdict"] == "EVIDENCE OF SKILL")
    assert len(list(sequence_plots(target))) == 2
