"""Files are there whole, or as they were."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.files import disk_errors_in_one_line, write_text_whole, write_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from cnn_lstm.errors import ResourceError
from cnn_lstm.files import write_whole

def write(partial):
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

write_whole(Path(sys.argv[1]), write)
"""


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_whole(path, "one")
    assert path.read_text() == "one"
    write_text_whole(path, "zwölf")
    assert path.read_bytes() == "zwölf".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught, disk_errors_in_one_line("cannot make it", tmp_path, "choose another"):
        tmp_path.mkdir()
    assert str(caught.value) == f"error[E606]: cannot make it — {tmp_path}: File exists — choose another"
    with pytest.raises(ValueError, match="ours"), disk_errors_in_one_line("cannot make it", tmp_path, "choose another"):
        raise ValueError("ours")


def test_nobody_finds_the_file_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(partial: Path) -> None:
        partial.write_text("half")
        assert path.read_text() == "old"
        assert partial.parent == path.parent  # another disk could not replace in one step
        assert partial.name.startswith(".")
        partial.write_text("whole")

    write_whole(path, write)
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(error):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_anything_is_written_is_raised_as_it_is(tmp_path: Path) -> None:
    def write(partial: Path) -> None:
        raise ValueError(partial.name)

    with pytest.raises(ValueError, match="partial"):
        write_whole(tmp_path / "file.txt", write)


def test_a_place_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nowhere" / "file.txt", tmp_path / "folder"):
        with pytest.raises(ResourceError, match="cannot write the file") as caught:
            write_text_whole(path, "text")
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 6
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_kill_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
