"""Connections to SQLite files are closed: Python 3.13 reports those that are not, and they are leaks everywhere."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from cnn_lstm.sweeps.study import open_storage
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import LITE, Delivery
from cnn_lstm.training.tracking.events import End, Metrics, Start
from cnn_lstm.training.tracking.journal import Journal


class Watched(sqlite3.Connection):
    """A connection that says whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture
def unclosed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, int]]:
    """Counts the connections that were opened, and those that were not closed, collected or not."""
    opened: list[bool] = []
    watched: list[weakref.ref[Watched]] = []
    connect, lost = sqlite3.dbapi2.connect, []

    def watching(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, factory=Watched, **kwargs)
        assert isinstance(connection, Watched)
        opened.append(True)
        watched.append(weakref.ref(connection))
        weakref.finalize(connection, lambda state: lost.append(state), connection.__dict__)
        return connection

    monkeypatch.setattr(sqlite3.dbapi2, "connect", watching)

    def count() -> tuple[int, int]:
        gc.collect()
        alive = sum(1 for ref in watched if (one := ref()) is not None and not one.closed)
        return len(opened), alive + sum(1 for state in lost if not state.get("closed"))

    return count


def test_a_study_leaves_no_connection_open(tmp_path: Path, unclosed: Callable[[], tuple[int, int]]) -> None:
    def run() -> None:
        storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
        study = optuna.create_study(study_name="s", storage=storage)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        assert len(study.trials) == 2

    run()
    opened, left = unclosed()
    assert opened > 0
    assert left == 0


def test_a_delivery_to_mlflow_leaves_no_connection_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unclosed: Callable[[], tuple[int, int]]
) -> None:
    for name in LITE:
        monkeypatch.delenv(name)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    journal = Journal(run.tracking)
    for event in (Start(uid="u", name="run", experiment="e", tags={}), Metrics(0, {"loss": 1.0}), End("FINISHED")):
        journal.append(event)
    Delivery(run.path, journal, f"sqlite:///{tmp_path / 'mlflow.db'}").deliver()
    for name, value in LITE.items():
        monkeypatch.setenv(name, value)  # what `deliver` has set is taken back at the end
    opened, left = unclosed()
    assert opened > 0
    assert left == 0
