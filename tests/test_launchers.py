"""Processes that torchrun and SLURM start: one folder, the results of Lightning's own two processes, orderly ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.training.launchers import RANKS, SIZES, name_of_launch
from tests.experiments import experiment
from tests.markets import market

TWO = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "cnn_lstm"]
LINE = "error[E656]: another process of the training has ended"
LONG = ["--trainer.max_epochs", "2000", "--early_stopping.patience", "2000"]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({"LOCAL_RANK": "0"}, None),  # of Lightning, which shares the folder by a variable of ours
        ({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x"}, None),
        ({"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a/b c"}, "a-b-c"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}, "job-7"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}, None),  # in the batch script, outside of srun
    ],
)
def test_processes_of_one_launch_have_one_name(environment: dict[str, str], name: str | None) -> None:
    assert name_of_launch(environment) == name


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none", "GROUP_WORLD_SIZE": "2"},
        {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2"},
    ],
)
def test_processes_without_a_common_name_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--run_dir"):
        name_of_launch(environment)


# -- real processes --------------------------------------------------------------------------------------------------


def clean() -> dict[str, str]:
    of_launches = {*RANKS, *SIZES, "MASTER_PORT", "MASTER_ADDR"}
    return {key: value for key, value in os.environ.items() if key not in of_launches} | {"OMP_NUM_THREADS": "1"}


def started(folder: Path, command: Sequence[object], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*map(str, command)],
        env=clean() | variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def job_of_two(folder: Path, command: Sequence[object], **variables: str) -> list[subprocess.Popen[str]]:
    """Two tasks as srun starts them."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    shared = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "MASTER_PORT": str(port), "MASTER_ADDR": "127.0.0.1",
    }  # fmt: skip
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    return [started(folder, command, **shared, **variables, **rank) for rank in ranks]


def ended(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def state(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"]
    return weights


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(values, other[name]) for name, values in one.items())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiment(tmp_path_factory.mktemp("launched"), market(200, gaps=False), {"batch_size": 16})


@pytest.fixture(scope="module")
def lightning(config: Path) -> Path:
    """The run of two processes that Lightning starts."""
    folder = config.parent / "lightning"
    argv = ["fit", "--config", config, *TWO, "--trainer.max_epochs", 4, "--run_dir", folder]
    code, output = ended(started(config.parent, [sys.executable, "-m", "cnn_lstm", *argv]))
    assert code == 0, output
    return folder


@pytest.mark.slow
def test_torchrun_trains_as_lightning_does_and_makes_one_folder(config: Path, lightning: Path, tmp_path: Path) -> None:
    code, output = ended(started(tmp_path, [*TORCHRUN, "fit", "--config", config, *TWO, "--trainer.max_epochs", 4]))
    assert code == 0, output
    (folder,) = (tmp_path / "runs").iterdir()
    assert same(state(folder), state(lightning))
    assert (folder / "summary.json").is_file()


@pytest.mark.slow
def test_slurm_trains_as_lightning_does_and_makes_one_folder(config: Path, lightning: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "cnn_lstm", "fit", "--config", config, *TWO, "--trainer.max_epochs", 4]
    for process in job_of_two(tmp_path, argv):
        code, output = ended(process)
        assert code == 0, output
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "experiment-job-4711"
    assert same(state(folder), state(lightning))


def wait_for(file: Path, *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not file.exists():
        assert all(process.poll() is None for process in processes), [one.communicate() for one in processes]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def second_process(folder: Path) -> int:
    """The process with rank 1 of the run in a folder."""
    for entry in Path("/proc").iterdir():
        try:
            command, variables = ((entry / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        if str(folder).encode() in command and b"LOCAL_RANK=1" in variables:
            return int(entry.name)
    raise AssertionError("a second process was not to be started")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the second process is looked up in /proc")
@pytest.mark.parametrize("launcher", ["torchrun", "lightning"])
def test_a_process_that_is_killed_ends_the_other_with_one_line(launcher: str, config: Path, tmp_path: Path) -> None:
    program = TORCHRUN if launcher == "torchrun" else [sys.executable, "-m", "cnn_lstm"]
    process = started(tmp_path, [*program, "fit", "--config", config, *TWO, *LONG, "--run_dir", tmp_path / "run"])
    wait_for(tmp_path / "run/checkpoints/last.ckpt", process)
    os.kill(second_process(tmp_path / "run"), signal.SIGKILL)
    code, output = ended(process, 60)
    assert code == (1 if launcher == "torchrun" else 6)  # torchrun has one for everything
    assert sum(line.startswith(LINE) for line in output.splitlines()) == 1, output


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_task_of_slurm_that_is_killed_ends_the_other(killed: int, config: Path, tmp_path: Path) -> None:
    argv = ["fit", "--config", config, *TWO, *LONG, "--run_dir", tmp_path / "run"]
    tasks = job_of_two(tmp_path, [sys.executable, "-m", "cnn_lstm", *argv])
    wait_for(tmp_path / "run/checkpoints/last.ckpt", *tasks)
    tasks[killed].kill()
    code, output = ended(tasks[1 - killed], 60)
    assert code == 6
    assert output.splitlines()[-1].startswith(LINE), output
    assert "Traceback" not in output
    tasks[killed].communicate()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_slurm_requeues_both_tasks_whichever_is_asked(
    asked: int, config: Path, lightning: Path, tmp_path: Path
) -> None:
    """The fit goes on as the job script does it, and has the weights of one that was left alone."""
    stub = tmp_path / "bin/scontrol"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    stub.chmod(0o755)
    path = f"{stub.parent}:{os.environ['PATH']}"
    argv = ["fit", "--config", config, *TWO, "--trainer.max_epochs", 1500, "--early_stopping.patience", 1500]
    run_dir = tmp_path / "run"
    program = [sys.executable, "-m", "cnn_lstm"]
    tasks = job_of_two(tmp_path, [*program, *argv, "--run_dir", run_dir], PATH=path)
    wait_for(run_dir / "checkpoints/last.ckpt", *tasks)
    tasks[asked].send_signal(signal.SIGUSR1)
    for task in tasks:
        code, output = ended(task)
        assert code == 143, output
        assert "Traceback" not in output
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    stopped = read_checkpoint(run_dir / "checkpoints/last.ckpt")
    epochs = stopped["epoch"] + 2
    again = [
        *program,
        "fit",
        "--config",
        run_dir / "config.yaml",
        "--ckpt_path",
        "last",
        "--trainer.max_epochs",
        epochs,
    ]
    for task in job_of_two(tmp_path, again, PATH=path):
        code, output = ended(task)
        assert code == 0, output
    alone = [*program, *argv, "--trainer.max_epochs", epochs, "--run_dir", tmp_path / "alone"]
    code, output = ended(started(tmp_path, alone))
    assert code == 0, output
    assert same(state(run_dir), state(tmp_path / "alone"))
