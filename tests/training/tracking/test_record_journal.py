"""What a record writes into the journal of its folder, without a server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cnn_lstm.service.live import LIVE
from cnn_lstm.service.record import keep_live
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.events import Artifact, Content, End, Metrics, Params, Start, Status, Tags
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.kept_files import artifact_of, is_kept
from cnn_lstm.training.tracking.parent import name_parent, parent_of
from cnn_lstm.training.tracking.record import Record, lacks, parent_record, reopened_record

URI = "http://127.0.0.1:9"


def contents(folder: Path) -> list[Content]:
    return [event.content for event in Journal(folder / "tracking").events()]


def record_of(folder: Path, command: str = "fit", *, enabled: bool = True) -> Record:
    folder.mkdir(exist_ok=True)
    return Record(RunFolder(folder), command, Delivery.of_run(folder, URI), enabled=enabled)


def test_a_disabled_record_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    record = record_of(tmp_path, enabled=False)
    with record.ended():
        record.begin("a: 1", resumed=False)
        record.log({"loss": 1.0})
        record.tag({"a": "b"})
        record.keep(tmp_path / "file")
    record.send()
    assert record.where() == {}
    assert not (tmp_path / "tracking").exists()


def test_metrics_without_a_value_and_files_that_are_missing_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    record = record_of(tmp_path, "test")
    record.log({"loss": 1.0, "skill": None})
    record.log({"skill": None})
    record.keep(tmp_path / "there", tmp_path / "missing")
    assert contents(tmp_path) == [Metrics(0, {"loss": 1.0}), Artifact("there", hashlib.sha256().hexdigest())]


@pytest.mark.parametrize("left", [b"", b'{"kind": "resu', b'{"kind": "tags", "at": 1, "values": {}}\n'])
def test_a_fit_that_goes_on_without_the_start_of_its_journal_writes_one(tmp_path: Path, left: bytes) -> None:
    record = record_of(tmp_path)
    record.journal.folder.mkdir()
    record.journal.path.write_bytes(left)
    with record.ended():
        record.begin("a: 1", resumed=True)
    assert Journal(tmp_path / "tracking").start() is not None
    assert "a" in {name for event in contents(tmp_path) if isinstance(event, Params) for name in event.values}


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError("bad"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_fit_ends_as_its_command_does(tmp_path: Path, error: BaseException | None, status: Status) -> None:
    def command() -> None:
        if error is not None:
            raise error

    raised: BaseException | None = None
    try:
        with record_of(tmp_path).ended():
            command()
    except BaseException as caught:
        raised = caught
    assert raised is error
    assert contents(tmp_path) == [End(status)]


def test_a_command_after_the_fit_does_not_end_its_run(tmp_path: Path) -> None:
    with record_of(tmp_path, "test").ended():
        pass
    assert contents(tmp_path) == []


def test_a_reopened_record_adds_to_that_of_the_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracking")
    reopened_record(RunFolder(tmp_path), URI).tag({"late": "yes"})
    assert contents(tmp_path) == []
    start = Start("abc", "one", "trial", {}, uri="http://other")
    journal.append(start)
    record = reopened_record(RunFolder(tmp_path), None)
    record.tag({"late": "yes"})
    assert contents(tmp_path) == [start, Tags({"late": "yes"})]
    assert record.delivery.uri == "http://other"


def test_the_record_of_a_parent_begins_once_in_the_experiment_of_its_child(tmp_path: Path) -> None:
    child = tmp_path / "all" / "trial_0"
    child.mkdir(parents=True)
    name_parent(tmp_path / "all")
    parent = parent_of(child)
    assert parent is not None
    Journal(child / "tracking").append(Start("abc", "trial_0", "search", {}, parent))
    for best in (0.5, 0.4):
        record = parent_record(tmp_path / "all", RunFolder(child), URI)
        record.log({"best": best}, step=3)
        record.end("FINISHED")
    assert contents(tmp_path / "all") == [
        Start(parent["uid"], "all", "search", {}),
        Metrics(3, {"best": 0.5}),
        End("FINISHED"),
        Metrics(3, {"best": 0.4}),
        End("FINISHED"),
    ]


def test_a_parent_of_runs_without_a_record_keeps_nothing(tmp_path: Path) -> None:
    record = parent_record(tmp_path, RunFolder(tmp_path / "trial_0"), URI)
    record.log({"best": 0.5})
    record.end("FINISHED")
    record.send()
    assert contents(tmp_path) == []


def test_a_server_that_is_down_is_a_warning_and_the_journal_keeps_it_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Journal(tmp_path / "tracking").append(Start("abc", "one", "trial", {}))
    record = reopened_record(RunFolder(tmp_path), URI)
    record.tag({"late": "yes"})
    record.send()
    assert "MLflow does not take the run" in caplog.text
    assert contents(tmp_path)[1:] == [Tags({"late": "yes"}), End("KILLED")]


def test_a_file_is_lacking_until_it_is_kept_as_it_is_and_has_arrived(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("one")
    record = record_of(tmp_path, "add")
    assert lacks(record, file)
    record.keep(file)
    assert lacks(record, file)  # it waits
    record.delivery._write({URI: {"run_id": "x", "offset": record.journal.size()}})
    assert not lacks(record, file)
    file.write_text("two")  # and a kill before the record had heard of it
    assert lacks(record, file)
    assert not lacks(record_of(tmp_path, enabled=False), file)


def test_a_file_of_an_older_journal_is_kept_again(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    journal = Journal(tmp_path / "tracking")
    journal.append(Artifact("there"))
    now = artifact_of(tmp_path, tmp_path / "there")
    assert not is_kept(journal, now)
    journal.append(now)
    journal.append(Artifact("another", now.sha256))
    assert is_kept(journal, now)


@pytest.mark.parametrize(
    "moment", ["cnn_lstm.service.record.send_rest", "cnn_lstm.training.tracking.journal.Journal.append"]
)
def test_an_evening_that_was_killed_before_its_record_is_kept_by_the_next_one(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(tmp_path / "tracking").append(Start("1", "run", "tests", {}))
    (tmp_path / LIVE).write_bytes(b"an evening")
    uri = f"sqlite:///{tmp_path.parent / 'mlflow.db'}"
    sent: list[str | None] = []

    def killed(*_: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(moment, killed)
        with pytest.raises(SystemExit):
            keep_live(tmp_path, uri)
    monkeypatch.setattr("cnn_lstm.service.record.send_rest", lambda run, address: sent.append(address))
    keep_live(tmp_path, uri)
    keep_live(tmp_path, uri)
    assert contents(tmp_path).count(artifact_of(tmp_path, tmp_path / LIVE)) == 1
    assert sent == [uri, uri]
