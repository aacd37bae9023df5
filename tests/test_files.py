"""Files are there whole, or as they were."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.files import disk_errors_in_one_line, make_folder, replace_folder, write_text_whole, write_whole

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


@pytest.mark.parametrize("refused", ["file", "folder"])
def test_a_flush_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().is_dir() == (refused == "folder"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ResourceError, match="Input/output error"):
        write_text_whole(path, "new")
    assert path.read_text() == ("old" if refused == "file" else "new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_flushes_of_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_text_whole(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"


def test_a_new_folder_is_on_the_disk_with_all_that_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink()))
    make_folder(tmp_path / "a" / "b")
    assert set(flushed) == {tmp_path, tmp_path / "a"}
    flushed.clear()
    make_folder(tmp_path / "a" / "b")
    assert flushed == []
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "moved" / "c", parents=False)


def test_what_killed_processes_left_is_removed_and_that_of_others_stays(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (abandoned,) = tmp_path.iterdir()
    older = tmp_path / ".file.txt.partial"  # as older versions called it
    others = [tmp_path / f".file.txt.{os.getppid()}.partial", tmp_path / f".other.txt{abandoned.name[9:]}"]
    for file in (older, *others):
        file.touch()
    write_text_whole(path, "new")
    assert set(tmp_path.iterdir()) == {path, *others}


@pytest.mark.parametrize("at", ["write", "flush"])
def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    folder = tmp_path / "model"

    def write(text: str, partial: Path) -> None:
        (partial / "below").mkdir(parents=True)
        (partial / "below" / "file.txt").write_text(text)
        if text == "stop":
            raise KeyboardInterrupt

    replace_folder(folder, partial(write, "one"))
    replace_folder(folder, partial(write, "two"))
    assert (folder / "below" / "file.txt").read_text() == "two"
    if at == "flush":
        monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
        replace_folder(folder, partial(write, "stop" if at == "write" else "three"))
    assert (folder / "below" / "file.txt").read_text() == "two"
    assert list(tmp_path.iterdir()) == [folder]


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    rename = Path.replace

    def replace(self: Path, other: Path) -> Path:
        calls.append("rename")
        return rename(self, other)

    monkeypatch.setattr(Path, "replace", replace)

    def write(partial: Path) -> None:
        (partial / "below").mkdir(parents=True)
        for name in ("a", "below/b"):
            (partial / name).touch()

    replace_folder(tmp_path / "model", write)
    assert calls == ["b", "below", "a", f".model.{os.getpid()}.partial", "rename", tmp_path.name]
