"""`fit --ensemble`: real members, stopped and resumed; what every command makes of their average; its orderly ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient

from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import digest_of
from cnn_lstm.runs import processes
from cnn_lstm.runs.members import Member
from cnn_lstm.training.run_folder import RunFolder
from tests.experiments import experiment, run
from tests.markets import market

SEEDS = (7, 8)
EPOCHS = 6
KEYS = ["target", "symbol", "as_of"]
MODELLED = ("y_pred", "ensemble_std", "lower_50", "upper_90")
# a member that fails when it has begun
FAILING = """
import sys
from pathlib import Path
Path(sys.argv[-1]).mkdir()
print("error[E314]: price <= 0", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections: dict[str, Any] = {
        "trainer": {"max_epochs": EPOCHS},
        "history_plot": {"enabled": True},
        "evaluation": {"resamples": 100},
    }
    return experiment(tmp_path_factory.mktemp("config"), market(160, gaps=False), **sections)


def started(*argv: object) -> subprocess.Popen[str]:
    """The command line in a process and a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def done(*argv: object) -> tuple[str, str]:
    """What a command printed that ended well."""
    process = started(*argv)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def output(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished ensemble of two with its MLflow record, and what the command printed."""
    folder = tmp_path_factory.mktemp("finished") / "runs" / "two"
    argv = ["--config", config, "--ensemble", 2, "--n_jobs", 2, "--mlflow", "true", "--run_dir", folder]
    out, _ = done("fit", *argv)
    return folder, out


@pytest.fixture
def finished(output: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, with its configuration."""
    return Path(shutil.copytree(output[0], tmp_path / "runs" / "two"))


def argv_of(folder: Path, *more: object) -> list[object]:
    return ["--config", folder / "config.yaml", "--ckpt_path", "best", "--mlflow", "false", *more]


def state(file: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(file)["state_dict"]
    return weights


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(values, other[name]) for name, values in one.items())


def prices(config: Path) -> pd.DataFrame:
    return pd.read_parquet(config.parent / "prices.parquet")


# -- what a fit leaves behind ----------------------------------------------------------------------------------------


def test_each_member_is_an_ordinary_run_of_its_seed(output: tuple[Path, str], config: Path, tmp_path: Path) -> None:
    folder, _ = output
    assert run("fit", "--config", config, "--seed_everything", 8, "--run_dir", tmp_path / "alone") == 0
    assert same(state(tmp_path / "alone/checkpoints/best.ckpt"), state(folder / "members/seed_8/checkpoints/best.ckpt"))
    for seed in SEEDS:
        member = folder / f"members/seed_{seed}"
        kept = yaml.safe_load((member / "config.yaml").read_text())
        assert (kept["seed_everything"], kept["ensemble"]) == (seed, 1)
        assert all((member / name).is_file() for name in ("metrics.csv", "history.png", "checkpoints/last.ckpt"))
        assert not (member / "report.json").exists()


def test_the_best_checkpoint_is_their_average_with_intervals_of_its_own(output: tuple[Path, str], config: Path) -> None:
    folder, _ = output
    predictor = Predictor.from_checkpoint(folder / "checkpoints/best.ckpt")
    contract = predictor.forecaster.contract
    files = [folder / f"members/seed_{seed}/checkpoints/best.ckpt" for seed in SEEDS]
    assert list(contract.members) == [digest_of(read_checkpoint(file)) for file in files]
    tables = [Predictor.from_checkpoint(file).predict(prices(config)) for file in files]
    average = np.mean([table["y_pred"] for table in tables], axis=0)
    edges = {name: pd.Timestamp(getattr(contract.boundaries, name), tz="UTC") for name in ("validation", "test")}
    part = (tables[0]["as_of"] >= edges["validation"]) & (tables[0]["target_end"] < edges["test"])
    errors = (tables[0]["y_true"] - average)[part]
    assert contract.calibration is not None
    wanted = np.sort((errors / tables[0]["scale"])[part])
    np.testing.assert_allclose(contract.calibration.scores[0], wanted, rtol=1e-3, atol=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["validation"]["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert summary["epochs"] == sum(one["epochs"] for one in summary["members"].values()) == 2 * EPOCHS


def test_the_last_lines_say_where_everything_lies(output: tuple[Path, str]) -> None:
    folder, out = output
    lines = out.splitlines()
    for place in (
        f"run folder:  {folder}",
        f"checkpoints: {folder / 'checkpoints'}",
        f"members:     {folder / 'members'}",
    ):
        assert place in lines
    assert all(sum(line.startswith(f"seed {seed}: best val_loss") for line in lines) == 1 for seed in SEEDS)
    assert any(line.startswith("validation rmse: average of 2 ") for line in lines)
    assert yaml.safe_load((folder / "config.yaml").read_text())["ensemble"] == 2
    assert (folder / "history.png").read_bytes()[:4] == b"\x89PNG"


def test_mlflow_shows_the_members_under_the_run_and_its_model_forecasts(
    output: tuple[Path, str], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = output
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    runs = {one.info.run_name: one for one in MlflowClient(uri).search_runs(["1"])}
    assert set(runs) == {"two", "seed_7", "seed_8"}
    assert {one.info.status for one in runs.values()} == {"FINISHED"}
    parents = {name: one.data.tags.get("mlflow.parentRunId") for name, one in runs.items()}
    assert parents == {"two": None, "seed_7": runs["two"].info.run_id, "seed_8": runs["two"].info.run_id}
    summary = json.loads((folder / "summary.json").read_text())
    assert runs["two"].data.metrics["val/rmse"] == summary["validation"]["rmse"]
    forecasts = mlflow.pyfunc.load_model(str(folder / "model")).predict(prices(config))
    wanted = Predictor.from_checkpoint(folder / "checkpoints/best.ckpt").predict(prices(config))
    assert forecasts["y_pred"].tolist() == wanted["y_pred"].tolist()
    assert not (folder / "members" / "mlflow.db").exists()


# -- every command takes it ------------------------------------------------------------------------------------------


def test_test_judges_the_forecasts_of_predictor(finished: Path, config: Path) -> None:
    out, _ = done("test", *argv_of(finished))
    assert f"report:      {finished / 'report.html'}" in out.splitlines()
    table = pd.read_parquet(finished / "predictions.parquet")
    whole = Predictor.from_checkpoint(finished / "checkpoints/best.ckpt").predict(prices(config))
    wanted = table[KEYS].merge(whole, on=KEYS, how="left")
    for name in MODELLED:
        assert table[name].tolist() == wanted[name].tolist(), name
    report = json.loads((finished / "report.json").read_text())["targets"]["return_2"]
    metrics = json.loads((finished / "test_metrics.json").read_text())
    assert metrics["test_rmse"] == pytest.approx(report["forecasts"]["model"]["rmse"], rel=1e-5)
    assert "test_loss" not in metrics
    checkpoint = read_checkpoint(finished / "checkpoints/best.ckpt")
    (use,) = map(json.loads, (finished.parent / "test_uses.jsonl").read_text().splitlines())
    assert use["model"] == digest_of(checkpoint)
    model = json.loads((finished / "model_info.json").read_text())["model"]
    assert model["ensemble_of"] == checkpoint["cnn_lstm"]["members"]
    assert model["parameters"] == sum(
        parameter.numel()
        for seed in SEEDS
        for parameter in Predictor.from_checkpoint(
            finished / f"members/seed_{seed}/checkpoints/best.ckpt"
        ).forecaster.parameters()
    )
    assert "average of 2 members" in (finished / "report.html").read_text()


def test_validate_and_predict_with_dropout(finished: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", *argv_of(finished)) == 0
    metrics = json.loads((finished / "validate_metrics.json").read_text())
    assert metrics["val_rmse"] == pytest.approx(
        json.loads((finished / "summary.json").read_text())["validation"]["rmse"], rel=1e-5
    )
    assert run("predict", *argv_of(finished, "--data.predict_part", "all", "--model.samples", 3)) == 0
    table = pd.read_parquet(finished / "forecasts.parquet")
    wanted = Predictor.from_checkpoint(finished / "checkpoints/best.ckpt").predict(prices(config), samples=3)
    pd.testing.assert_frame_equal(table[[*KEYS, "mc_std", *MODELLED]], wanted[[*KEYS, "mc_std", *MODELLED]])
    assert bool((table["mc_std"] > 0).all())


@pytest.mark.slow
def test_audit_encode_export_plot_and_agents(finished: Path, config: Path) -> None:
    checkpoint = finished / "checkpoints/best.ckpt"
    assert run("audit", *argv_of(finished)) == 0
    outcomes = {
        check["name"]: check["outcome"] for check in json.loads((finished / "audit.json").read_text())["checks"]
    }
    assert outcomes["statistics of the checkpoint"] == outcomes["calibration"] == "passed"
    assert run("encode", "--ckpt_path", checkpoint) == 0
    embeddings = pd.read_parquet(checkpoint.with_name("embeddings.parquet")).filter(regex=r"^e\d+$")
    single = Predictor.from_checkpoint(finished / "members/seed_7/checkpoints/best.ckpt").encode(prices(config))
    width = single.shape[1] - 2
    assert embeddings.shape[1] == 2 * width
    np.testing.assert_array_equal(embeddings.iloc[:, :width], single.iloc[:, 2:])
    assert run("export", "--ckpt_path", checkpoint) == 0
    before = (finished / "history.png").read_bytes()
    (finished / "history.png").unlink()
    assert run("plot", finished) == 0
    assert (finished / "history.png").read_bytes() == before
    small = ["--agent.steps", 32, "--agent.n_envs", 1, "--agent.seeds", "[0]", "--market.episode_length", 10]
    small += ["--agent.arguments", "{n_steps: 16, batch_size: 16}", "--market.part", "validation", "--folder", "agents"]
    assert run("rl", "train", "--ckpt_path", checkpoint, *small) == 0
    assert run("rl", "evaluate", finished / "rl/agents") == 0


def test_one_of_several_networks_has_to_be_that_of_the_configuration(
    finished: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = ["--model.network.init_args.lstm_hidden", 8, "--run_dir", tmp_path / "wider"]
    assert run("fit", "--config", config, *wider) == 0
    folders = finished / "members/seed_7", tmp_path / "wider"
    file = tmp_path / "mixed.ckpt"
    write_ensemble([folder / "checkpoints/best.ckpt" for folder in folders], file)
    for folder in folders:
        assert run("validate", "--config", folder / "config.yaml", "--ckpt_path", file, "--mlflow", "false") == 0
    third = ["--model.network.init_args.lstm_hidden", 16, "--ckpt_path", file]
    assert run("validate", "--config", config, *third) == 4
    assert "model.network.lstm_hidden: 4 -> 16" in capsys.readouterr().err


@pytest.mark.slow
def test_each_fold_of_walk_forward_is_an_ensemble(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    argv = ["--config", config, "--folds", 2, "--trainer.max_epochs", 2, "--data.symbols", "[AAA,BBB]"]
    done("walk-forward", *argv, "--ensemble", 2, "--folder", folder)
    table = pd.read_parquet(folder / "predictions.parquet")
    assert bool((table["ensemble_std"] > 0).any())
    assert len(list(folder.glob("fold_*/members/seed_*/checkpoints/best.ckpt"))) == 4
    assert (folder / "report.html").is_file()


# -- stopped, resumed, failed ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stopped_by_ctrl_c_it_goes_on_and_ends_as_if_never_stopped(
    output: tuple[Path, str], config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    process = started("fit", "--config", config, "--ensemble", 2, "--run_dir", folder)
    last, deadline = folder / "members/seed_7/checkpoints/last.ckpt", time.monotonic() + 120
    while not last.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"to go on: cnn-lstm fit --config {folder}/config.yaml --ckpt_path last" in err
    assert not (folder / "summary.json").exists()
    assert not (folder / "members/seed_8").exists()
    assert not (folder / "checkpoints/best.ckpt").exists()

    done("fit", "--config", folder / "config.yaml", "--ckpt_path", "last")

    assert same(state(folder / "checkpoints/best.ckpt"), state(output[0] / "checkpoints/best.ckpt"))


@pytest.mark.slow
def test_more_members_join_those_that_are_done(finished: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in finished.glob("members/seed_*/checkpoints/*.ckpt")}
    argv = ["--config", finished / "config.yaml", "--ckpt_path", "last", "--mlflow", "false"]
    assert run("fit", *argv, "--ensemble", 3, "--runs_dir", "elsewhere") == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    contract = Predictor.from_checkpoint(finished / "checkpoints/best.ckpt").forecaster.contract
    assert len(contract.members) == 3
    assert yaml.safe_load((finished / "config.yaml").read_text())["ensemble"] == 3


def test_without_one_of_its_members_there_is_no_average(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", FAILING])
    folder = tmp_path / "two"
    assert run("fit", "--config", config, "--ensemble", 2, "--run_dir", folder) == 3
    err = capsys.readouterr().err
    assert "seed 7 failed with exit code 3: error[E314]" in err
    assert f"no average without seed 7, seed 8; to go on: cnn-lstm fit --config {folder}/config.yaml" in err
    assert not (folder / "checkpoints").exists()


def test_nothing_is_averaged_where_nothing_is_trained(config: Path, tmp_path: Path) -> None:
    assert run("fit", "--config", config, "--ensemble", 2, "--trainer.fast_dev_run", "true", "--run_dir", tmp_path) == 0
    assert not (tmp_path / "members").exists()


REFUSED = {
    "no seed": (["--seed_everything", "true"], "E224", "give a number"),
    "no member": (["--ensemble", "0"], "E224", "at least 1"),
    "no job": (["--n_jobs", "0"], "E224", "at least 1"),
    "best": (["--ckpt_path", "best"], "E224", "--ckpt_path last"),
    "one member": (["--ckpt_path", "best", "--ensemble", "1"], "E439", "is an ensemble"),
    "other settings": (["--ckpt_path", "last", "--data.window", "9"], "E242", "data.window: 8 -> 9"),
    "no ensemble": (["--ckpt_path", "last", "--run_dir", "elsewhere"], "E437", "no ensemble to go on with"),
}


@pytest.mark.parametrize(("options", "code", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_go_with_it_is_refused_in_one_line(
    options: list[str], code: str, message: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(file.stat().st_mtime_ns for file in finished.rglob("*.ckpt"))
    assert run("fit", "--config", finished / "config.yaml", *options) in (2, 4)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert code in line
    assert message in line
    assert sorted(file.stat().st_mtime_ns for file in finished.rglob("*.ckpt")) == before


def test_a_new_run_does_not_take_the_folder_of_an_ensemble(
    finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(finished / "checkpoints")
    assert run("fit", "--config", config, "--run_dir", finished) == 2
    assert "error[E206]" in capsys.readouterr().err


def test_a_fold_that_was_cut_short_goes_on_with_its_ensemble(tmp_path: Path) -> None:
    member = Member("fold", 0, tmp_path, ["--config", "x.yaml", "--ensemble", "2"])
    folder = RunFolder(tmp_path / "fold_0")
    assert member.next_command() == ["fit", *member.argv, "--run_dir", str(folder.path)]
    folder.members.mkdir(parents=True)
    assert member.next_command() == ["fit", "--config", str(folder.config), "--ckpt_path", "last"]
    folder.summary.write_text("{}")
    assert member.next_command() == ["test", "--config", str(folder.config), "--ckpt_path", "best"]
