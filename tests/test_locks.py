"""One writer: what a lock keeps out, how it ends, and what a refusal says."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnn_lstm import locks
from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.locks import LOCK, Lock, holder_of, lock_file, take_file, take_folder, try_lock

HOLDS = """
import sys, time
from pathlib import Path
from cnn_lstm.locks import lock_file
lock = lock_file(Path(sys.argv[1]), "fit", 60)
print("held", flush=True)
time.sleep(600)
"""


def holding(path: Path) -> subprocess.Popen[bytes]:
    """A process that holds a lock until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def signed(path: Path, **holder: object) -> None:
    content = {"pid": os.getpid(), "host": socket.gethostname(), "command": "fit", **holder}
    path.write_text(f" {json.dumps(content)}\n")


def test_a_lock_ends_with_its_process_and_names_it_until_then(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    with holding(path) as holder:
        assert try_lock(path) is None
        assert holder_of(path) == f"cnn-lstm fit, pid {holder.pid}"
        with pytest.raises(ConfigError, match=rf"E243.*cnn-lstm fit, pid {holder.pid} — wait for its end") as caught:
            take_folder(tmp_path, "test", "run", "--run_dir")
        assert caught.value.exit_code == 2
        holder.kill()
    assert path.exists()  # nobody could remove it
    with take_folder(tmp_path, "test", "run") as lock:
        assert holder_of(path) == f"cnn-lstm test, pid {os.getpid()}"
        assert try_lock(path) is None
        lock.require_in_place()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_inherits_the_descriptor_holds_the_lock(tmp_path: Path) -> None:
    lock = lock_file(tmp_path / "lock", "repeat", 1)
    with subprocess.Popen(["sleep", "600"], pass_fds=[lock.descriptor]) as child:
        lock.forget()  # as a kill does
        assert try_lock(tmp_path / "lock") is None
        child.kill()
    lock_file(tmp_path / "lock", "repeat", 1).release()


def test_a_file_that_another_process_writes_is_refused_until_that_one_dies(tmp_path: Path) -> None:
    with holding(tmp_path / ".state.npz.lock") as holder:
        with pytest.raises(ConfigError, match=rf"E288.*writes this state.*cnn-lstm fit, pid {holder.pid}"):
            take_file(tmp_path / "state.npz", "stream", "state")
        holder.kill()
    with take_file(tmp_path / "state.npz", "stream", "state"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_ends_within_a_moment_is_waited_for(tmp_path: Path) -> None:
    held = take_file(tmp_path / "state.npz", "stream", "state")
    timer = threading.Timer(0.1, held.release)
    timer.start()
    take_file(tmp_path / "state.npz", "stream", "state").release()
    timer.join()


def test_a_file_in_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"E606.*cannot write the file.*No such file"):
        take_file(tmp_path / "nowhere" / "state.npz", "stream", "state")


def _waits(path: str, ready: multiprocessing.synchronize.Event) -> None:
    ready.set()
    time.sleep(600)


def test_a_forked_process_does_not_hold_it(tmp_path: Path) -> None:
    """As a DataLoader's worker that outlives a killed training for some seconds."""
    lock = lock_file(tmp_path / "lock", "fit", 1)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_waits, args=(str(tmp_path), ready))
    child.start()
    try:
        assert ready.wait(60)
        assert try_lock(tmp_path / "lock") is None  # its parent still holds it
        lock.forget()  # as a kill of the parent does
        again = try_lock(tmp_path / "lock")
        assert again is not None
        again.release()
    finally:
        child.kill()
        child.join()


def test_a_thread_of_the_same_process_is_kept_out(tmp_path: Path) -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            take_folder(tmp_path, "fit", "run").release()
        except ConfigError as error:
            refused.append(str(error))

    with take_folder(tmp_path, "fit", "run"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"pid {os.getpid()}" in refused[0]


def test_never_two_of_many_threads_hold_it_though_each_removes_it(tmp_path: Path) -> None:
    holders, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(40):
            with lock_file(tmp_path / "lock", "fit", 60):
                holders[0] += 1
                most[0] = max(most[0], holders[0])
                time.sleep(0.0005)
                holders[0] -= 1
                done[0] += 1

    poll, locks.POLL = locks.POLL, 0.0
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        locks.POLL = poll
    assert (most, done) == ([1], [160])
    assert list(tmp_path.iterdir()) == []


def test_a_released_lock_leaves_that_of_the_next_holder_alone(tmp_path: Path) -> None:
    first = lock_file(tmp_path / "lock", "fit", 1)
    first.release()
    with lock_file(tmp_path / "lock", "test", 1):
        first.release()
        assert (tmp_path / "lock").exists()


def test_a_holder_that_keeps_it_is_named_after_a_while(tmp_path: Path) -> None:
    with lock_file(tmp_path / "lock", "sweep", 1):
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match=rf"locked for 0 s by cnn-lstm sweep, pid {os.getpid()}"):
            lock_file(tmp_path / "lock", "sweep", 0.2)
        assert 0.2 <= time.monotonic() - begin < 5


def test_those_that_take_turns_may_take_longer(tmp_path: Path) -> None:
    """Each holder has it for less than the patience, all of them for more."""
    path = tmp_path / "lock"
    held = try_lock(path)
    assert held is not None

    def turns() -> None:
        for number in range(8):
            signed(path, command=f"turn {number}")
            time.sleep(0.1)
        held.release()

    thread = threading.Thread(target=turns)
    thread.start()
    lock_file(path, "sweep", 0.4).release()
    thread.join()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("", "a process that has not said its name"),
        ("{}", "a process that has not said its name"),
        (' {"pid": "x", "host": "h", "command": "fit"}', "a process that has not said its name"),
        ("\x00\xff", "a process that has not said its name"),
        (' {"pid": 7, "host": "elsewhere", "command": "fit"}', "cnn-lstm fit, pid 7 on elsewhere"),
    ],
)
def test_what_a_file_says_of_its_holder(content: str, name: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    assert holder_of(tmp_path / LOCK) == name


def test_a_run_that_outlives_the_command_that_started_it_is_named(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    signed(tmp_path / LOCK, pid=ended.pid, command="repeat")
    (tmp_path / "seed_42").mkdir()
    signed(tmp_path / "seed_42" / LOCK)
    expected = f"cnn-lstm repeat, pid {ended.pid} has ended, but not what it started: cnn-lstm fit, pid {os.getpid()}"
    assert holder_of(tmp_path / LOCK) == expected


@pytest.mark.parametrize("change", ["moved", "removed", "replaced"])
def test_a_folder_that_goes_away_is_noticed(change: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with take_folder(folder, "fit", "run") as lock:
        folder.rename(tmp_path / "elsewhere")
        if change == "removed":
            (tmp_path / "elsewhere" / LOCK).unlink()
        second = take_folder(folder, "fit", "run") if change == "replaced" else None
        with pytest.raises(ResourceError, match=r"E606.*moved or removed"):
            lock.require_in_place()
        if change == "moved":  # whoever goes on there is kept out
            assert try_lock(tmp_path / "elsewhere" / LOCK) is None
    if second is not None:
        second.require_in_place()
        second.release()


def test_a_file_system_without_locks_is_a_warning_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "lock_descriptor", unsupported)
    for _ in range(2):
        with take_folder(tmp_path, "fit", "run"):
            pass
    assert caplog.text.count("[W373] the file system has no locks") == 1
    assert str(tmp_path) in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_leaves_out_the_name_alone() -> None:
    with Lock(Path("/dev/null"), Path("/dev/full").open("ab", buffering=0)) as lock:
        lock.sign("fit")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"E606.*cannot write the run folder.*choose another --run_dir"):
        take_folder(tmp_path / "file", "fit", "run", "--run_dir")


def test_nobody_else_imports_the_locks_of_one_system() -> None:
    """Locks are in one file, and `filelock` knows the systems."""
    sources = Path(locks.__file__).parent.rglob("*.py")
    users = [
        path.name for path in sources if re.search(r"import (fcntl|msvcrt|filelock)|from filelock", path.read_text())
    ]
    assert users == ["locks.py"]
