"""`repeat`: real runs of several seeds, killed and resumed; and its orderly ends with runs that only pretend."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cnn_lstm import specs
from cnn_lstm.bounded import without_checksum
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.locks import take_folder
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.runs import members as members_module
from cnn_lstm.runs import processes
from cnn_lstm.runs.members import Member, read_report
from cnn_lstm.training.run_folder import RunFolder
from tests.experiments import experiment, run
from tests.markets import market

SEEDS = (7, 8)
EPOCHS = 25
# writes the files of a run at once; seed 13 fails, seed 99 never ends, seed 50 does nothing
PRETENDING = """
import json, os, sys, time
from pathlib import Path
argv = sys.argv[1:]
print(json.dumps(argv))
if argv[0] == "--trust-imports":
    argv = argv[2:]
named = dict(zip(argv, argv[1:]))
folder = Path(named["--run_dir"]) if "--run_dir" in named else Path(named["--config"]).parent
seed = int(folder.name.split("_")[1])
folder.mkdir(exist_ok=True)
with (folder / "commands").open("a") as commands:
    commands.write(argv[0] + chr(10))
if seed == 13:
    print("error[E314]: price <= 0", file=sys.stderr)
    sys.exit(3)
if seed == 99:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)
if seed == 50:
    sys.exit(0)
if argv[0] == "fit":
    (folder / "summary.json").write_text("{}")
else:
    target = {"loss": "mse", "best_baseline": "zero", "forecasts": {"model": {}}}
    compared = {"loss_model": 1 - seed / 100, "loss_baseline": 1.0, "skill": seed / 100}
    target["comparisons"] = {"zero": compared}
    (folder / "report.json").write_text(json.dumps({"targets": {"return_2": target}}))
"""
DRIVER = """
import sys
from cnn_lstm import cli
from cnn_lstm.runs import members as members_module
from cnn_lstm.runs import processes
program = sys.argv.pop(1)
if program:
    processes.PROGRAM = [sys.executable, "-c", program]
cli.script()
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = {"trainer": {"max_epochs": EPOCHS}, "early_stopping": {"patience": EPOCHS}}
    return experiment(tmp_path_factory.mktemp("config"), market(160, gaps=False), **sections)


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", PRETENDING])


def driven(program: str, *argv: object) -> subprocess.Popen[str]:
    """The command line in a process and a process group of its own; runs of another program if one is given."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, program, "repeat", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, file
        time.sleep(0.01)


def content(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "repeat.json").read_text())
    assert without_checksum(result) != result  # it has one
    return result


# -- real runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "repeat"
    argv = ["--config", config, "--seeds", "7,8", "--n_jobs", 2, "--folder", folder]
    process = driven("", *argv)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.endswith(f"{(folder / 'repeat.txt').read_text()}repeat folder: {folder}\n")
    return folder


def weights(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(folder / f"seed_{seed}/checkpoints/last.ckpt")["state_dict"]
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(values, other[name]) for name, values in one.items())


def test_each_seed_is_an_ordinary_run(finished: Path, config: Path, tmp_path: Path) -> None:
    assert run("fit", "--config", config, "--seed_everything", 8, "--run_dir", tmp_path / "alone") == 0
    alone = read_checkpoint(tmp_path / "alone/checkpoints/last.ckpt")["state_dict"]
    assert same(alone, weights(finished, 8))
    assert not same(alone, weights(finished, 7))
    for seed in SEEDS:
        folder = finished / f"seed_{seed}"
        assert yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"] == seed
        names = ("summary.json", "metrics.csv", "test.txt", "report.json", "checkpoints/best.ckpt")
        assert all((folder / name).is_file() for name in names)


def test_metrics_are_those_of_the_runs(finished: Path) -> None:
    result = content(finished)
    metrics = [json.loads((finished / f"seed_{seed}/test_metrics.json").read_text()) for seed in SEEDS]
    losses = [values["test_rmse"] for values in metrics]
    rmse = result["targets"]["return_2"]["figures"]["rmse"]
    assert (result["seeds"], result["failed"]) == (list(SEEDS), [])
    assert rmse["values"] == pytest.approx(losses, rel=1e-5)
    assert rmse["mean"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert rmse["std"] == pytest.approx(np.std(losses, ddof=1), rel=1e-3)


def test_the_ensemble_is_the_average_of_the_tested_checkpoints(finished: Path) -> None:
    table = pd.read_parquet(finished / "ensemble/predictions.parquet")
    contract = Predictor.from_checkpoint(finished / "ensemble.ckpt").forecaster.contract
    digests = [read_checkpoint(finished / f"seed_{s}/checkpoints/best.ckpt")["cnn_lstm"]["digest"] for s in SEEDS]
    assert contract.members == digests
    assert {"lower_90", "upper_90"} <= set(table.columns)
    report = json.loads((finished / "ensemble/report.json").read_text())["targets"]["return_2"]
    ensemble = content(finished)["targets"]["return_2"]["ensemble"]
    assert ensemble["figures"]["rmse"] == report["forecasts"]["model"]["rmse"]
    assert (finished / "ensemble/report.html").is_file()
    assert table["y_true"].notna().all()
    assert bool((table["ensemble_std"] > 0).any())


def test_the_ensembles_rows_are_those_of_the_test(finished: Path, tmp_path: Path) -> None:
    """The members' own predictions of the test rows, averaged."""
    copied = tmp_path / "repeat"
    shutil.copytree(finished, copied)
    tables = []
    for seed in SEEDS:
        folder = copied / f"seed_{seed}"
        assert run("predict", "--config", folder / "config.yaml", "--ckpt_path", "best") == 0
        tables.append(pd.read_parquet(folder / "forecasts.parquet").dropna(subset="y_true"))
    table = pd.read_parquet(finished / "ensemble/predictions.parquet")
    keys = ["target", "symbol", "as_of"]
    pd.testing.assert_frame_equal(table[keys], tables[0][keys].reset_index(drop=True))
    wanted = np.mean([t["y_pred"] for t in tables], axis=0)
    np.testing.assert_allclose(table["y_pred"], wanted, rtol=1e-5, atol=1e-9)


def test_the_ensemble_is_calibrated_on_its_own_validation_errors(finished: Path, tmp_path: Path) -> None:
    """From the forecasts of every window, written by the members' own `predict`."""
    copied = tmp_path / "repeat"
    shutil.copytree(finished, copied)
    tables = []
    for seed in SEEDS:
        folder = copied / f"seed_{seed}"
        argv = ["--config", folder / "config.yaml", "--ckpt_path", "best", "--data.predict_part", "all"]
        assert run("predict", *argv) == 0
        tables.append(pd.read_parquet(folder / "forecasts.parquet"))
    contract = Predictor.from_checkpoint(finished / "ensemble.ckpt").forecaster.contract
    edges = {name: pd.Timestamp(getattr(contract.boundaries, name), tz="UTC") for name in ("validation", "test")}
    part = (tables[0]["as_of"] >= edges["validation"]) & (tables[0]["target_end"] < edges["test"])
    average = np.mean([table["y_pred"] for table in tables], axis=0)
    wanted = np.sort(((tables[0]["y_true"] - average) / tables[0]["scale"])[part])
    assert contract.calibration is not None
    np.testing.assert_allclose(contract.calibration.scores[0], wanted, rtol=1e-3, atol=1e-4)


def test_started_again_it_keeps_what_is_there(
    finished: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROGRAM", ["/no/such/program"])
    copied = tmp_path / "repeat"
    shutil.copytree(finished, copied)
    argv = ["repeat", "--config", config, "--seeds", "7,8", "--folder", copied, "--resume"]
    assert run(*argv) == 0
    assert content(copied) == content(finished)
    assert capsys.readouterr().out.count("done") == len(SEEDS)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_as_if_never_killed(finished: Path, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repeat"
    argv = ["--config", config, "--seeds", "7,8", "--folder", folder]
    process = driven("", *argv)
    wait_for(folder / "seed_7/checkpoints/last.ckpt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "seed_7/summary.json").exists()
    assert not (folder / "seed_8").exists()
    before = read_checkpoint(folder / "seed_7/checkpoints/last.ckpt")["epoch"]
    assert before < EPOCHS - 1

    assert run("repeat", *argv, "--resume") == 0

    assert content(folder) == content(finished)
    assert all(same(weights(folder, seed), weights(finished, seed)) for seed in SEEDS)
    epochs = pd.read_csv(folder / "seed_7/metrics.csv").dropna(subset="val_loss")["epoch"]
    assert epochs.is_unique
    assert len(epochs) >= EPOCHS - 1  # the row of an epoch is written after its checkpoint


def test_every_command_takes_the_ensemble(finished: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "repeat"))
    folder = copied / "ensemble"
    judged, report = pd.read_parquet(folder / "predictions.parquet"), (folder / "report.json").read_text()
    for command in ("validate", "test", "predict"):
        assert run(command, "--config", folder / "config.yaml", "--ckpt_path", copied / "ensemble.ckpt") == 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), judged)
    assert json.loads((folder / "report.json").read_text()) == json.loads(report)  # also the number of models tried
    assert run("encode", "--ckpt_path", copied / "ensemble.ckpt") == 0


def test_a_fit_does_not_go_on_from_an_ensemble(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--config", finished / "repeat.yaml", "--ckpt_path", finished / "ensemble.ckpt") == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith("error[E439]")


@pytest.mark.usefixtures("pretending")
def test_each_seed_is_one_member_where_the_configuration_asks_for_an_ensemble(config: Path, tmp_path: Path) -> None:
    asking, folder = tmp_path / "asking.yaml", tmp_path / "repeat"
    asking.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"ensemble": 5}))
    assert run("repeat", "--config", asking, "--seeds", 1, "--folder", folder) == 0
    argv = json.loads((folder / "seed_42.log").read_text().splitlines()[0])
    assert argv[-5:] == ["--ensemble=1", "--seed_everything", "42", "--run_dir", str(folder / "seed_42")]


# -- what a run needs next -----------------------------------------------------------------------------------------


def test_the_next_command_follows_from_the_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "seed_3")
    given = ["--config", "x.yaml", "--seed_everything", "3"]
    member = Member("seed", 3, tmp_path, given)
    again = ["--config", str(folder.config), "--ckpt_path"]
    assert member.next_command() == ["fit", *given, "--run_dir", str(folder.path)]
    folder.checkpoints.mkdir(parents=True)
    steps = {
        "checkpoints/best.ckpt": ["fit", *again, "best"],
        "checkpoints/last.ckpt": ["fit", *again, "last"],
        "summary.json": ["test", *again, "best"],
    }
    for name, argv in steps.items():
        (folder.path / name).touch()
        assert member.next_command() == argv
    (folder.path / "report.json").write_text('{"targets"')  # broken off
    assert read_report(folder.path) is None
    assert member.next_command() == ["test", *again, "best"]
    (folder.path / "report.json").write_text("{}")
    assert member.next_command() is None


@pytest.mark.usefixtures("pretending")
def test_a_failing_seed_stops_no_other(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "repeat"
    assert run("repeat", "--config", config, "--seeds", "12,13,14,15", "--folder", folder) == 3
    output = capsys.readouterr()
    assert "seed 13 failed with exit code 3: error[E314]: price <= 0" in output.err
    result = content(folder)
    assert (result["seeds"], result["failed"]) == ([12, 14, 15], [13])
    target = result["targets"]["return_2"]
    assert target["skill"]["lower_end"] > 0
    assert target["claim"] is False
    assert "NO CLAIM" in (folder / "repeat.txt").read_text()
    assert "seeds that failed: 13" in (folder / "repeat.txt").read_text()
    assert not (folder / "ensemble.ckpt").exists()


@pytest.mark.usefixtures("pretending")
def test_a_seed_that_gets_nowhere_is_not_started_for_ever(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "repeat"
    assert run("repeat", "--config", config, "--seeds", "50,", "--folder", folder) == 1
    assert (folder / "seed_50/commands").read_text().split() == ["fit"]
    assert "seed 50 failed" in capsys.readouterr().err
    assert not (folder / "repeat.json").exists()


@pytest.mark.usefixtures("pretending")
def test_one_seed_has_no_spread(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "repeat"
    assert run("repeat", "--config", config, "--seeds", 1, "--first_seed", 20, "--folder", folder) == 0
    assert "one seed has no spread" in capsys.readouterr().out
    target = content(folder)["targets"]["return_2"]
    assert target["skill"]["std"] is None
    assert (folder / "seed_20/commands").read_text().split() == ["fit", "test"]
    assert not (folder / "ensemble.ckpt").exists()


@pytest.mark.usefixtures("pretending")
def test_every_other_argument_is_passed_on_to_fit(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(specs, "_trusted", {"cnn_lstm"})
    folder = tmp_path / "repeat"
    others = ["--config", str(config), "--trainer.max_epochs", "3", "--data.features=[log_return_1]"]
    assert run("--trust-imports", "tests", "repeat", *others, "--seeds=1", "--folder", folder) == 0
    argv = json.loads((folder / "seed_42.log").read_text().splitlines()[0])
    of_seed = ["--seed_everything", "42", "--run_dir", str(folder / "seed_42")]
    assert argv == ["--trust-imports", "tests", "fit", *others, *of_seed]
    assert yaml.safe_load((folder / "repeat.yaml").read_text())["trainer"]["max_epochs"] == 3


# -- the end -------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_runs(number: signal.Signals, code: int, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repeat"
    process = driven(PRETENDING, "--config", config, "--seeds", "5,99", "--folder", folder)
    wait_for(folder / "seed_99/pid", process)
    time.sleep(0.2)
    pid = int((folder / "seed_99/pid").read_text())
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert not alive(pid)
    assert f"--resume --folder {folder}" in err
    assert "Traceback" not in err
    assert (folder / "seed_5/report.json").exists()


@pytest.mark.usefixtures("pretending")
def test_a_run_that_outlives_its_repeat_keeps_others_out(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "repeat"
    argv = ["--config", config, "--seeds", "99,", "--folder", folder]
    process = driven(PRETENDING, *argv)
    wait_for(folder / "seed_99/pid", process)
    time.sleep(0.2)
    pid = int((folder / "seed_99/pid").read_text())
    process.kill()
    process.communicate()
    try:
        assert alive(pid)
        assert run("repeat", *argv, "--resume") == 2
        message = capsys.readouterr().err
        assert "error[E243]" in message
        assert f"cnn-lstm repeat, pid {process.pid} has ended, but not what it started" in message
    finally:
        os.kill(pid, signal.SIGKILL)


def test_jobs_run_side_by_side_and_never_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    most = [0]
    start = members_module.MemberProcesses.start

    def counted(self: members_module.MemberProcesses, member: Member) -> None:
        start(self, member)
        most[0] = max(most[0], len(self.running))

    monkeypatch.setattr(members_module.MemberProcesses, "start", counted)
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", PRETENDING])
    with (tmp_path / "lock").open("w") as lock:
        members = [Member("seed", seed, tmp_path, []) for seed in range(5)]
        failed = members_module.train_all(members, 3, lock.fileno())
    assert failed == {}
    assert most == [3]
    assert all((tmp_path / f"seed_{seed}/report.json").exists() for seed in range(5))


# -- wrong arguments -----------------------------------------------------------------------------------------------

BAD: dict[str, tuple[list[str], int, str]] = {
    "no seed": (["--seeds", "0"], 224, "--seeds 0"),
    "negative count": (["--seeds", "-2"], 224, "--seeds -2"),
    "no number": (["--seeds", "few"], 224, "few"),
    "twice": (["--seeds", "3,4,3"], 224, "3,4,3"),
    "negative seed": (["--seeds=3,-4"], 224, "3,-4"),
    "negative first seed": (["--first_seed=-1"], 224, "5"),
    "list and first": (["--seeds", "3,4", "--first_seed", "2"], 224, "--first_seed 2"),
    "no job": (["--n_jobs", "0"], 224, "--n_jobs 0"),
    "job no number": (["--n_jobs", "x"], 225, "--n_jobs"),
    "seed of fit": (["--seed_everything", "3"], 225, "--seed_everything"),
    "run_dir of fit": (["--run_dir=x"], 225, "--run_dir"),
    "ckpt_path of fit": (["--ckpt_path", "last"], 225, "--ckpt_path"),
    "unknown option": (["--data.windw", "3"], 225, "did you mean data.window?"),
    "value that nothing can be built of": (["--data.window", "0"], 224, "window"),
    "former name of the folder": (["--repeat_dir", "x"], 225, "write --folder"),
    "nothing to go on with": (["--resume"], 246, "leave --resume out"),
    "abbreviated": (["--seed", "3"], 225, "--seed"),
    "no such config": (["--config", "missing.yaml"], 225, "missing.yaml"),
}


@pytest.mark.parametrize(("argv", "code", "message"), BAD.values(), ids=BAD.keys())
def test_wrong_arguments_are_one_line_and_make_no_folder(
    argv: list[str], code: int, message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "repeat"
    assert run("repeat", "--config", config, "--folder", folder, *argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith(f"error[E{code}]")
    assert message in line
    assert not folder.exists()


def a_file(folder: Path) -> None:
    folder.touch()


def another_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "repeat.yaml").write_text("data:\n  window: 9\n")


def a_run(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)


@pytest.mark.usefixtures("pretending")
@pytest.mark.parametrize(
    ("make", "options", "exit_code", "message"),
    [
        (a_file, [], 6, "error[E606]"),
        (another_config, ["--resume"], 2, "data.window: 9 -> 8"),
        (another_config, [], 2, "error[E245]"),
        (a_run, [], 2, "error[E242]"),
        (a_run, ["--resume"], 2, "error[E246]"),
    ],
    ids=["file", "config", "begun", "run", "nothing-begun"],
)
def test_a_folder_of_something_else_is_refused(
    make: Callable[[Path], None],
    options: list[str],
    exit_code: int,
    message: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "repeat")
    assert run("repeat", "--config", config, "--folder", tmp_path / "repeat", *options) == exit_code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("repeat/seed_*"))


@pytest.mark.usefixtures("pretending")
def test_more_seeds_join_those_that_are_there(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repeat"
    assert run("repeat", "--config", config, "--seeds", "20,", "--folder", folder) == 0
    assert run("repeat", "--config", config, "--seeds", "20,13", "--folder", folder, "--resume") == 3
    assert (folder / "seed_20/commands").read_text().split() == ["fit", "test"]
    assert (folder / "seed_13/commands").read_text().split() == ["fit"]


def test_a_locked_folder_is_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with take_folder(tmp_path, "walk-forward", "walk-forward"):
        assert run("repeat", "--config", config, "--folder", tmp_path) == 2
    message = capsys.readouterr().err
    holder = f"cnn-lstm walk-forward, pid {os.getpid()}"
    assert f"error[E243]: another command is at work here — {tmp_path}: {holder}" in message


@pytest.mark.usefixtures("pretending")
def test_bad_data_leave_no_folder(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    assert run("repeat", "--config", config, "--seeds", 2, "--folder", folder, "--data.window", 10_000) == 3
    assert "error[E3" in capsys.readouterr().err
    assert not folder.exists()
    runs = tmp_path / "runs"  # one that nobody named
    assert run("repeat", "--config", config, "--seeds", 2, "--runs_dir", runs, "--data.window", 10_000) == 3
    assert not runs.exists()


FAILING = """
import sys
print("error[E281]: no step")
sys.exit(2)
"""


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("command", ["repeat", "walk-forward", "ensemble"])
def test_what_fails_before_any_training_leaves_nothing(
    command: str, said: bool, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The error line of the runs is in the message; without one, as after a crash, their logs stay."""
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", FAILING if said else "raise SystemExit(1)"])
    folder = tmp_path / "deep" / "new"
    ways = {
        "repeat": ["repeat", "--seeds", 2, "--folder", folder],
        "walk-forward": ["walk-forward", "--folds", 2, "--data.checks.on_short", "skip", "--folder", folder],
        "ensemble": ["fit", "--ensemble", 2, "--run_dir", folder, "--mlflow", "true"],
    }
    name, *options = ways[command]
    assert run(name, "--config", config, *options) == (2 if said else 1)
    error = capsys.readouterr().err
    assert ("error[E281]: no step" in error) == said
    assert ("to go on" in error) == (command == "ensemble" and not said)
    assert folder.parent.exists() != said
    assert not list(tmp_path.rglob("mlflow.db"))
    if not said:
        assert list(folder.rglob("*.log"))


def test_what_lay_in_the_folder_stays(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", FAILING])
    assert run("repeat", "--config", config, "--seeds", 2, "--folder", tmp_path) == 2
    assert tmp_path.is_dir()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("pretending")
def test_a_folder_is_made_under_runs_dir(config: Path, tmp_path: Path) -> None:
    assert run("repeat", "--config", config, "--seeds", "20,", "--runs_dir", tmp_path / "runs") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("experiment-repeat-")
    assert (folder / "repeat.json").is_file()
