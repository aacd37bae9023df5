from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.training.tracking.journal import Journal


def kinds(journal: Journal, offset: int = 0) -> list[str]:
    return [event.kind for event in journal.events(offset)]


def test_events_come_back_in_order_and_from_any_of_them_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracking")
    assert not journal.exists()
    assert kinds(journal) == []
    for number in range(5):
        journal.append("metrics", step=number, values={"loss": 0.5, "bad": float("nan")})
    events = list(journal.events())
    assert [event.values["step"] for event in events] == [0, 1, 2, 3, 4]
    assert all(later.at >= event.at > 1_600_000_000_000 for event, later in pairwise(events))
    assert [event.values["step"] for event in journal.events(events[2].end)] == [3, 4]
    assert events[-1].end == journal.size()


def test_a_line_that_a_killed_process_broke_off_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("one")
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "bro')
    assert kinds(journal) == ["one"]
    Journal(tmp_path).append("two")  # the process that goes on
    assert kinds(journal) == ["one", "two"]


def test_a_whole_line_without_its_end_waits_for_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("one")
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-1])
    assert kinds(journal) == []


def test_one_process_sends(tmp_path: Path) -> None:
    mine = Journal(tmp_path)
    assert mine.take()
    assert mine.take()
    take = "import sys, pathlib; from cnn_lstm.training.tracking.journal import Journal; "
    script = take + "print(Journal(pathlib.Path(sys.argv[1])).take())"
    other = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "False\n"
    mine.give_back()
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path.symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"E606.*No space left"):
        journal.append("one")
