"""What a journal holds arrives once, whatever is repeated, lost on the way, or sent to another database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from mlflow import MlflowClient, entities
from mlflow.data import get_source
from mlflow.entities import Run

from cnn_lstm.bounded import without_checksum
from cnn_lstm.errors import TrackingError
from cnn_lstm.training.tracking import delivery as module
from cnn_lstm.training.tracking import store
from cnn_lstm.training.tracking.delivery import Delivery, of_one_kind
from cnn_lstm.training.tracking.events import Content, Dataset, End, Metrics, Params, Profile, Start, Tags
from cnn_lstm.training.tracking.journal import Event, Journal
from cnn_lstm.training.tracking.store import MlflowStore
from tests.training.tracking.servers import arrived, only_run

POINTS = 1203


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Of a run with more points than one request takes."""
    (tmp_path / "one").mkdir()
    journal = Journal(tmp_path / "one" / "tracking")
    journal.append(Start("abc", "one", "trial", {"a": "b"}))
    journal.append(Params({f"p.{number}": "x" * 7000 for number in range(250)}))
    for step in range(POINTS):
        journal.append(Metrics(step, {"loss": 1 / (step + 1)}))
    journal.append(Metrics(5, {"odd@name": float("nan"), "far": float("inf")}))
    journal.append(End("FINISHED"))
    return journal


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def deliver(journal: Journal, uri: str) -> Run:
    Delivery(journal.folder.parent, journal, uri).deliver()
    return only_run(uri, "one")


def assert_whole(uri: str, run: Run) -> None:
    points = arrived(uri, run)
    assert set(points.values()) == {1}
    assert {step for name, step in points if name == "loss"} == set(range(POINTS))
    assert {"odd_name", "far"} <= {name for name, _ in points}
    assert len(run.data.params) == 250
    assert {len(value) for value in run.data.params.values()} == {6000}
    assert (run.info.status, run.data.tags["a"]) == ("FINISHED", "b")


def test_everything_arrives_at_the_time_it_happened(journal: Journal, tmp_path: Path) -> None:
    uri = database(tmp_path)
    run = deliver(journal, uri)
    assert_whole(uri, run)
    events = list(journal.events())
    assert (run.info.start_time, run.info.end_time) == (events[0].at, events[-1].at)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "loss")
    written = {
        event.content.step: (event.at, event.content.values["loss"])
        for event in events
        if isinstance(event.content, Metrics) and "loss" in event.content.values
    }
    assert {point.step: (point.timestamp, point.value) for point in history} == written


def test_a_journal_that_a_power_cut_has_shortened_is_sent_from_its_beginning(journal: Journal, tmp_path: Path) -> None:
    uri = database(tmp_path)
    deliver(journal, uri)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[: len(whole) // 2])
    Journal(journal.folder).append(Tags({"after": "the cut"}))
    run = deliver(journal, uri)
    assert_whole(uri, run)
    assert run.data.tags["after"] == "the cut"


def test_a_journal_is_on_the_disk_before_it_is_sent(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(Journal, "flush", lambda self: order.append("flush"))
    monkeypatch.setattr(MlflowStore, "apply", lambda self, events: order.append("send"))
    Delivery(journal.folder.parent, journal, database(tmp_path)).deliver()
    assert order[:2] == ["flush", "send"]


def test_nothing_is_sent_again(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = database(tmp_path)
    deliver(journal, uri)
    monkeypatch.setattr(MlflowStore, "apply", lambda self, events: pytest.fail("sent again"))
    sent = Delivery(journal.folder.parent, journal, uri)
    sent.deliver()
    assert (sent.sent, sent.waiting) == (0, 0)


@pytest.mark.parametrize("lost", [0, 1, 2, 3, 4])
def test_an_answer_that_is_lost_does_no_harm(
    lost: int, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, real, calls = database(tmp_path), MlflowStore.apply, [0]

    def apply(self: MlflowStore, events: Sequence[Event[Content]]) -> None:
        real(self, events)
        calls[0] += 1
        if calls[0] == lost + 1:
            raise ConnectionError("the answer was lost")

    monkeypatch.setattr(MlflowStore, "apply", apply)
    with pytest.raises(TrackingError, match="E701"):
        deliver(journal, uri)
    assert_whole(uri, deliver(journal, uri))


def test_a_lost_place_does_no_harm(journal: Journal, tmp_path: Path) -> None:
    uri = database(tmp_path)
    deliver(journal, uri)
    (journal.folder / "sent.json").unlink()
    assert_whole(uri, deliver(journal, uri))


def test_another_server_gets_the_whole_run(journal: Journal, tmp_path: Path) -> None:
    deliver(journal, database(tmp_path))
    (tmp_path / "other").mkdir()
    uri = database(tmp_path / "other")
    assert_whole(uri, deliver(journal, uri))


def test_a_database_that_was_deleted_gets_the_whole_run_again(journal: Journal, tmp_path: Path) -> None:
    deliver(journal, database(tmp_path))
    (tmp_path / "new").mkdir()
    uri = database(tmp_path / "new")
    delivery = Delivery(journal.folder.parent, journal, uri, default=True)
    sent = journal.folder / "sent.json"
    places = without_checksum(json.loads(sent.read_text()))
    elsewhere = {name.replace(database(tmp_path), module.DEFAULT_PLACE): place for name, place in places.items()}
    sent.write_text(json.dumps(elsewhere))
    assert delivery.waiting == 0
    journal.append(Tags({"late": "yes"}))
    delivery.deliver()
    run = only_run(uri, "one")
    assert_whole(uri, run)
    assert run.data.tags["late"] == "yes"


def test_nothing_counts_as_sent_before_a_power_cut_cannot_undo_it(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite deletes its journal without flushing the folder: the flush is ours."""
    done: list[str] = []
    write = Delivery._write
    monkeypatch.setattr(store, "flush_folder", lambda folder: done.append(f"flushed {folder.name}"))

    def recorded(self: Delivery, places: Any) -> None:
        done.append("sent")
        write(self, places)

    monkeypatch.setattr(Delivery, "_write", recorded)
    deliver(journal, database(tmp_path))
    assert done[-2:] == [f"flushed {tmp_path.name}", "sent"]
    assert done[::2] == done[-2:-1] * (len(done) // 2)


def test_a_failure_keeps_the_rest_and_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run" / "tracking")
    journal.append(Start("abc", "one", "trial", {}))
    delivery = Delivery(tmp_path / "run", journal, "http://me:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"connection refused.*http://127.0.0.1:9.*sync-tracking") as raised:
        delivery.deliver()
    assert "secret" not in str(raised.value)
    assert delivery.waiting == 1


def test_neighbours_of_one_kind_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    tags, end = Tags({}), End("KILLED")
    contents: list[Content] = [tags, tags, tags, end, end, tags]
    events = [Event(0, content, number) for number, content in enumerate(contents)]
    groups = list(of_one_kind(iter(events)))
    assert [[event.content.kind for event in group] for group in groups] == [
        ["tags", "tags"],
        ["tags"],
        ["end", "end"],
        ["tags"],
    ]
    assert [event for group in groups for event in group] == events


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"paths": "prices.parquet"}, "local"),
        ({"paths": ["prices.parquet"], "tz": "UTC"}, "local"),
        ({"paths": "prices/*.csv"}, "code"),
        ({"paths": ["a.csv", "b.csv"]}, "code"),
        ({"paths": "s3://bucket/prices.parquet"}, "code"),
        ({"paths": [7]}, "code"),
        ({}, "code"),
        (["a stranger's"], "code"),
    ],
)
def test_mlflow_reads_where_a_dataset_comes_from(arguments: Any, kind: str) -> None:
    source = {"class_path": "cnn_lstm.data.sources.PriceFiles", "init_args": arguments}
    written = store._source(Dataset("PriceFiles", "PriceFiles", source, [], cast(Profile, {})))
    dataset = entities.Dataset(name="a", digest="b", **written)
    read: Any = get_source(dataset)
    assert read._get_source_type() == kind
    if kind == "local":
        assert read.to_dict()["uri"] == "prices.parquet"
    else:
        assert read.to_dict()["tags"] == source
    assert source.items() <= json.loads(dataset.source).items()  # nothing is lost
