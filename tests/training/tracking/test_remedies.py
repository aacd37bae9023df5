"""What MLflow refuses, in one line that says what helps: with a database that really is so."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cnn_lstm.errors import TrackingError
from cnn_lstm.training.tracking.delivery import Delivery, Sender
from cnn_lstm.training.tracking.events import Start
from cnn_lstm.training.tracking.journal import Journal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with an experiment that was deleted."""
    file = tmp_path_factory.mktemp("made") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{file}")
    client.delete_experiment(client.create_experiment("cnn_lstm"))
    return file.read_bytes()


def refused(folder: Path, uri: str) -> TrackingError:
    run = folder / "run"
    run.mkdir(exist_ok=True)
    Journal(run / "tracking").append(Start("abc", "run", "cnn_lstm", {}))
    with pytest.raises(TrackingError) as caught:
        Delivery.of_run(run, uri).deliver()
    assert caught.value.code == 701
    assert len(str(caught.value)) - len(uri) - len(str(run)) <= 300  # paths may be long
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_deleted_experiment_is_named_with_its_cure(tmp_path: Path, made: bytes) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(made)
    error = refused(tmp_path, f"sqlite:///{file}")
    assert "the experiment 'cnn_lstm' is deleted" in error.what
    assert "mlflow experiments restore --experiment-id 1" in error.fix
    assert "--experiment" in error.fix
    MlflowClient(f"sqlite:///{file}").restore_experiment("1")
    Delivery.of_run(tmp_path / "run", f"sqlite:///{file}").deliver()


@pytest.mark.parametrize(
    "damage",
    [pytest.param("version", marks=pytest.mark.slow), "tables", "cut", pytest.param("other", marks=pytest.mark.slow)],
)
def test_a_half_made_database_is_named_with_its_cure(tmp_path: Path, made: bytes, damage: str) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes({"cut": made[:20_000], "other": b"no database at all " * 100}.get(damage, made))
    if damage in ("version", "tables"):
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("drop table alembic_version" if damage == "version" else "drop table runs")
        database.close()
    error = refused(tmp_path, f"sqlite:///{file}")
    assert "half made" in error.what
    assert "move the file away" in error.fix
    other = tmp_path / "new.db"  # MLflow keeps the connection to a file that was moved away
    Delivery.of_run(tmp_path / "run", f"sqlite:///{other}").deliver()


def test_a_folder_of_earlier_versions_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    error = refused(tmp_path, f"file:{tmp_path / 'mlruns'}")
    assert error.what == "MLflow does not take the run: it does not write to folders any more"
    assert error.fix.startswith("give --tracking_uri sqlite:///FILE.db, or set MLFLOW_ALLOW_FILE_STORE=true; then: ")
    sender = Sender(Delivery.of_run(tmp_path / "run", f"file:{tmp_path / 'mlruns'}"))
    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        assert not sender._delivered()
    assert caplog.messages[-1].endswith("MLFLOW_ALLOW_FILE_STORE=true; the journal keeps it, the training goes on")
