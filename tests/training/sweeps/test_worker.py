"""A worker on its own, with fits that are over at once: what becomes of trials that end in different ways."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch

from cnn_lstm.errors import ConfigError, DivergedError
from cnn_lstm.training.sweeps.pruning import PRUNED_AT
from cnn_lstm.training.sweeps.worker import Worker
from tests.training.sweeps.test_engine import plan

Fit = Callable[[optuna.Trial], None]


def work(folder: Path, what_happens: Fit, trials: int = 3) -> optuna.Study:
    """Lets a worker finish so many trials."""

    def fit(trial: optuna.Trial, words: Sequence[str]) -> dict[str, Any]:
        assert words[0].startswith("--model.optimizer.lr=")
        what_happens(trial)
        return {"val_loss": 1.0 / (1 + trial.number), "epochs": 4, "best_epoch": 3}

    stop: Any = SimpleNamespace(asked=threading.Event(), interrupts=nullcontext)
    settled: list[int] = []
    worker = Worker(plan(folder, n_trials=trials), fit, lambda trial: settled.append(trial.number), stop)
    worker.work()
    assert settled == [trial.number for trial in worker.study.trials]
    return worker.study


def first(error: Exception) -> Fit:
    """The first trial ends with an error."""

    def fit(trial: optuna.Trial) -> None:
        if trial.number == 0:
            raise error

    return fit


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 2 GiB"), "OutOfMemoryError: CUDA out of"),
        (MemoryError(), "MemoryError"),
        (DivergedError("the loss is nan", "epoch 3", code=501), "error[E501]: the loss is nan"),
        (ValueError("a kernel larger than its input"), "ValueError: a kernel"),
    ],
    ids=["gpu memory", "memory", "diverged", "impossible"],
)
def test_a_trial_that_breaks_fails_and_the_study_goes_on(error: Exception, reason: str, tmp_path: Path) -> None:
    study = work(tmp_path, first(error))
    assert [trial.state.name for trial in study.trials] == ["FAIL", *["COMPLETE"] * 3]
    assert study.trials[0].user_attrs["reason"].startswith(reason)
    assert "\n" not in study.trials[0].user_attrs["reason"]
    log = (tmp_path / "trial_0000.log").read_text()
    assert ("Traceback" in log) == (not isinstance(error, DivergedError))


def test_a_pruned_trial_counts_as_finished(tmp_path: Path) -> None:
    def fit(trial: optuna.Trial) -> None:
        if trial.number == 1:
            trial.set_user_attr(PRUNED_AT, 2)

    study = work(tmp_path, fit)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert study.trials[1].user_attrs["epochs"] == 4


def test_failures_of_one_kind_at_the_beginning_end_the_sweep(tmp_path: Path) -> None:
    def fit(trial: optuna.Trial) -> None:
        raise DivergedError(f"the loss of trial {trial.number} is nan", code=501)

    with pytest.raises(ConfigError, match=r"E244.*first 3 trials fail alike.*trial 2 is nan"):
        work(tmp_path, fit, trials=30)


def test_failures_of_different_kinds_do_not(tmp_path: Path) -> None:
    kinds = [ValueError("one"), MemoryError(), ValueError("two")]

    def fit(trial: optuna.Trial) -> None:
        if trial.number < 3:
            raise kinds[trial.number]

    assert [trial.state.name for trial in work(tmp_path, fit).trials].count("FAIL") == 3


def test_a_trial_that_an_interruption_breaks_is_run_again(tmp_path: Path) -> None:
    broken = RuntimeError("a file cut off in the middle")
    broken.__context__ = KeyboardInterrupt()
    study = work(tmp_path, first(broken))
    assert [trial.state.name for trial in study.trials] == ["FAIL", *["COMPLETE"] * 3]
    assert study.trials[1].params == study.trials[0].params
    assert "reason" not in study.trials[0].user_attrs


def test_a_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the lines of two workers do not mix."""
    written: list[str] = []
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=written.append, flush=lambda: None))
    work(tmp_path, lambda trial: None, trials=2)
    assert [text[:8] for text in written] == ["trial 0:", "trial 1:"]
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in written)
