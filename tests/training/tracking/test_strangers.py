"""A run folder may come from a stranger: its journal names no server and no file that the user did not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.training.tracking.delivery import Delivery, sync
from cnn_lstm.training.tracking.event_checks import CHECKS, event_of
from cnn_lstm.training.tracking.events import Artifact, Content, End, LoggedModel, Start
from cnn_lstm.training.tracking.journal import Journal, KnownValues
from cnn_lstm.training.tracking.parent import parent_of
from cnn_lstm.training.tracking.run_files import lies_inside

SERVER = "http://127.0.0.1:9"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "runs/one").mkdir(parents=True)
    return tmp_path / "runs/one"


def written(run: Path, *contents: Content, uri: str | None = None) -> Journal:
    journal = Journal(run / "tracking")
    for content in (Start("abc", "one", "trial", {}, uri=uri), *contents, End("FINISHED")):
        journal.append(content)
    return journal


@pytest.mark.parametrize("uri", [SERVER, "sqlite:////tmp/other/mlflow.db", "file:///tmp/mlruns", "s3://bucket"])
def test_the_address_of_a_journal_alone_is_not_called(uri: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    written(run, uri=uri)
    monkeypatch.setattr(Delivery, "deliver", lambda self: pytest.fail("called"))
    with pytest.raises(ConfigError, match="E296") as refused:
        sync(run, None)
    assert uri in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://another")
    with pytest.raises(ConfigError, match="E296"):
        sync(run, None)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_an_address_that_the_user_names_too_is_called(how: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    written(run, uri=SERVER)
    called: list[str] = []
    monkeypatch.setattr(Delivery, "deliver", lambda self: called.append(self.uri))
    if how == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pass@127.0.0.1:9")
    sync(run, SERVER if how == "option" else None)
    assert called == [SERVER if how == "option" else "http://me:pass@127.0.0.1:9"]


def test_the_advice_of_a_failure_works(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    written(run, uri=SERVER)
    with pytest.raises(TrackingError, match=f"sync-tracking {run} --tracking_uri {SERVER}"):
        Delivery.of_run(run, SERVER).deliver()
    assert Delivery.of_run(run, None).again == f"cnn-lstm sync-tracking {run}"


@pytest.mark.parametrize("name", ["/etc/passwd", "../two/config.yaml", "link.txt", "a/../../../x", ".", "", "loop"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_outside_of_the_run_is_not_sent(
    kind: str, name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    secret = tmp_path / "secret.txt"
    secret.write_text("a key")
    (run / "link.txt").symlink_to(secret)
    (run / "loop").symlink_to(run / "loop")
    written(run, Artifact(name) if kind == "file" else LoggedModel(name, "abc", 1, None))
    monkeypatch.setattr(Delivery, "deliver", lambda self: pytest.fail("sent"))
    with pytest.raises(ConfigError, match="E297"):
        sync(run, None)


def test_a_link_inside_of_a_folder_counts_too(run: Path, tmp_path: Path) -> None:
    (run / "model/data").mkdir(parents=True)
    (run / "model/weights").write_text("1")
    assert lies_inside(run, "model")
    (run / "model/data/key").symlink_to(tmp_path)
    assert not lies_inside(run, "model")
    assert not lies_inside(run, "a\0b")
    assert lies_inside(run, "config.yaml")


WHOLE: list[dict[str, Any]] = [
    {"kind": "start", "uid": "a", "name": "b", "experiment": "c", "tags": {"d": "e"}, "parent": None, "uri": None},
    {"kind": "resume"},
    {"kind": "end", "status": "FINISHED"},
    {"kind": "params", "values": {"a": "b"}},
    {"kind": "tags", "values": {"a": "b"}},
    {"kind": "metrics", "step": 1, "values": {"loss": 0.5}},
    {
        "kind": "dataset",
        "name": "a",
        "source_type": "b",
        "source": {},
        "schema": [{"name": "a", "type": "double"}],
        "profile": {"rows": 1, "symbols": ["A"], "windows": {"train": 1}}
        | dict.fromkeys(("first", "last", "train_from", "validation_from", "test_from", "sha256"), "a"),
    },
    {"kind": "artifact", "file": "config.yaml"},
    {"kind": "model", "folder": "model", "digest": "a", "step": 1, "register": None},
]
OTHERS: list[Any] = [None, 3, -1.5, "x", True, [], ["a"], {}, {"a": []}, {"a": {"b": None}}, 10**400, "a\0b"]


def test_each_kind_of_event_is_read() -> None:
    assert {event["kind"] for event in WHOLE} == set(CHECKS)
    assert [event_of(event | {"at": 5})[1].kind for event in WHOLE] == [event["kind"] for event in WHOLE]


def test_a_crafted_journal_is_read_as_far_as_it_is_one(run: Path) -> None:
    """Each field of each kind with another value, missing, or with a field more: what is read has the right types."""
    lines: list[Any] = [b"[" * 100_000, b"{}", b"5", b"null", b'"a"', b"\xff\xfe", b'{"kind": [], "at": 5}']
    for event in WHOLE:
        whole = event | {"at": 5}
        for name in whole:
            lines += [whole | {name: value} for value in OTHERS]
            lines += [{key: value for key, value in whole.items() if key != name}, whole | {"more": 1}]
    text = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    (run / "tracking").mkdir()
    (run / "tracking/journal.jsonl").write_bytes(text + b"\n")
    journal = Journal(run / "tracking")
    assert len(lines) > 400
    assert 0 < len(list(journal.events())) < len(lines) / 2
    KnownValues(fit=True).recall(journal)
    assert isinstance(journal.start(), Start)
    assert isinstance(journal.has_ended(), bool)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "5", '{"a": 5}', '{"a": {"offset": -1}}', '{"a": {"run_id": 5}}']
)
def test_a_crafted_place_or_parent_counts_as_none(text: str, run: Path) -> None:
    journal = written(run)
    (run / "tracking/sent.json").write_text(text.replace('"a"', json.dumps(Delivery.of_run(run, None)._key)))
    delivery = Delivery.of_run(run, None)
    assert (delivery.run_id, delivery.waiting) == (None, len(list(journal.events())))
    (run.parent / "parent_run.json").write_text(text)
    assert parent_of(run) is None
