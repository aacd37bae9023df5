"""The journal of a record: what is written comes back, whatever is cut off."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.training.tracking.events import Content, End, Metrics, Resume, Start, Tags
from cnn_lstm.training.tracking.journal import Journal


def kinds(journal: Journal, offset: int = 0) -> list[str]:
    return [event.content.kind for event in journal.events(offset)]


def step_of(content: Content) -> int:
    assert isinstance(content, Metrics)
    return content.step


def test_events_come_back_in_order_and_from_any_of_them_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracking")
    assert not journal.exists()
    assert kinds(journal) == []
    for number in range(5):
        journal.append(Metrics(number, {"loss": 0.5, "bad": float("nan")}))
    events = list(journal.events())
    assert [step_of(event.content) for event in events] == [0, 1, 2, 3, 4]
    assert all(later.at >= event.at > 1_600_000_000_000 for event, later in pairwise(events))
    assert [step_of(event.content) for event in journal.events(events[2].end)] == [3, 4]
    assert events[-1].end == journal.size()


def test_a_line_that_a_killed_process_broke_off_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(Resume())
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "bro')
    assert kinds(journal) == ["resume"]
    Journal(tmp_path).append(End("KILLED"))  # the process that goes on
    assert kinds(journal) == ["resume", "end"]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_broke_off_behind_an_end_is_named_by_who_sends(
    kept: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path)
    journal.append(End("FINISHED"))
    before = journal.path.read_bytes()
    journal.append(Resume())
    whole = journal.path.read_bytes()
    journal.path.write_bytes(before + whole[len(before) :][:kept])
    journal = Journal(tmp_path)
    assert kinds(journal) == ["end"]
    assert not caplog.text  # its writer may be about to end it
    journal.end_broken_line()
    if kept == -1:  # the end of the line alone is missing
        assert kinds(journal) == ["end", "resume"]
    else:
        assert kinds(journal) == ["end"]
        assert "W370" in caplog.text


def test_a_whole_line_without_its_end_waits_for_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(Resume())
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-1])
    assert kinds(journal) == []


def test_one_process_sends(tmp_path: Path) -> None:
    mine = Journal(tmp_path)
    assert mine.take("fit")
    assert mine.take("fit")
    take = "import sys, pathlib; from cnn_lstm.training.tracking.journal import Journal; "
    script = take + "print(Journal(pathlib.Path(sys.argv[1])).take('fit'))"
    other = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "False\n"
    mine.give_back()
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error_in_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path.symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"E606.*No space left"):
        journal.append(Resume())


def test_a_line_on_the_disk_has_the_kind_the_time_and_the_fields(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(Start("abc", "one", "trial", {"a": "b"}, {"uid": "def", "name": "all"}, "http://a"))
    fields = json.loads(journal.path.read_text())
    assert list(fields) == ["kind", "at", "uid", "name", "experiment", "tags", "parent", "uri", "crc32"]
    assert fields["kind"] == "start"
    assert fields["parent"] == {"uid": "def", "name": "all"}
    assert journal.start() == Start("abc", "one", "trial", {"a": "b"}, {"uid": "def", "name": "all"}, "http://a")


def test_a_line_of_an_older_version_without_a_parent_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    fields = {"kind": "start", "at": 1, "uid": "abc", "name": "one", "experiment": "trial", "tags": {}}
    journal.path.write_text(json.dumps(fields) + "\n")
    assert journal.start() == Start("abc", "one", "trial", {})


def test_a_record_has_ended_until_it_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    states = [journal.has_ended()]
    for content in (Start("abc", "one", "trial", {}), End("KILLED"), Tags({"late": "yes"}), Resume()):
        journal.append(content)
        states.append(journal.has_ended())
    assert states == [False, False, True, True, False]


def test_a_flipped_bit_loses_one_line_and_names_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    for number in range(5):
        journal.append(Metrics(number, {"loss": 0.5 * number}))
    whole, draw = journal.path.read_bytes(), random.Random(5)
    before = [event.content for event in journal.events()]
    for _ in range(400):
        content, at = bytearray(whole), draw.randrange(len(whole) - 1)
        content[at] ^= 1 << draw.randrange(8)
        journal.path.write_bytes(content)
        caplog.clear()
        after = [event.content for event in Journal(tmp_path).events()]
        assert all(event in before for event in after)
        assert len(after) >= 4
        assert after == before or "W370" in caplog.text


def test_a_journal_of_an_older_version_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "journal.jsonl").write_text(
        '{"kind": "resume", "at": 5}\n{"kind": "end", "at": 6, "status": "KILLED"}\n'
    )
    assert kinds(Journal(tmp_path)) == ["resume", "end"]
    assert not caplog.text
