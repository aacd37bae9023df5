"""`roll`: real steps; evening after evening as in one walk; killed at random moments; the champion and its registry."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.runs import processes
from tests.experiments import experiment, run, spec
from tests.markets import days, turning_market

FIRST, BREAK, EVERY, ROWS = 250, 190, 60, 400
DATES = [str(days(ROWS)[FIRST + k * EVERY])[:10] for k in range(3)]
WORDS = ["--every", f"{EVERY}bars", "--from", DATES[0]]
RESULTS = ("predictions.parquet", "roll.json", "roll.txt", "report.json", "test.txt")


def prices(rows: int = ROWS) -> pd.DataFrame:
    """Returns that go on until a date, and turn back from then on: a model of before is wrong after it."""
    return turning_market(ROWS, BREAK, rows)


def configured(folder: Path, rows: int = ROWS, **sections: Any) -> Path:
    split = spec("cnn_lstm.data.splits.RowSplit", train=150, validation=30)
    targets = [spec("cnn_lstm.data.targets.ForwardReturn", horizon=1, delay=0)]
    data = {"split": split, "targets": targets, "features": ["log_return_1"], "window": 4}
    sections = {"trainer": {"max_epochs": 1}, "evaluation": {"resamples": 100}, **sections}
    return experiment(folder, prices(rows), data, **sections)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return configured(tmp_path_factory.mktemp("config"))


def argv_of(config: Path, folder: Path) -> list[str]:
    return ["roll", "--config", str(config), *WORDS, "--folder", str(folder)]


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "roll"
    assert run(*argv_of(config, folder)) == 0
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def step(folder: Path, number: int) -> Path:
    return folder / f"step_{number}/checkpoints/best.ckpt"


def assert_same(folder: Path, wanted: Path) -> None:
    for name in RESULTS:
        assert (folder / name).read_bytes() == (wanted / name).read_bytes(), name
    for file in (wanted / "decisions").iterdir():
        assert (folder / "decisions" / file.name).read_bytes() == file.read_bytes(), file.name
    held = [read_checkpoint(one / "champion.ckpt")["cnn_lstm"] for one in (folder, wanted)]
    assert held[0] == held[1]


# -- what it does ----------------------------------------------------------------------------------------------------


def test_no_fit_knew_what_it_was_judged_on_and_each_knew_what_came_before(finished: Path) -> None:
    grid = days(ROWS)
    for number, date in enumerate(DATES):
        contract = Contract.of(read_checkpoint(step(finished, number)))
        judged_from = grid[FIRST + (number - 1) * EVERY]
        assert contract.training is not None
        assert pd.Timestamp(contract.boundaries.test, tz="UTC") == judged_from
        assert pd.Timestamp(contract.boundaries.end, tz="UTC") < pd.Timestamp(date, tz="UTC")
        # 30 dates of validation stand between the last training label and the judged dates
        assert pd.Timestamp(contract.training.last, tz="UTC") == grid[FIRST + (number - 1) * EVERY - 30 - 2]


def test_the_break_makes_a_challenger_win(finished: Path) -> None:
    """The model of before the break is wrong after it; one that has seen 70 dates of the new world is less wrong."""
    steps = read(finished / "roll.json")["steps"]
    assert [one["champion"] for one in steps] in ([0, 0, 2], [0, 1, 2])
    last = steps[2]["targets"]["return_1"]
    assert last["wins"]
    assert last["challenger"] < last["champion"]
    compared = read(finished / "roll.json")["comparison"]["return_1"]
    assert compared["losses"]["rolled"] < compared["losses"]["never refit"]
    assert compared["rows"] == 2 * (ROWS - FIRST - 1)


def test_each_forecast_is_its_champions_and_out_of_sample(finished: Path) -> None:
    table = pd.read_parquet(finished / "predictions.parquet")
    assert not table.duplicated(["target", "symbol", "as_of"]).any()
    assert sorted(table["as_of"].unique()) == list(days(ROWS)[FIRST:])
    assert (table["as_of"] > table["train_last"]).all()
    champions = {one["step"]: one["champion"] for one in read(finished / "roll.json")["steps"]}
    begins = [pd.Timestamp(date, tz="UTC") for date in DATES]
    for when, champion in zip(table["as_of"], table["champion"], strict=True):
        assert champion == champions[sum(when >= begin for begin in begins) - 1]
    for number, part in table.groupby("champion"):
        wanted = Predictor.from_checkpoint(step(finished, int(str(number))), "cpu", True).predict(prices())
        same = part[["symbol", "as_of"]].merge(wanted, on=["symbol", "as_of"])
        for name in ("y_pred", "lower_90", "upper_90"):
            np.testing.assert_array_equal(part[name], same[name])


def test_the_champion_expires_a_grace_after_the_next_step(finished: Path, tmp_path: Path, config: Path) -> None:
    contract = Contract.of(read_checkpoint(finished / "champion.ckpt"))
    due = days(ROWS + 200)[FIRST + 3 * EVERY]
    assert due < pd.Timestamp(contract.expires, tz="UTC") < due + pd.Timedelta(days=2 * EVERY)
    champion = read(finished / "roll.json")["steps"][-1]["champion"]
    held = [read_checkpoint(path)["state_dict"] for path in (finished / "champion.ckpt", step(finished, champion))]
    assert all((held[0][name] == held[1][name]).all() for name in held[1])


def test_started_again_it_does_nothing_but_write_the_same(
    finished: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROGRAM", ["/no/such/program"])
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    shutil.copy(finished.parent / "test_uses.jsonl", tmp_path)
    for name in (*RESULTS, "champion.ckpt"):
        (folder / name).unlink()
    assert run(*argv_of(config, folder), "--resume") == 0
    assert_same(folder, finished)


@pytest.mark.slow
def test_evening_after_evening_it_ends_as_the_walk_in_one_command(finished: Path, tmp_path: Path) -> None:
    """The same line each time, on prices that grow: no step knew more than it knows in one walk."""
    folder = tmp_path / "roll"
    for rows in (FIRST + 1, FIRST + EVERY + 30, ROWS):
        config = configured(tmp_path, rows)
        assert run(*argv_of(config, folder), "--resume") == 0
    for name in ("predictions.parquet", "roll.txt"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    for number in range(3):
        same = read(folder / f"decisions/step_{number}.json")
        assert same == read(finished / f"decisions/step_{number}.json")


def test_other_words_and_another_configuration_are_refused(
    finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["roll", "--config", config, "--folder", finished, "--resume"]
    assert run(*argv, "--every", "50bars") == 2
    assert run(*argv, "--data.window", 5) == 2
    assert run(*argv_of(config, finished)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert [line[6:10] for line in errors] == ["E242", "E242", "E245"]


BAD: dict[str, tuple[list[str], int, str]] = {
    "no span": ([], 236, "--every"),
    "no such span": (["--every", "often"], 236, "'often'"),
    "judged on too little": (["--every", "60bars", "--judge_on", "10bars"], 237, "30 are needed"),
    "before the prices": (["--every", "60bars", "--from", "2001-01-01"], 237, "no date is left to train on"),
    "after the prices": (["--every", "60bars", "--from", "2031-01-01"], 237, "no step is due"),
    "no day": (["--every", "60bars", "--from", "spring"], 209, "spring"),
    "split of fit": (["--every", "60bars", "--data.split", "cnn_lstm.data.splits.FractionSplit"], 225, "--data.split"),
    "ensemble": (["--every", "60bars", "--warm_start", "--ensemble", "2"], 237, "--warm_start"),
}


@pytest.mark.parametrize(("argv", "code", "message"), BAD.values(), ids=BAD.keys())
def test_wrong_arguments_are_one_line_and_make_no_folder(
    argv: list[str], code: int, message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "roll"
    assert run("roll", "--config", config, "--folder", folder, *argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith(f"error[E{code}]")
    assert message in line
    assert not folder.exists()


# -- slow: killed, warm, registered, five years ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_ends_as_the_uninterrupted_one(
    seed: int, finished: Path, config: Path, tmp_path: Path
) -> None:
    folder, moments, kills = tmp_path / "roll", random.Random(seed), 0
    for _ in range(200):
        argv = [sys.executable, "-m", "cnn_lstm", *argv_of(config, folder), "--resume"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        files = sum(1 for _ in folder.rglob("*")) if folder.is_dir() else 0
        wanted = files + moments.randint(1, 9)  # so many more files, then a kill: the clock decides nothing
        while process.poll() is None and (not folder.is_dir() or sum(1 for _ in folder.rglob("*")) < wanted):
            time.sleep(0.02)
        if process.poll() is None and kills < 8:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
            process.communicate()
            continue
        output = process.communicate()[0]
        assert process.returncode == 0, output
        break
    assert kills >= 3
    assert_same(folder, finished)


@pytest.mark.slow
def test_a_warm_start_begins_with_the_last_weights_and_may_be_killed(config: Path, tmp_path: Path) -> None:
    argv = [*argv_of(config, tmp_path / "roll"), "--warm_start"]
    assert run(*argv) == 0
    for number in (1, 2):
        kept = yaml.safe_load((tmp_path / f"roll/step_{number}/config.yaml").read_text())
        assert kept["weights_from"] == str(step(tmp_path / "roll", number - 1))
    wanted = (tmp_path / "roll/predictions.parquet").read_bytes()
    shutil.rmtree(tmp_path / "roll/step_2")
    for name in ("decisions/step_2.json", "predictions.parquet"):
        (tmp_path / "roll" / name).unlink()
    assert run(*argv, "--resume") == 0
    assert (tmp_path / "roll/predictions.parquet").read_bytes() == wanted


@pytest.mark.slow
def test_the_registry_has_champion_and_challenger_also_after_an_outage(tmp_path: Path) -> None:
    config, folder, uri = configured(tmp_path), tmp_path / "roll", f"sqlite:///{tmp_path / 'served.db'}"
    tracked = [*argv_of(config, folder), "--resume", "--mlflow", "true", "--register_model", "rolled", "--tracking_uri"]
    nobody = "http://127.0.0.1:9"  # a port that discards, where nobody listens
    assert run(*tracked, nobody, "--until", DATES[1]) == 0
    assert run(*tracked, nobody) == 0
    assert run(*tracked, uri) == 0
    client, steps = MlflowClient(uri, uri), read(folder / "roll.json")["steps"]
    digests = {}
    for alias in ("champion", "challenger"):
        version = client.get_model_version_by_alias("rolled", alias)
        model_id = str(version.source).removeprefix("models:/")
        digests[alias] = client.get_logged_model(model_id).tags["cnn_lstm.model"]
    of_steps = [str(read_checkpoint(step(folder, k))["cnn_lstm"]["digest"]) for k in range(3)]
    assert digests["challenger"] == of_steps[2]
    assert digests["champion"].split(" until ")[0] == of_steps[steps[-1]["champion"]]
    versions = len(client.search_model_versions("name = 'rolled'"))
    assert run(*tracked, uri) == 0
    assert len(client.search_model_versions("name = 'rolled'")) == versions


@pytest.mark.slow
def test_five_years_of_shipped_bars(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "configs/roll.yaml"
    argv = ["roll", "--config", config, "--every", "1y", "--folder", tmp_path / "roll", "--mlflow", "false"]
    assert run(*argv, "--trainer.max_epochs", 1) == 0
    result = read(tmp_path / "roll/roll.json")
    assert [one["date"][:4] for one in result["steps"]] == ["2008", "2009", "2010", "2011", "2012"]
    table = pd.read_parquet(tmp_path / "roll/predictions.parquet")
    assert (table["as_of"].min().year, table["as_of"].max().year) == (2008, 2013)
    assert (table["as_of"] > table["train_last"]).all()
