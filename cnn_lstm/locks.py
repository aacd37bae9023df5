"""One writer: locks that the death of a process frees.

A lock is a file that its holder keeps open and locked; the operating system unlocks it when the process ends, also
by a kill. The file says who holds it. Its holder removes it at its end; one that a killed process has left is not
locked, and the next holder takes it over. Readers take no lock, and never wait for one.

A file system without locks gives a warning (W373), and nothing is kept out there.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, final
from weakref import WeakSet

from cnn_lstm.bounded import load_json
from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.files import disk_errors_in_one_line, make_folder

lock_descriptor: Callable[..., bool] | None
try:
    from filelock import lock_descriptor
except ImportError:  # torch brings it; a forecast needs none
    lock_descriptor = None

log = logging.getLogger(__name__)
LOCK = ".cnn_lstm.lock"  # of a folder; other programs leave a `.lock` in folders of theirs
POLL = 0.05  # seconds between two attempts
GRACE = 0.5  # seconds that a process which was killed may take to be gone
NESTED = (f"*/{LOCK}", f"members/*/{LOCK}")  # of runs that belong to a folder
_in_process: WeakSet[Lock] = WeakSet()


@final
class Lock:
    """A lock that is held until it is released, or until its process ends.

    A process that inherits the descriptor holds the lock too; one that is forked does not.

    Args:
        path: The file.
        file: The file, open and locked.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        _in_process.add(self)

    def __enter__(self) -> Lock:
        """Returns the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Releases it."""
        self.release()

    @property
    def descriptor(self) -> int:
        """What a child process has to inherit to hold the lock too."""
        return self._file.fileno()

    def sign(self, command: str) -> None:
        """Says in the file who holds the lock; a full disk leaves that out.

        Args:
            command: Command of this process, such as `fit`.
        """
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": time.time_ns()}
        with suppress(OSError):
            self._file.truncate(0)
            # Windows locks the first byte against readers too
            self._file.write(f" {json.dumps(holder)}\n".encode())

    def require_in_place(self) -> None:
        """Refuses to go on where the file, and its folder with it, was moved or removed since.

        Raises:
            ResourceError: E606.
        """
        if not _is_at(self._file, self.path):
            what, fix = "the folder was moved or removed while it was written", "begin or go on where it lies now"
            raise ResourceError(what, str(self.path.parent), fix, code=606)

    def release(self) -> None:
        """Removes the file and unlocks it, in this order: who has opened it before sees that it is not the one."""
        if self._file.closed:
            return
        with suppress(OSError):  # Windows removes no open file
            if _is_at(self._file, self.path):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Closes the file; the lock is free once every process that has inherited it has done so."""
        self._file.close()


def try_lock(path: Path) -> Lock | None:
    """Locks a file, without waiting.

    Args:
        path: The file, which is made if it does not exist.

    Returns:
        The lock; None if another process, or another part of this one, holds it.

    Raises:
        OSError: If the file cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, try_lock(Path(folder) / "lock"):
        ...     print(try_lock(Path(folder) / "lock"))
        None
    """
    while True:
        file = path.open("ab", buffering=0)
        try:
            locked = _locked(file, path)
        except BaseException:
            file.close()
            raise
        if locked and _is_at(file, path):
            return Lock(path, file)
        file.close()
        if not locked:
            return None  # else its holder has removed the file since we opened it


def lock_file(path: Path, command: str, seconds: float) -> Lock:
    """Locks a file, once every other process that did the same has released it.

    Args:
        path: The file, which is made if it does not exist.
        command: Command of this process, for others that wait.
        seconds: How long one holder may keep it; several that take turns may take longer.

    Raises:
        TimeoutError: If one does, with its name.
        OSError: If the file cannot be opened.

    Example:
        >>> with lock_file(Path("study.db.lock"), "sweep", 60):  # doctest: +SKIP
        ...     print("no other process is here")
    """
    holder, since = "", time.monotonic()
    while (lock := try_lock(path)) is None:
        if (now := holder_of(path)) != holder:
            holder, since = now, time.monotonic()
        if time.monotonic() - since > seconds:
            raise TimeoutError(f"{path} was locked for {seconds:.0f} s by {holder}")
        time.sleep(POLL)
    lock.sign(command)
    return lock


def take_folder(folder: Path, command: str, kind: str, option: str = "") -> Lock:
    """Makes a folder where there is none, and keeps every other writer out of it.

    Args:
        folder: The folder.
        command: Command of this process, such as `fit`.
        kind: What the folder is, for messages, such as `run`.
        option: Option that chooses another folder; empty where there is none.

    Raises:
        ConfigError: E243, naming who writes there.
        ResourceError: E606, if it cannot be made or written.

    Example:
        >>> with take_folder(Path("runs/mine"), "fit", "run", "--run_dir") as lock:  # doctest: +SKIP
        ...     print("no other command writes there")
    """
    path, until = folder / LOCK, time.monotonic() + GRACE
    elsewhere = f"choose another {option}" if option else "free disk space, or make it writable"
    with disk_errors_in_one_line(f"cannot write the {kind} folder", folder, elsewhere):
        make_folder(folder)
        while (lock := try_lock(path)) is None and time.monotonic() < until:
            time.sleep(POLL)
    if lock is None:
        fix = f"wait for its end, or choose another {option}" if option else "wait for its end"
        raise ConfigError("another command is at work here", f"{folder}: {holder_of(path)}", fix, code=243)
    lock.sign(command)
    return lock


def take_file(path: Path, command: str, kind: str) -> Lock:
    """Keeps every other writer away from a single file, for as long as it takes to write it.

    The lock is a hidden file next to it. A write takes a moment, so a second writer waits for half a second; a longer
    one means that two processes were given the same file.

    Args:
        path: The file; it does not have to exist.
        command: What this process does, such as `stream`.
        kind: What the file is, for messages, such as `state`.

    Raises:
        ConfigError: E288, naming who writes it.
        ResourceError: E606, if its folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, take_file(Path(folder) / "x.npz", "stream", "state"):
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['.x.npz.lock']
    """
    lock_path, until = path.with_name(f".{path.name}.lock"), time.monotonic() + GRACE
    with disk_errors_in_one_line("cannot write the file", path, "make room for it, or choose another folder"):
        while (lock := try_lock(lock_path)) is None and time.monotonic() < until:
            time.sleep(POLL)
    if lock is None:
        what, fix = f"another process writes this {kind}", f"give each process a {kind} of its own"
        raise ConfigError(what, f"{path}: {holder_of(lock_path)}", fix, code=288)
    lock.sign(command)
    return lock


def holder_of(path: Path) -> str:
    """Who holds a lock, for people.

    Args:
        path: Its file.
    """
    holder = _signed(path)
    if holder is None:
        return "a process that has not said its name"
    if _has_ended(holder):
        left = [other for pattern in NESTED for other in sorted(path.parent.glob(pattern))]
        running = [named for file in left if (named := _signed(file)) is not None and not _has_ended(named)]
        names = ", ".join(map(_name, running[:3])) or "a process of its own goes on"
        return f"{_name(holder)} has ended, but not what it started: {names}"
    return _name(holder)


def _name(holder: dict[str, Any]) -> str:
    elsewhere = "" if holder["host"] == socket.gethostname() else f" on {holder['host']}"
    return f"cnn-lstm {holder['command']}, pid {holder['pid']}{elsewhere}"


def _signed(path: Path) -> dict[str, Any] | None:
    """What the file of a lock says; None if it says nothing, or is being written."""
    try:
        with path.open("rb") as file:
            file.seek(1)
            holder = load_json(file.read(1000))
    except (OSError, ValueError):
        return None
    known = isinstance(holder, dict) and isinstance(holder.get("pid"), int) and {"host", "command"} <= set(holder)
    return holder if known else None


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether a holder's process is gone, as far as this machine can say."""
    if os.name != "posix" or holder["host"] != socket.gethostname():
        return False
    try:
        os.kill(holder["pid"], 0)  # no signal is sent
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is somebody else's
        return False
    return False


def _locked(file: IO[bytes], path: Path) -> bool:
    if lock_descriptor is None:
        _warn_of(path.parent, "filelock is not installed")
        return True
    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        _warn_of(path.parent, error.strerror or type(error).__name__)
        return True


@cache
def _warn_of(folder: Path, reason: str) -> None:
    """Warns once of a folder whose file system has no locks."""
    what, fix = "[W373] the file system has no locks", "take care that no other command writes there meanwhile"
    log.warning("%s: %s — %s — %s", what, reason, folder, fix)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _in_forked_child() -> None:
    """A child would keep the lock of its parent, such as a DataLoader's worker that outlives a killed training."""
    for lock in list(_in_process):
        lock.forget()


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_in_forked_child)
