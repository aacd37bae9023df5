"""MLflow's SQLite file is there with all of its tables, or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cnn_lstm.locks import lock_file
from cnn_lstm.training.tracking import store
from cnn_lstm.training.tracking.store import make_database

KILLED = """
import os, signal, sys
import mlflow.store.db.utils as utils
from cnn_lstm.training.tracking.store import make_database

utils._upgrade_db = lambda engine: os.kill(os.getpid(), signal.SIGKILL)  # MLflow's first half is done
make_database(sys.argv[1])
"""


def test_a_kill_while_the_tables_are_made_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    uri = f"sqlite:///{file}"
    done = subprocess.run([sys.executable, "-c", KILLED, uri], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert not file.exists()
    (partial,) = tmp_path.glob(".mlflow.db.*.partial")
    assert partial.stat().st_size > 0
    make_database(uri)
    assert MlflowClient(uri).search_experiments()[0].name == "Default"
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "replace_file", lambda *_: pytest.fail("it was replaced"))
    (tmp_path / "mlflow.db").write_bytes(b"anything")
    for uri in (f"sqlite:///{tmp_path / 'mlflow.db'}", "http://127.0.0.1:9", "sqlite://", "sqlite:///:memory:"):
        make_database(uri)


def test_another_process_that_makes_it_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    with (
        lock_file(tmp_path / "mlflow.db.lock", "tracking", 1),
        pytest.raises(TimeoutError, match="locked for 0 s by cnn-lstm tracking"),
    ):
        make_database(f"sqlite:///{tmp_path / 'mlflow.db'}")
