"""One writer per run folder: the commands, with real fits, in this process and in others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from cnn_lstm import Predictor
from cnn_lstm.locks import LOCK, take_folder
from cnn_lstm.training.launchers import is_first_process
from cnn_lstm.training.run_folder import OneWriter, run_around, unused_folder
from tests.experiments import experiment, fit, run
from tests.markets import market


def endless(folder: Path) -> Path:
    """A fit that nothing ends."""
    return experiment(folder, market(150), trainer={"max_epochs": 100000}, early_stopping={"patience": 100000})


def started(*argv: object) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> str:
    """What a process has printed; it ends within a minute."""
    return process.communicate(timeout=60)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return fit(experiment(folder, market(150)), folder / "run")


def content(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != LOCK)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


BEST = "checkpoints/best.ckpt"
WRITERS: dict[str, list[str]] = {
    "new": ["fit", "--config", "../experiment.yaml", "--run_dir", "."],
    "resumed": ["fit", "--config", "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "3"],
    "validate": ["validate", "--config", "config.yaml", "--ckpt_path", "best"],
    "test": ["test", "--config", "config.yaml", "--ckpt_path", BEST],
    "predict": ["predict", "--config", "config.yaml", "--ckpt_path", "best", "--csv", "true"],
    "audit": ["audit", "--config", "config.yaml", "--ckpt_path", "best"],
    "plot": ["plot", "."],
    "plot-below": ["plot", ".", "--output", "checkpoints/x.png"],
    "export": ["export", "--ckpt_path", BEST, "--format", "safetensors"],
    "encode": ["encode", "--ckpt_path", BEST],
    "repeat": ["repeat", "--config", "../experiment.yaml", "--seeds", "1", "--folder", "."],
    "ensemble": ["fit", "--config", "../experiment.yaml", "--ensemble", "2", "--run_dir", "."],
}


@pytest.mark.parametrize("argv", WRITERS.values(), ids=WRITERS)
def test_a_second_writer_is_refused_before_it_writes(
    argv: list[str], made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    before = content(made)
    with take_folder(made, "fit", "run"):
        assert run(*argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith("error[E243]: another command is at work here — ")
    assert f"cnn-lstm fit, pid {os.getpid()}" in line
    assert "wait for its end" in line
    assert content(made) == before
    assert not (made / LOCK).exists()


def test_readers_never_wait(made: Path, tmp_path: Path) -> None:
    reads = [
        ["predict", "--config", made / "config.yaml", "--ckpt_path", "best", "--run_dir", tmp_path / "results"],
        ["plot", made, "--output", tmp_path / "plot.png"],
        ["encode", "--ckpt_path", made / BEST, "--output", tmp_path / "embeddings.parquet"],
        ["export", "--ckpt_path", made / BEST, "--format", "safetensors", "--output", tmp_path / "x.safetensors"],
        ["data", "check", "--config", made / "config.yaml"],
    ]
    with take_folder(made, "fit", "run"):
        Predictor.from_checkpoint(made / BEST)
        for argv in reads:
            assert run(*argv) == 0
    assert not list(tmp_path.rglob(LOCK))


def test_a_record_is_not_sent_from_a_run_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be ended as one of a killed process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tracking").mkdir()
    journal = tmp_path / "tracking/journal.jsonl"
    journal.write_text('{"kind": "start", "at": 1, "uid": "u", "name": "n", "experiment": "e", "tags": {}}\n')
    before = journal.read_bytes()
    with take_folder(tmp_path, "fit", "run"):
        assert run("sync-tracking", tmp_path) == 2
    assert "error[E243]" in capsys.readouterr().err
    assert journal.read_bytes() == before
    assert run("sync-tracking", tmp_path / "nowhere") == 2
    assert "error[E241]" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


# -- real processes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_fits_in_one_folder_and_a_resume_after_a_kill(tmp_path: Path) -> None:
    config, folder = endless(tmp_path), tmp_path / "run"
    first = started("fit", "--config", config, "--run_dir", folder)
    wait_for((folder / LOCK).is_file, first)
    second = started("fit", "--config", config, "--run_dir", folder, "--seed_everything", 8)
    refusal = ended(second)
    assert second.returncode == 2
    assert f"error[E243]: another command is at work here — {folder}: cnn-lstm fit, pid {first.pid}" in refusal
    assert "Traceback" not in refusal
    wait_for((folder / "checkpoints/last.ckpt").is_file, first)
    assert yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"] == 7
    last = ["fit", "--config", folder / "config.yaml", "--ckpt_path", "last"]
    assert run(*last) == 2
    first.kill()
    ended(first)
    epoch = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["epoch"]
    assert run(*last, "--trainer.max_epochs", epoch + 2) == 0  # at once
    assert not (folder / LOCK).exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["moved", "removed"])
def test_a_run_folder_that_is_moved_in_mid_run_ends_the_fit_in_one_line(change: str, tmp_path: Path) -> None:
    config, folder, moved = endless(tmp_path), tmp_path / "run", tmp_path / "moved"
    process = started("fit", "--config", config, "--run_dir", folder, "--mlflow", "true")
    wait_for((folder / "checkpoints/last.ckpt").is_file, process)
    folder.rename(moved)
    if change == "removed":
        subprocess.run(["rm", "-rf", moved], check=True)
    output = ended(process)
    assert process.returncode == 6, output
    assert f"error[E606]: the folder was moved or removed while it was written — {folder}" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not folder.exists()  # nothing was written where it lay
    if change == "moved":
        epoch = torch.load(moved / "checkpoints/last.ckpt", weights_only=True)["epoch"]
        last = ["fit", "--config", moved / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", epoch + 2]
        assert run(*last) == 0


@pytest.mark.slow
def test_a_checkpoint_is_whole_at_each_read_while_two_fits_race(tmp_path: Path) -> None:
    """And the configuration is that of the weights."""
    config, folder = endless(tmp_path), tmp_path / "run"
    fits = {seed: started("fit", "--config", config, "--run_dir", folder, "--seed_everything", seed) for seed in (7, 8)}
    while all(process.poll() is None for process in fits.values()):
        time.sleep(0.05)
    (loser,) = [seed for seed, process in fits.items() if process.poll() is not None]
    (winner,) = set(fits) - {loser}
    assert fits[loser].returncode == 2
    assert f"pid {fits[winner].pid}" in ended(fits[loser])
    wait_for((folder / BEST).is_file, fits[winner])
    challengers: list[subprocess.Popen[str]] = []
    for _ in range(22):
        Predictor.from_checkpoint(folder / BEST)
        if len(challengers) < 3:
            challengers.append(started("fit", "--config", config, "--run_dir", folder))
        time.sleep(0.1)
    assert yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"] == winner
    for process in challengers:
        assert re.search(r"E206|E243", ended(process))
        assert process.returncode == 2
    fits[winner].send_signal(signal.SIGTERM)
    ended(fits[winner])


# -- which process, which folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "RANK": "0", "GROUP_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "RANK": "2", "GROUP_RANK": "1"}, False),  # torchrun on a second machine
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_only_the_first_process_of_a_run_holds_the_lock(
    environment: dict[str, str], first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rank in environment.items():
        monkeypatch.setenv(name, rank)
    assert is_first_process() is first
    with OneWriter("fit") as writer:
        writer.take(tmp_path)
        assert (tmp_path / LOCK).exists() is first
        assert (writer.descriptor is not None) is first


def test_the_run_around_a_file(made: Path, tmp_path: Path) -> None:
    for file in ("x.onnx", "checkpoints/x.onnx", "model/data/x.onnx"):
        around = run_around(made / file)
        assert around is not None
        assert around.path == made
    assert run_around(tmp_path / "x.onnx") is None
    with take_folder(tmp_path, "repeat", "repeat"):  # being written
        around = run_around(tmp_path / "ensemble.onnx")
        assert around is not None
        assert around.path == tmp_path


def test_commands_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    names = [unused_folder(tmp_path / "runs" / "fit-now").name for _ in range(3)]
    assert names == ["fit-now", "fit-now-2", "fit-now-3"]
