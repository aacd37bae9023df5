"""What an epoch logs is on the disk with its checkpoint, and what a kill takes comes back with a resume."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cnn_lstm.files import replace_file
from cnn_lstm.model import checkpoints
from tests.experiments import experiment, fit
from tests.experiments import run as command
from tests.markets import market


def test_metrics_and_journal_are_on_the_disk_at_the_end_of_each_epoch_and_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        file = Path(f"/proc/self/fd/{handle}").readlink()
        flushed.append((file.name, file.stat().st_size))
        fsync(handle)

    config = experiment(tmp_path, market(110))
    monkeypatch.setattr(os, "fsync", noted)
    run = fit(config, tmp_path / "run", "--trainer.max_epochs", 3, "--mlflow", "true")
    names = [name for name, _ in flushed]
    ends = [at for at, name in enumerate(names) if name.startswith(".last.ckpt.")]
    assert len(ends) == 3
    for begin, end in zip([0, *ends], ends, strict=False):
        assert {"metrics.csv", "journal.jsonl"} <= set(names[begin:end])
        # a power cut takes away a new file whose folder was not flushed, and a folder that its own folder does not hold
        assert {"run", "tracking"} <= set(names[begin:end])
    assert tmp_path.name in names[: ends[0]]
    for file in (run / "metrics.csv", run / "tracking" / "journal.jsonl"):
        assert (file.name, file.stat().st_size) in flushed[ends[-1] :]


CLOCK = ["epoch_s", "windows_per_s", "peak_memory_mib"]


def copied_after(alias: str, number: int, run: Path, copy: Path) -> Any:
    """A `replace_file` that copies a run as a kill leaves it right after the n-th write of a checkpoint."""
    whole, count = replace_file, iter(range(1, 99))

    def write(path: Path, content: Callable[[Path], object]) -> None:
        whole(path, content)
        if path.name == f"{alias}.ckpt" and next(count) == number:
            shutil.copytree(run, copy)

    return write


@pytest.mark.parametrize("torn", ["", "0,1", "\n"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_kill_right_after_the_checkpoint_loses_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, torn: str
) -> None:
    config, run, copy = experiment(tmp_path, market(110)), tmp_path / "run", tmp_path / "copy"
    argv = ["--trainer.max_epochs", 3, "--tensorboard", "true"]
    monkeypatch.setattr(checkpoints, "replace_file", copied_after("last", epoch, run, copy))
    fit(config, run, *argv)
    monkeypatch.undo()
    whole = pd.read_csv(run / "metrics.csv", dtype=str).drop(columns=CLOCK)
    file = copy / "metrics.csv"
    before = pd.read_csv(file)
    assert before.get("train_loss", pd.Series()).count() == epoch - 1  # that of the epoch is not there
    file.write_text(file.read_text() + torn)
    resume = ["fit", "--config", copy / "config.yaml", "--ckpt_path", "last", *argv[:2]]
    for _ in range(2):  # a second one finds nothing to add
        assert command(*resume) == 0
        table = pd.read_csv(file, dtype=str)
        pd.testing.assert_frame_equal(table.drop(columns=CLOCK), whole)
        assert table["epoch_s"].count() == 3


def test_forecasts_as_csv_are_whole_or_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path, market(110))
    run = fit(config, tmp_path / "run", "--trainer.max_epochs", 1)
    argv = ["predict", "--config", run / "config.yaml", "--ckpt_path", "best", "--csv", "true"]
    assert command(*argv) == 0
    before = (run / "forecasts.csv").read_bytes()
    written = pd.DataFrame.to_csv

    def half(table: pd.DataFrame, path: Path, **options: Any) -> None:
        written(table.head(len(table) // 2), path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    assert command(*argv) == 130
    assert (run / "forecasts.csv").read_bytes() == before
    assert not list(run.glob(".*.partial"))
