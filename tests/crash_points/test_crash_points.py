"""The tracer explains real programs, and crashed disks lose what they may lose, and no more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.locks import take_folder
from tests.crash_points.advice import ELSEWHERE, advised, asks_to_wait
from tests.crash_points.disk import LOSSES, Disk, crashed, read_tree, with_copies, write_tree
from tests.crash_points.trace import STRACE, Operation, operations, traced

needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")
WRITING = """
import os, shutil, sqlite3, subprocess, sys, threading
from pathlib import Path
os.mkdir("a")
Path("a/first").write_text("one")
with open("log", "ab") as log:
    subprocess.run([sys.executable, "-c", "print('from a child')"], stdout=log)
    log.write(b"and from its parent")
thread = threading.Thread(target=lambda: Path("a/second").write_bytes(b"two" * 9))
thread.start(); thread.join()
os.rename("a/first", "a/third")
os.rename("a", "b")
shutil.copyfile("given", "copied")
with open("given", "r+b") as file:
    file.seek(3); file.write(b"XY"); file.truncate(6)
with sqlite3.connect("study.db") as study:
    study.execute("CREATE TABLE t (x)"); study.execute("INSERT INTO t VALUES (1)")
os.unlink("copied")
shutil.rmtree("old")
"""


@needs_strace
def test_the_steps_of_a_trace_make_the_folder_that_the_program_made(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    write_tree({"given": b"0123456789", "old": None, "old/file": b"x"}, folder)
    start = Disk.of(folder)
    assert traced([sys.executable, "-c", WRITING], folder, dict(os.environ), tmp_path / "trace") == 0
    steps = operations(tmp_path / "trace", folder, start.sizes)
    final = read_tree(folder)
    whole = crashed(start, with_copies(steps, start, final), len(steps), "nothing", "").tree()
    assert whole == final
    assert {"sync", "write", "make", "rename", "unlink", "mkdir", "rmdir"} <= {step.kind for step in steps}


def test_threads_that_share_descriptors_keep_their_files(tmp_path: Path) -> None:
    def text(word: str) -> str:
        return "".join(f"\\x{letter:02x}" for letter in word.encode())

    here, lock = text(str(tmp_path)), text(f"{tmp_path}/lock")
    lines = [
        f'1 openat(AT_FDCWD<{here}>, "{text("lock")}", O_RDWR|O_CREAT) = 3<{lock}>',
        f"1 close(3<{lock}> <unfinished ...>",
        # a thread takes the free descriptor before its maker has heard of either
        f'2 openat(AT_FDCWD<{here}>, "{text("data")}", O_RDWR|O_CREAT) = 3<{text(f"{tmp_path}/data")}>',
        "1 <... close resumed>) = 0",
        "1 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD}, 88) = 2",
        f'1 write(3<{text(f"{tmp_path}/data")}>, "{text("abc")}", 3) = 3',
    ]
    (tmp_path / "trace").write_text("\n".join(lines))
    steps = operations(tmp_path / "trace", tmp_path, {})
    assert [(step.kind, step.path) for step in steps] == [("make", "lock"), ("make", "data"), ("write", "data")]


def replaced(*, flushed: bool) -> list[Operation]:
    """A file that is written next to an old one and takes its name."""
    sync, syncdir = Operation("sync", "new", 1), Operation("syncdir", ".")
    steps = [Operation("make", "new", 1), Operation("write", "new", 1, data=b"after")]
    rename = Operation("rename", "new", target="file")
    return [*steps, sync, rename, syncdir] if flushed else [*steps, rename]


START = Disk({0: bytearray(b"before")}, {"file": 0})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("end", range(6))
def test_a_file_that_is_flushed_and_renamed_is_the_old_one_or_the_new_one(loss: str, end: int) -> None:
    for seed in range(20):
        content = crashed(START, replaced(flushed=True), end, loss, str(seed)).tree()["file"]
        assert content in ((b"before", b"after") if end < 5 else (b"after",))


def test_a_file_that_is_renamed_without_a_flush_can_be_empty_torn_or_zero() -> None:
    steps = replaced(flushed=False)
    found = {crashed(START, steps, 3, loss, str(seed)).tree()["file"] for loss in LOSSES for seed in range(40)}
    assert found == {b"before", b"after", b"", *(b"after"[:length] for length in range(1, 5)), bytes(5)}


def test_a_flush_keeps_what_was_written_before_it_alone() -> None:
    steps = [Operation("write", "file", 0, at=6, data=b" and"), Operation("sync", "file", 0)]
    steps += [Operation("write", "file", 0, at=10, data=b" after")]
    assert crashed(START, steps, 3, "bytes", "").tree()["file"] == b"before and"
    assert crashed(START, steps, 3, "zeros", "").tree()["file"] == b"before and" + bytes(6)


def test_advice_is_followed_to_what_goes_on_first() -> None:
    error = "error[E437]: no last checkpoint — x — candidates: runs/a/checkpoints/best.ckpt, b"
    assert advised(error, ["fit", "--ckpt_path", "last"], ["fit"]) == [
        ["fit", "--ckpt_path", "runs/a/checkpoints/best.ckpt"]
    ]
    error = "error[E246]: no sweep to go on with — x — give the --folder of one, or leave --resume out"
    assert advised(error, ["sweep", "--resume", "--folder", "x"], ["sweep", "--space"]) == [["sweep", "--space"]]
    assert advised("error[E314]: price <= 0 — x — correct the rows", ["fit"], ["fit", "again"]) == []


def test_a_writer_that_outlived_a_kill_is_waited_for(tmp_path: Path) -> None:
    with take_folder(tmp_path, "sweep", "sweep", "--folder"), pytest.raises(ConfigError) as refused:
        take_folder(tmp_path, "sweep", "sweep", "--folder")
    assert asks_to_wait(str(refused.value))
    assert advised(str(refused.value), ["sweep", "--folder", "x"], []) == [["sweep", "--folder", ELSEWHERE]]
    assert not asks_to_wait("error[E314]: price <= 0 — x — correct the rows")
