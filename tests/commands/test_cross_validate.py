"""`cross-validate`: every combination as a real fit, the paths that they make, and what a checkpoint of one refuses."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cnn_lstm.data.splits import CPCV
from cnn_lstm.data.times import utc_times
from cnn_lstm.evaluation.paths import render_paths
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.runs.walk_forward import read_sheet
from tests.experiments import experiment, run, spec
from tests.markets import market

GROUPS, TESTED = 3, 2
CHOICES = list(combinations(range(GROUPS), TESTED))
PATHS = 2


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiment(
        tmp_path_factory.mktemp("config"),
        market(320, ("AAA", "BBB"), gaps=False),
        {"window": 4, "features": ["log_return_1", "close_location"], "targets": [spec("ForwardReturn", horizon=2)]},
        evaluation={"resamples": 100},
    )


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "paths"
    argv = ["cross-validate", "--config", config, "--groups", GROUPS, "--test_groups", TESTED, "--folder", folder]
    done = subprocess.run(
        [sys.executable, "-m", "cnn_lstm", *map(str, argv)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "cross_validation.txt").read_text() in done.stdout
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_each_fit_is_tested_on_its_groups_alone(finished: Path) -> None:
    times = utc_times(market(320, ("AAA", "BBB"), gaps=False)["timestamp"])
    spans = CPCV(GROUPS, TESTED).group_spans(np.unique(times))
    for number, chosen in enumerate(CHOICES):
        as_of = utc_times(pd.read_parquet(finished / f"combination_{number}/predictions.parquet")["as_of"])
        hits = [int(((as_of >= span.start) & (as_of < span.stop)).sum()) for span in spans]
        assert [group for group, count in enumerate(hits) if count] == list(chosen)
        assert sum(hits) == len(as_of)


def test_a_path_has_one_forecast_of_each_row_from_fits_that_tested_it(finished: Path) -> None:
    tables = [pd.read_parquet(finished / f"combination_{k}/predictions.parquet") for k in range(len(CHOICES))]
    keys = ["target", "symbol", "as_of"]
    every = pd.concat(table[keys] for table in tables).drop_duplicates().sort_values(keys, ignore_index=True)
    used: list[tuple[int, int]] = []
    for number, line in enumerate(read(finished / "cross_validation.json")["return_2"]["paths"]):
        path = pd.read_parquet(finished / f"path_{number}/predictions.parquet")
        pd.testing.assert_frame_equal(path[keys], every)
        for group, fit in enumerate(line["fits"]):
            assert group in CHOICES[fit]
            used.append((group, fit))
            part = path[path["fold"] == group].drop(columns="fold").reset_index(drop=True)
            whole = tables[fit].merge(part[keys], on=keys)
            pd.testing.assert_frame_equal(part, whole, check_like=True)
    assert len(used) == len(set(used)) == GROUPS * PATHS  # each tested group of each fit serves one path


def test_the_figures_are_those_of_the_paths(finished: Path) -> None:
    target = read(finished / "cross_validation.json")["return_2"]
    assert len(target["paths"]) == PATHS
    for number, line in enumerate(target["paths"]):
        report = evaluate(pd.read_parquet(finished / f"path_{number}/predictions.parquet"))
        assert report == read(finished / f"path_{number}/report.json")
        one = report["targets"]["return_2"]
        assert one["strategy"] is not None
        assert line["sharpe"] == one["strategy"]["sharpe"]
        assert line["skill"] == one["comparisons"][one["best_baseline"]]["skill"]
    skills = [line["skill"] for line in target["paths"]]
    assert target["spread"]["skill"]["mean"] == pytest.approx(np.mean(skills))
    assert target["spread"]["skill"]["std"] == pytest.approx(np.std(skills, ddof=1))
    page = (finished / "cross_validation.html").read_text()
    assert page.count("path_") == PATHS
    assert "Sharpe" in page
    untraded = copy.deepcopy({"return_2": target})
    for line in untraded["return_2"]["paths"]:
        line["sharpe"] = None
    assert "Sharpe" not in render_paths(untraded).splitlines()[1]
    assert f"{len(CHOICES)} fits" in page


def test_models_that_learnt_from_later_dates_have_no_evidence_over_time(finished: Path) -> None:
    reports = {path.parent.name: read(path)["targets"]["return_2"] for path in finished.glob("*/report.json")}
    in_time = f"combination_{CHOICES.index((1, 2))}"  # trained on the first group alone
    assert {name for name, report in reports.items() if "sequential" in report} == {in_time}
    lines = [json.loads(line) for line in (finished / "test_losses.jsonl").read_text().splitlines()]
    assert {line["run"] for line in lines} == {in_time}
    for name in reports:
        said = "evidence over time" in (finished / name / "test.txt").read_text()
        assert said == (name == in_time)


def test_every_check_of_every_fit_passes(finished: Path) -> None:
    for number in range(len(CHOICES)):
        sheet = read_sheet(finished / f"combination_{number}")
        assert {check["outcome"] for check in sheet["leakage"]} <= {"passed", "note"}, sheet["leakage"]
        assert sheet["test_rows_used"] == {"times": 1, "models": 1}  # no two combinations test the same rows


def test_a_checkpoint_is_refused_for_another_combination(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = finished / "combination_0"  # it knows the last dates, so that no later ones are left
    argv = ["test", "--config", own / "config.yaml", "--ckpt_path", own / "checkpoints/best.ckpt"]
    other = finished / "combination_2/config.yaml"
    assert yaml.safe_load(other.read_text())["data"]["split"]["init_args"]["combination"] == 2
    argv[2] = other
    assert run(*argv, "--run_dir", finished / "other") == 4
    assert "E436" in capsys.readouterr().err


def test_resuming_a_finished_one_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "cross_validation.json").read_text()
    argv = ["--groups", GROUPS, "--test_groups", TESTED, "--folder", finished, "--resume"]
    assert run("cross-validate", *argv) == 0
    assert (finished / "cross_validation.json").read_text() == before
    assert "by path" in capsys.readouterr().out


def test_wrong_settings_are_refused_in_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--groups", 2],
        ["--test_groups", 6],
        ["--validation", 1],
        ["--embargo", -1],
        ["--groups", 40, "--test_groups", 20],
    ):
        assert run("cross-validate", "--config", config, *words) == 2
        assert "E223" in capsys.readouterr().err
