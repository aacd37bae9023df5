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
from cnn_lstm.training.tracking.events import Artifact, Start
from cnn_lstm.training.tracking.journal import Event
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


def test_copies_of_files_are_flushed_with_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow copies without a flush: a file that counts as sent would be empty after a power cut."""
    run = tmp_path / "runs" / "one"
    (run / "deep").mkdir(parents=True)
    (run / "deep" / "x.json").write_text("{}")
    kept = store.MlflowStore(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}", run)
    kept.apply([Event(1, Start("u", "one", "tests", {}), 1)])
    flushed: list[str] = []
    for name in ("flush_file", "flush_folder"):
        monkeypatch.setattr(store, name, lambda path: flushed.append(str(path.relative_to(tmp_path))))
    kept.apply([Event(2, Artifact("deep/x.json"), 2)])
    home = f"runs/mlartifacts/{kept.run_id}"
    assert flushed[:5] == [f"{home}/artifacts/x.json", f"{home}/artifacts", home, "runs/mlartifacts", "runs"]
    assert (tmp_path / flushed[0]).read_text() == "{}"
