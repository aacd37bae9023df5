"""What a person sees while a fit runs, at a terminal and in a log file."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from cnn_lstm.training.console import ConsoleLogger, totals_line
from tests import experiments
from tests.markets import market

LINE = {"epoch": 1, "train_loss": 0.5, "val_loss": 0.6}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiments.experiment(tmp_path_factory.mktemp("config"), market(200, gaps=False))


def test_one_line_per_epoch_and_no_bar_in_a_log_file(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--trainer.enable_progress_bar", "true", "--grad_norm.every_n_steps", 1]
    experiments.fit(config, tmp_path / "run", "--trainer.max_epochs", 3, *argv)
    output = capsys.readouterr()
    lines = [line for line in output.out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    assert all(name in lines[0] for name in ("0/2", "train_loss", "val_loss", "lr", "grad_norm", "windows/s", "best"))
    assert "it/s" not in output.out + output.err


def test_a_terminal_gets_a_bar_with_the_metrics(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnn_lstm.runs.forecast_cli._is_terminal", lambda: True)
    argv = ["--trainer.enable_progress_bar", "true", "--grad_norm.every_n_steps", 1]
    experiments.fit(config, tmp_path / "run", "--trainer.max_epochs", 2, *argv)
    output = capsys.readouterr().out
    assert all(f"{name}=" in output for name in ("loss", "val_loss", "lr", "grad_norm", "windows/s"))


def test_the_end_says_the_best_epoch_and_where_everything_lies(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = experiments.fit(config, tmp_path / "run", "--tensorboard", "true")
    output = capsys.readouterr().out
    assert "best val_loss" in output
    assert all(str(path) in output for path in (run, run / "checkpoints", f"tensorboard --logdir {run}/tensorboard"))


def test_quiet_leaves_the_results_only(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiments.fit(config, tmp_path / "run", "--quiet", "true")
    output = capsys.readouterr()
    assert output.out.startswith("best val_loss")
    assert "GPU available" not in output.err


def test_the_end_says_what_the_run_took_also_when_quiet(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = experiments.fit(config, tmp_path / "run", "--quiet", "true", "--trainer.max_epochs", 3)
    summary, table = json.loads((run / "summary.json").read_text()), pd.read_csv(run / "metrics.csv")
    assert summary["epochs"] == 3
    assert summary["seconds"] == pytest.approx(table["epoch_s"].sum(), rel=1e-4)
    assert summary["windows_per_s"] == pytest.approx(table["windows_per_s"].median(), rel=1e-4)
    assert summary["peak_memory_mib"] == pytest.approx(table["peak_memory_mib"].max(), rel=1e-4)
    best = table.iloc[table["val_loss"].argmin()]
    assert (summary["monitor"], summary["best_epoch"]) == ("val_loss", best["epoch"])
    assert summary["best"] == pytest.approx(best["val_loss"])
    started, ended = (datetime.fromisoformat(summary[name]) for name in ("started", "ended"))
    assert started.tzinfo is not None
    assert started <= ended
    assert capsys.readouterr().out.splitlines()[1] == totals_line(summary)


def test_the_summary_of_a_resumed_run_is_that_of_the_whole(config: Path, tmp_path: Path) -> None:
    run = experiments.fit(config, tmp_path / "run", "--trainer.max_epochs", 1)
    before = json.loads((run / "summary.json").read_text())
    argv = ["--ckpt_path", "last", "--trainer.max_epochs", 3, "--trainer.logger", "false"]
    assert experiments.run("fit", "--config", run / "config.yaml", *argv) == 0
    after = json.loads((run / "summary.json").read_text())
    assert (after["epochs"], after["started"]) == (3, before["started"])
    assert after["seconds"] > before["seconds"]


def test_time_and_memory_stand_in_every_logger(config: Path, tmp_path: Path) -> None:
    run = experiments.fit(config, tmp_path / "run")
    metrics = pd.read_csv(run / "metrics.csv")[["epoch_s", "windows_per_s", "peak_memory_mib"]].dropna()
    assert len(metrics) == 2
    assert (metrics > 0).all(axis=None)


@pytest.mark.parametrize(("mode", "losses", "stars"), [("min", [3, 2, 2.5], [1, 1, 0]), ("max", [3, 2, 4], [1, 0, 1])])
def test_the_best_epochs_so_far_are_marked(
    mode: str, losses: list[float], stars: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    console = ConsoleLogger(max_epochs=3, mode=mode)
    for loss in losses:
        console.log_metrics(LINE | {"val_loss": loss})
    assert [int(line.endswith("best")) for line in capsys.readouterr().out.splitlines()] == stars


def test_any_learning_rate_is_shown_as_lr() -> None:
    console = ConsoleLogger(max_epochs=None)
    console.log_metrics({"lr-AdamW": 0.5})
    assert console.newest["lr"] == 0.5
