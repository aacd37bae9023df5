"""What an epoch logs is on the disk with its checkpoint, and what a kill takes comes back with a resume."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

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
    for file in (run / "metrics.csv", run / "tracking" / "journal.jsonl"):
        assert (file.name, file.stat().st_size) in flushed[ends[-1] :]


def test_forecasts_as_csv_are_whole_or_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path, market(110))
    run = fit(config, tmp_path / "run", "--trainer.max_epochs", 1)
    argv = ["predict", "--config", run / "config.yaml", "--ckpt_path", "best", "--csv", "true"]
    assert command(*argv) == 0
    before = (run / "forecasts.csv").read_bytes()
    written = pd.DataFrame.to_csv

    def half(table: pd.DataFrame, path: Path, **options: bool) -> None:
        written(table.head(len(table) // 2), path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    assert command(*argv) == 130
    assert (run / "forecasts.csv").read_bytes() == before
    assert not list(run.glob(".*.partial"))
