"""Parts of the engine on their own: locks, pruning without raising, worker processes that die."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch

from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.runs.processes import WorkerPool
from cnn_lstm.sweeps.callbacks import PRUNED_AT, StopPruned
from cnn_lstm.sweeps.locks import alone, parsed_url, storage_errors
from cnn_lstm.sweeps.study import Plan, join, sampler_of

DESCRIBED = {"space": {"model.optimizer.lr": {"float": [1e-4, 1e-1], "log": True}}}


def plan(folder: Path, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "folder": folder,
        "words": ["--config", "x.yaml"],
        "described": DESCRIBED,
        "fingerprint": "abc",
        "n_trials": 3,
        "storage": f"sqlite:///{folder / 'study.db'}",
        "study_name": "tested",
        "seed": 7,
        "keep": 1,
        "first": {},
    }
    return Plan(**values | changes)


# -- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["nowhere", "sqlite://", "sqlite:///:memory:", "oracle://host/x"])
def test_storages_that_workers_cannot_share_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="E249"):
        parsed_url(url)


def test_a_missing_driver_is_told_without_the_password() -> None:
    with (
        pytest.raises(ConfigError, match="driver is missing") as caught,
        storage_errors("mysql+nodriver://me:secret@host/x"),
    ):
        raise ImportError("No module named 'nodriver'")
    assert "secret" not in str(caught.value)


def test_a_locked_database_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database at all, but long enough to be read as one" * 10)
    with pytest.raises(ResourceError, match="E609"):
        join(plan(tmp_path))


def test_one_at_a_time(tmp_path: Path) -> None:
    storage, inside, most = f"sqlite:///{tmp_path / 'study.db'}", [], []

    def work() -> None:
        for _ in range(20):
            with alone(storage):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 80


# -- the study -------------------------------------------------------------------------------------------------------


def test_a_plan_comes_through_the_pipe_as_it_was(tmp_path: Path) -> None:
    assert Plan.from_text(plan(tmp_path).to_text()) == plan(tmp_path)
    assert "\n" not in plan(tmp_path).to_text()


def test_a_study_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    join(plan(tmp_path))
    assert join(plan(tmp_path)).study_name == "tested"
    with pytest.raises(ConfigError, match="E248"):
        join(plan(tmp_path, fingerprint="def"))


def test_the_first_trial_is_the_given_configuration_whoever_joins(tmp_path: Path) -> None:
    first = {"model.optimizer.lr": 0.003}
    for _ in range(2):
        study = join(plan(tmp_path, first=first))
    (waiting,) = study.trials
    assert waiting.state.name == "WAITING"
    assert waiting.system_attrs["fixed_params"] == first


def test_draws_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    def drawn(number: int, seed: int = 7) -> float:
        study = optuna.create_study(sampler=sampler_of(plan(tmp_path, seed=seed), number))
        return study.ask().suggest_float("x", 0, 1)

    assert drawn(0) == drawn(0)
    assert len({drawn(0), drawn(1), drawn(2), drawn(0, seed=8)}) == 4


# -- pruning ---------------------------------------------------------------------------------------------------------


def trainer(epoch: int, **figures: float) -> Any:
    metrics = {name: torch.tensor(value) for name, value in figures.items()}
    return SimpleNamespace(
        sanity_checking=False,
        callback_metrics=metrics,
        current_epoch=epoch,
        should_stop=False,
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )


class AfterOne(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step == 1


def test_a_pruned_fit_is_stopped_not_broken_off() -> None:
    study = optuna.create_study(pruner=AfterOne())
    trial = study.ask()
    callback = StopPruned(trial, "val_loss")
    first, second = trainer(0, val_loss=2.0), trainer(1, val_loss=1.5)
    for stage in (first, second):
        callback.on_validation_end(stage, None)
    assert (first.should_stop, second.should_stop) == (False, True)
    assert study.trials[0].intermediate_values == {0: 2.0, 1: 1.5}
    assert study.trials[0].user_attrs[PRUNED_AT] == 1


def test_other_processes_follow_the_first() -> None:
    callback, stage = StopPruned(None, "val_loss"), trainer(0, val_loss=2.0)
    stage.strategy.broadcast = lambda value: True
    callback.on_validation_end(stage, None)
    assert stage.should_stop


def test_the_sanity_check_is_no_epoch() -> None:
    stage = trainer(0)
    stage.sanity_checking = True
    StopPruned(None, "val_loss").on_validation_end(stage, None)
    assert not stage.should_stop


def test_a_figure_that_is_not_logged_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"val_los is never logged.*did you mean val_loss"):
        StopPruned(None, "val_los").on_validation_end(trainer(0, val_loss=1.0), None)


# -- workers ---------------------------------------------------------------------------------------------------------


def crew(code: str, jobs: int = 1) -> WorkerPool:
    return WorkerPool([sys.executable, "-c", code], "the plan", jobs)


def test_workers_read_the_plan_and_see_the_pipe_close(tmp_path: Path) -> None:
    code = f"import sys; line = sys.stdin.readline(); sys.stdin.read(); open({str(tmp_path / 'x')!r}, 'w').write(line)"
    assert crew(code).work(time.monotonic() + 2) == 0
    assert (tmp_path / "x").read_text() == "the plan\n"


def test_a_worker_that_is_killed_is_replaced_but_not_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"import os; open({str(tmp_path / 'x')!r}, 'a').write('.'); os.kill(os.getpid(), 9)"
    assert crew(code).work(time.monotonic() + 60) == 137
    assert (tmp_path / "x").read_text() == "......"
    assert capsys.readouterr().err.count("another takes its place") == 5


def test_an_error_that_was_told_ends_the_sweep() -> None:
    assert crew("raise SystemExit(6)", jobs=2).work(time.monotonic() + 60) == 6
