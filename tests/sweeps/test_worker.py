"""A worker alone, with fits that end at once: what becomes of trials that end in different ways."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from cnn_lstm.data import recipe as recipe_module
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.errors import ConfigError, DivergedError
from cnn_lstm.sweeps import worker as worker_module
from cnn_lstm.sweeps.callbacks import PRUNED_AT
from cnn_lstm.sweeps.study import join
from cnn_lstm.sweeps.trial import TrialResult
from cnn_lstm.sweeps.worker import Stop, Worker, retry
from tests.experiments import experiment
from tests.markets import market
from tests.sweeps.test_study import plan

Fit = Callable[[optuna.Trial], None]


def work(folder: Path, what_happens: Fit, trials: int = 3) -> optuna.Study:
    """Lets a worker finish so many trials."""

    def fit(trial: optuna.Trial, options: Sequence[str]) -> TrialResult:
        assert options[0].startswith("--model.optimizer.lr=")
        what_happens(trial)
        return TrialResult({"val_loss": 1.0 / (1 + trial.number)}, epochs=4, best_epoch=3)

    stop: Any = SimpleNamespace(asked=threading.Event(), interrupts=nullcontext)
    settled: list[int] = []
    worker = Worker(plan(folder, n_trials=trials), fit, lambda trial: settled.append(trial.number), stop)
    before = sum(trial.state.is_finished() for trial in worker.study.trials)
    worker.work()
    assert settled == [trial.number for trial in worker.study.trials][before:]
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


def test_failures_of_different_kinds_do_not_end_the_sweep(tmp_path: Path) -> None:
    kinds = [ValueError("one"), MemoryError(), ValueError("two")]

    def fit(trial: optuna.Trial) -> None:
        if trial.number < 3:
            raise kinds[trial.number]

    assert [trial.state.name for trial in work(tmp_path, fit).trials].count("FAIL") == 3


def test_a_trial_that_an_interruption_breaks_is_run_again_however_often(tmp_path: Path) -> None:
    broken = RuntimeError("a file cut off in the middle")
    broken.__context__ = KeyboardInterrupt()

    def fit(trial: optuna.Trial) -> None:
        if trial.number < 5:
            raise broken

    for _k in range(5):
        with pytest.raises(KeyboardInterrupt):  # the worker ends, and its parent starts another one
            work(tmp_path, fit)
    study = work(tmp_path, fit)
    assert [trial.state.name for trial in study.trials] == [*["FAIL"] * 5, *["COMPLETE"] * 3]
    assert all(trial.params == study.trials[0].params for trial in study.trials[:6])
    assert not any("reason" in trial.user_attrs for trial in study.trials)


def test_a_trial_that_another_worker_counted_as_dead_is_not_run_a_third_time() -> None:
    study = optuna.create_study()
    trial = study.ask()
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    retry(study, trial)
    assert [each.state.name for each in study.trials] == ["FAIL"]


def test_the_order_to_end_interrupts_a_fit_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one waits for the end of a batch, which may take longer than a worker has."""
    monkeypatch.setattr("cnn_lstm.sweeps.worker.END_WITHIN", 0.2)
    monkeypatch.setattr("cnn_lstm.sweeps.worker.os._exit", lambda code: None)
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)
    before = signal.getsignal(signal.SIGINT)
    ours, parents = os.pipe()
    came: list[float] = []
    with os.fdopen(ours) as pipe:
        stop = Stop(pipe)
        with stop.interrupts():
            signal.signal(signal.SIGINT, lambda *_: came.append(time.monotonic()))
            os.close(parents)
            deadline = time.monotonic() + 10
            while len(came) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(0.2)
    signal.signal(signal.SIGINT, before)
    assert len(came) == 2
    assert came[1] - came[0] > 0.05


def test_a_line_is_printed_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the lines of two workers do not mix."""
    written: list[str] = []
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=written.append, flush=lambda: None))
    work(tmp_path, lambda trial: None, trials=2)
    assert [text[:8] for text in written] == ["trial 0:", "trial 1:"]
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in written)


@pytest.mark.parametrize("trials", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_worker_sets_its_data_up_once(trials: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path, market(200, ["AAA", "BBB"]))
    argv = ["--config", str(config), "--trainer.max_epochs", "1"]
    stop: Any = SimpleNamespace(asked=threading.Event(), interrupts=nullcontext)
    monkeypatch.setattr(worker_module, "Stop", lambda _: stop)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process has other tests to run
    monkeypatch.chdir(tmp_path)
    counts = {"load": 0, "build_panel": 0, "check_prices": 0}

    def counted(module: Any, name: str) -> None:
        function = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    counted(PriceFiles, "load")
    counted(recipe_module, "build_panel")
    counted(recipe_module, "check_prices")
    of_sweep = plan(tmp_path, n_trials=trials, argv=argv)
    worker_module.work(io.StringIO(f"{of_sweep.to_text()}\n"))
    assert all(trial.state == TrialState.COMPLETE for trial in join(of_sweep).trials)
    assert len(join(of_sweep).trials) == trials
    assert counts == {"load": 1, "build_panel": 1, "check_prices": 1}
