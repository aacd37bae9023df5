"""SLURM's signal stops a fit behind a batch, puts the job back, and the next start ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.training_data import Windows
from tests.experiments import experiment, fit, run
from tests.markets import market

JOB = {
    "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = {"weight_averaging": {"kind": "ema", "decay": 0.8}}
    return experiment(tmp_path_factory.mktemp("requeue"), market(200, gaps=False), {"batch_size": 40}, **model)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment as that of a job, with a `scontrol` that notes what it is asked for."""
    asked = tmp_path / "asked"
    stub = tmp_path / "bin" / "scontrol"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    stub.chmod(0o755)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    return asked


def signalled_in(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends the signal in the middle of a training step."""
    before = Forecaster.training_step

    def training_step(self: Forecaster, batch: Windows, batch_idx: int) -> torch.Tensor:
        loss = before(self, batch, batch_idx)
        if self.trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGUSR1)
        return loss

    monkeypatch.setattr(Forecaster, "training_step", training_step)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"]
    return state


def history(folder: Path) -> pd.DataFrame:
    """Each metric of each epoch, but for those of time and memory."""
    table = pd.read_csv(folder / "metrics.csv").groupby("epoch").last()
    return table[sorted(name for name in map(str, table) if name.startswith(("train_", "val_", "clipped_share")))]


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("step", [0, 4, 5], ids=["first-epoch", "within-the-second", "last-of-the-second"])
def test_a_requeued_job_ends_as_one_that_was_left_alone(
    step: int, accumulated: int, config: Path, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step if accumulated == 1 else step // 2
    argv = ["--trainer.max_epochs", 3, "--trainer.accumulate_grad_batches", accumulated]
    alone = fit(config, tmp_path / "alone", *argv)
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        signalled_in(patched, step)
        assert run("fit", "--config", config, "--run_dir", folder, *argv) == 143
    assert job.read_text() == "requeue 4711\n"
    assert read_checkpoint(folder / "checkpoints/last.ckpt")["global_step"] == step + 1
    assert run("fit", "--config", folder / "config.yaml", "--ckpt_path", "last") == 0
    one, other = weights(folder), weights(alone)
    assert all(torch.equal(values, other[name]) for name, values in one.items())
    pd.testing.assert_frame_equal(history(folder), history(alone), check_exact=True)
    ends = [read_checkpoint(run_dir / "checkpoints/best.ckpt")["cnn_lstm"] for run_dir in (folder, alone)]
    assert ends[0]["digest"] == ends[1]["digest"]


def test_a_job_that_slurm_does_not_take_back_says_so(
    config: Path, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin/scontrol").write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    signalled_in(monkeypatch, 1)
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run") == 143
    assert "job 4711 was not put back in the queue: no such job" in capsys.readouterr().err
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_a_job_array_puts_its_task_back(
    config: Path, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    signalled_in(monkeypatch, 1)
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run") == 143
    assert job.read_text() == "requeue 12_3\n"
