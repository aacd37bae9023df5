"""Locks and errors of a study's database."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.sweeps import storage
from cnn_lstm.sweeps.storage import exclusive, is_inside, parsed_url, storage_errors


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


# -- the lock of a server ----------------------------------------------------------------------------------------------


class Server:
    """A server with one lock, as far as `exclusive` asks it."""

    def __init__(self, holders: Sequence[int | None]) -> None:
        self.holders, self.asked = list(holders), list[str]()

    def connect(self) -> AbstractContextManager[Server]:
        return nullcontext(self)

    def execute(self, query: object, values: dict[str, object]) -> Server:
        self.asked.append(str(query))
        assert all(f":{name}" in str(query) for name in values)
        return self

    def scalar(self) -> int | bool | None:
        query = self.asked[-1]
        if "UNLOCK" in query.upper() or "RELEASE" in query:
            return True
        if "pg_locks" in query or "IS_USED" in query:
            return self.holders[0]
        if len(self.holders) > 1:
            self.holders.pop(0)
            return False
        return self.holders[0] is None


URLS = ("postgresql+psycopg://me:secret@host/x", "mysql+pymysql://me:secret@host/x", "mariadb://me:secret@host/x")


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(storage, "POLL", 0.01)
    return str(request.param)


def serve(monkeypatch: pytest.MonkeyPatch, *holders: int | None) -> Server:
    server = Server(holders)
    monkeypatch.setattr(storage, "create_engine", lambda *_, **__: server)
    return server


def test_a_session_that_keeps_the_lock_of_a_server_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 0.1)
    server = serve(monkeypatch, 42, 42)
    with (
        pytest.raises(ResourceError, match=r"E609.*held for 0 s by session 42 of the server.*--resume") as caught,
        exclusive(url),
    ):
        pytest.fail("it was not waited for")
    assert "secret" not in str(caught.value)
    assert not any("UNLOCK" in query.upper() or "RELEASE" in query for query in server.asked)


def test_sessions_that_take_turns_may_take_longer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    server = serve(monkeypatch, *range(30), None)
    with exclusive(url):
        pass
    assert "UNLOCK" in server.asked[-1].upper() or "RELEASE" in server.asked[-1]


def test_no_query_waits_in_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, None)
    with exclusive(url):
        pass
    assert "try" in server.asked[0] or ":name, 0)" in server.asked[0]


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("postgresql+psycopg://host/x", {"options", "connect_timeout"}),
        ("postgresql://host/x", {"options", "connect_timeout"}),
        ("postgresql+psycopg2://host/x?options=-c%20search_path=a", {"connect_timeout"}),
        ("postgresql+pg8000://host/x", set()),
        ("mysql+pymysql://host/x", set()),
    ],
)
def test_a_connection_is_patient_as_far_as_its_driver_can(url: str, names: set[str]) -> None:
    assert set(storage.connect_args(parsed_url(url))) == names


# -- a storage inside of a folder --------------------------------------------------------------------------------------


def test_only_a_file_below_a_folder_is_inside(tmp_path: Path) -> None:
    folder, outside = tmp_path / "sweep", tmp_path / "other.db"
    folder.mkdir()
    (folder / "link.db").symlink_to(outside)
    inside = {name: is_inside(f"sqlite:///{name}", folder) for name in (f"{folder}/study.db", f"{folder}/a/study.db")}
    assert all(inside.values()), inside
    for address in (
        f"sqlite:///{outside}",
        f"sqlite:///{folder}/../other.db",
        f"sqlite:///{folder}/link.db",
        f"sqlite:///file:{folder}/study.db?uri=true",
        f"postgresql+psycopg://host/{folder}/study.db",
    ):
        assert not is_inside(address, folder), address
