"""Runs on a real Ray cluster of two nodes on this machine: what lies in the folders is what one machine makes.

`make test-cluster` installs Ray and runs these.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import psutil
import pytest
import torch
import yaml

from cnn_lstm.model.checkpoints import read_checkpoint
from tests.experiments import experiment
from tests.markets import market

pytestmark = pytest.mark.cluster
pytest.importorskip("ray", reason="Ray is not installed: make test-cluster")
SEEDS = (7, 8)
EPOCHS = 40


class Nodes:
    """The cluster, in a process of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.two_nodes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.address = self._line("address")

    def order(self, line: str) -> None:
        """Adds a third node, or kills it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        self._line("done")

    def _line(self, first: str) -> str:
        assert self.process.stdout is not None
        found = next((line.split()[1] for line in self.process.stdout if line.startswith(first)), None)
        # Ray gives a node 30 s to start, which a machine with much other work does not keep
        assert found is not None, self.log.read_text()[-2000:]
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes, each with room for one run."""
    nodes = Nodes(tmp_path_factory.mktemp("nodes") / "log")
    yield nodes
    nodes.process.communicate()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    sections = {"trainer": {"max_epochs": EPOCHS}, "early_stopping": {"patience": EPOCHS}}
    return experiment(folder, market(160, gaps=False), **sections)


def started(cluster: Nodes | None, *argv: object) -> subprocess.Popen[str]:
    """A command in a process of its own, on the cluster if one is given."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if cluster is not None:
        environment["RAY_ADDRESS"] = cluster.address
        argv = (*argv, "--cluster", "auto")
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *map(str, argv)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def repeat(config: Path, folder: Path) -> list[object]:
    return ["repeat", "--config", config, "--seeds", "7,8", "--folder", folder]


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this machine makes without a cluster."""
    folder = tmp_path_factory.mktemp("alone") / "repeat"
    code, _, err = ended(started(None, *repeat(config, folder), "--n_jobs", 2))
    assert code == 0, err
    return folder


def assert_same(folder: Path, alone: Path) -> None:
    assert (folder / "repeat.json").read_bytes() == (alone / "repeat.json").read_bytes()
    for seed in SEEDS:
        one, other = folder / f"seed_{seed}", alone / f"seed_{seed}"
        tables = [pd.read_parquet(run / "predictions.parquet") for run in (one, other)]
        pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
        # how many models were tested before follows from which of two runs ends first
        assert [tables[0].attrs | {"trials": 0}] == [tables[1].attrs | {"trials": 0}]
        states = [read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"] for run in (one, other)]
        assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())
        assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


def wait_for(process: subprocess.Popen[str], *files: Path) -> None:
    deadline = time.monotonic() + 200
    while not all(file.exists() for file in files):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, files
        time.sleep(0.02)


def fits_in(folder: Path) -> list[psutil.Process]:
    """Processes whose run lies in a folder: they hold its lock, or write its log, open."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(file.path).startswith(str(folder)) for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_two_nodes_make_what_one_machine_makes(cluster: Nodes, config: Path, alone: Path, tmp_path: Path) -> None:
    code, out, err = ended(started(cluster, *repeat(config, tmp_path / "repeat")))
    assert code == 0, err
    lines = out.splitlines()
    assert lines[1:3] == ["seed 7: fit", "seed 8: fit"]  # both have room at once
    assert "Traceback" not in err
    assert_same(tmp_path / "repeat", alone)


def test_a_run_whose_node_is_killed_goes_on_elsewhere(
    cluster: Nodes, config: Path, alone: Path, tmp_path: Path
) -> None:
    cluster.order("add")
    folder = tmp_path / "repeat"
    process = started(cluster, *repeat(config, folder), "--n_jobs", 3, "--seeds", "7,8,9")
    wait_for(process, *(folder / f"seed_{seed}/checkpoints/last.ckpt" for seed in (7, 8, 9)))
    cluster.order("kill")
    code, out, err = ended(process)
    assert code == 0, err
    assert out.count("its machine was lost, it goes on elsewhere") == 1
    assert out.count(": fit goes on") == 1
    for seed in SEEDS:
        states = [read_checkpoint(run / f"seed_{seed}/checkpoints/last.ckpt")["state_dict"] for run in (folder, alone)]
        assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())
        tables = [pd.read_parquet(run / f"seed_{seed}/predictions.parquet") for run in (folder, alone)]
        pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_runs_and_resume_goes_on(
    number: signal.Signals, code: int, cluster: Nodes, config: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "repeat"
    process = started(cluster, *repeat(config, folder))
    wait_for(process, *(folder / f"seed_{seed}/checkpoints/last.ckpt" for seed in SEEDS))
    process.send_signal(number)
    left, _, err = ended(process)
    assert left == code, err
    assert "--resume" in err
    assert "Traceback" not in err
    assert fits_in(folder) == []
    left, _, err = ended(started(cluster, *repeat(config, folder), "--resume"))
    assert left == 0, err
    assert_same(folder, alone)


def test_runs_end_with_the_command_that_is_killed(cluster: Nodes, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repeat"
    process = started(cluster, *repeat(config, folder))
    wait_for(process, *(folder / f"seed_{seed}/checkpoints/last.ckpt" for seed in SEEDS))
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while fits_in(folder):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_sweep_has_workers_on_both_nodes(cluster: Nodes, config: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    searched = {"model.network.init_args.lstm_hidden": {"categorical": [4, 6, 8]}}
    space.write_text(yaml.safe_dump({"space": searched, "sampler": {"name": "grid"}, "pruner": {"name": "none"}}))
    values = []
    for where in (None, cluster):
        folder = tmp_path / ("alone" if where is None else "cluster")
        argv = ["sweep", "--config", config, "--space", space, "--folder", folder, "--n_trials", 3]
        code, out, err = ended(started(where, *argv, "--trainer.max_epochs", 3, "--refit", 2))
        assert code == 0, err
        assert out.count("trial ") >= 3
        study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder}/study.db")
        values.append(sorted((*trial.params.values(), *trial.values) for trial in study.trials))
    assert values[0] == values[1]
    assert len(list((tmp_path / "cluster").glob("worker_*.log"))) == 2
    refits = [json.loads((tmp_path / name / "refit/repeat.json").read_text()) for name in ("alone", "cluster")]
    assert refits[0] == refits[1]


@pytest.mark.parametrize(
    ("command", "options", "fits"), [("walk-forward", ["--folds", 2], 2), ("cross-validate", ["--groups", 3], 3)]
)
def test_fits_on_several_splits_run_there(
    command: str, options: list[object], fits: int, cluster: Nodes, config: Path, tmp_path: Path
) -> None:
    tables = []
    for where in (None, cluster):
        folder = tmp_path / ("alone" if where is None else "cluster")
        argv = [command, "--config", config, *options, "--folder", folder, "--trainer.max_epochs", 2]
        code, _, err = ended(started(where, *argv, "--data.checks.on_short", "skip"))
        assert code == 0, err
        files = sorted(folder.rglob("predictions.parquet"))
        tables.append({str(file.relative_to(folder)): file.read_bytes() for file in files})
    assert len(tables[0]) > fits
    assert tables[0] == tables[1]


def test_what_no_node_has_is_refused(cluster: Nodes, config: Path, tmp_path: Path) -> None:
    argv = [*repeat(config, tmp_path / "repeat"), "--trainer.devices", 64]
    code, _, err = ended(started(cluster, *argv))
    assert code == 6
    (line,) = [line for line in err.splitlines() if line.startswith("error[")]
    assert line.startswith("error[E652]: no machine of the cluster has 64 CPU and 0 GPU")


def test_a_cluster_that_is_not_there_is_one_line(config: Path, tmp_path: Path) -> None:
    process = started(None, *repeat(config, tmp_path / "repeat"), "--cluster", "ray://127.0.0.1:9")
    code, _, err = ended(process)
    assert code == 6
    assert err.strip().splitlines()[-1].startswith("error[E651]: the cluster does not answer")
