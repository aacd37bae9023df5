"""Locks and errors of a study's database."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.sweeps import storage
from cnn_lstm.sweeps.storage import exclusive, parsed_url, storage_errors


@pytest.mark.parametrize("url", ["nowhere", "sqlite://", "sqlite:///:memory:", "oracle://host/x"])
def test_storages_that_workers_cannot_share_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="E249"):
        parsed_url(url)


def test_a_missing_driver_is_reported_without_the_password() -> None:
    with (
        pytest.raises(ConfigError, match="driver is missing") as caught,
        storage_errors("mysql+nodriver://me:secret@host/x"),
    ):
        raise ImportError("No module named 'nodriver'")
    assert "secret" not in str(caught.value)


def test_only_one_thread_at_a_time_holds_the_lock_of_a_storage(tmp_path: Path) -> None:
    storage, inside, most = f"sqlite:///{tmp_path / 'study.db'}", [], []

    def work() -> None:
        for _ in range(20):
            with exclusive(storage):
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


def test_a_process_that_keeps_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a worker that was stopped; the others used to wait for ever."""
    monkeypatch.setattr(storage, "PATIENCE", 0.1)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with (
        exclusive(url),
        pytest.raises(ResourceError, match=rf"E609.*cnn-lstm sweep, pid {os.getpid()}"),
        exclusive(url),
    ):
        pass
    with exclusive(url):
        pass
    assert list(tmp_path.iterdir()) == []
