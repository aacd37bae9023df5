"""A user after a crash: calls the next command, follows what messages advise, and compares the result.

Commands run in forks of one process that has imported everything, also those that commands start by themselves: a
fork begins in milliseconds, an interpreter with torch takes seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from matplotlib.figure import Figure

from cnn_lstm.cli import main
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.runs import fork_server, processes
from tests.crash_points.advice import advised, asks_to_wait

LIMIT = 600.0  # seconds of a command
POLL = 0.01
PATIENCE = 30.0  # seconds that what a killed command has started may go on


class FoundError(Exception):
    """What must not happen after a crash."""


@dataclass(frozen=True)
class Answer:
    """The end of a command.

    Attributes:
        code: Exit code.
        text: What it printed.
    """

    code: int
    text: str

    @property
    def error(self) -> str:
        """Its error in one line; empty if there is none."""
        lines = [line for line in self.text.splitlines() if line.startswith("error[E")]
        return lines[-1] if lines else ""


class User:
    """Calls commands in a folder.

    Args:
        folder: The current folder of the commands.
        log: File that keeps what they print.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log

    def call(self, *argv: str) -> Answer:
        """Runs a command, later where it asks for that; a traceback, a hang or an error without its line is a fault."""
        until = time.monotonic() + PATIENCE
        while asks_to_wait((answer := self._answer(" ".join(argv), lambda: main(argv))).error):
            if time.monotonic() > until:
                raise FoundError(f"hang: {' '.join(argv)}: {answer.error}")
            time.sleep(1)
        return answer

    def does(self, name: str, function: Callable[[], object]) -> Answer:
        """Runs a function of a script of the user's as a command."""
        return self._answer(name, lambda: _guarded(function))

    def works(self, *argv: str) -> Answer:
        """Runs a command that has to work here."""
        answer = self.call(*argv)
        if answer.code:
            raise FoundError(f"wall: {' '.join(argv)}: {answer.error}")
        return answer

    def gets_there(self, first: Sequence[str], original: Sequence[str]) -> list[str]:
        """Calls a command, and what each message advises, until one works; returns that one.

        Args:
            first: The command that a user calls after a crash.
            original: The one that the crash ended.
        """
        waiting, tried, errors = [list(first)], [], []
        while waiting:
            argv = waiting.pop(0)
            tried.append(argv)
            answer = self.call(*argv)
            if not answer.code:
                return argv
            errors.append(answer.error)
            waiting = [line for line in advised(answer.error, argv, original) if line not in tried] + waiting
        raise FoundError(f"wall: {' | '.join(errors)}")

    def _answer(self, name: str, function: Callable[[], int]) -> Answer:
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            log.write(f"$ {name}\n".encode())
            log.flush()
            pid = forked(function, log.fileno(), self.folder)
        code = _waited(pid, time.monotonic() + LIMIT)
        text = self.log.read_bytes()[before:].decode(errors="replace")
        answer = Answer(code, text)
        if code is None:
            raise FoundError(f"hang: {name}")
        if code == 1 or code < 0 or "Traceback (most recent" in text:
            raise FoundError(f"traceback: {name}: code {code}: {text.strip().splitlines()[-1][:300]}")
        if code and not answer.error:
            raise FoundError(f"no line: {name}: code {code}: {text.strip().splitlines()[-1][:300]}")
        return answer


def _guarded(function: Callable[[], object]) -> int:
    try:
        function()
    except CnnLstmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def forked(function: Callable[[], int], output: int, folder: Path | None = None, stdin: int | None = None) -> int:
    """Calls a function in a fork that leaves with its result; returns the process.

    Args:
        function: The function.
        output: Descriptor that it prints to.
        folder: Its current folder.
        stdin: Descriptor that it reads from; nothing by default.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.dup2(stdin if stdin is not None else os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
        )
        logging.getLogger("cnn_lstm").handlers.clear()  # of the warm-up, whose stream is closed
        if folder is not None:
            os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _quickened()
        code = function()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 2
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if code >= 0 else 1)


def _waited(pid: int, deadline: float) -> Any:
    """Exit code of a process; None after the deadline, when it and its children are killed."""
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


class ForkedProcess:
    """Stands in for `subprocess.Popen` where our commands start commands of ours."""

    def __init__(
        self,
        argv: Sequence[str],
        stdin: int | None = None,
        stdout: IO[bytes] | None = None,
        **_: object,
    ) -> None:
        assert list(argv[1:4]) == ["-P", "-m", "cnn_lstm"], argv
        reads, writes = os.pipe()
        output = sys.stdout.fileno() if stdout is None else stdout.fileno()

        def run() -> int:
            os.close(writes)
            return main(argv[4:])

        self.pid = forked(run, output, stdin=reads if stdin == subprocess.PIPE else None)
        os.close(reads)
        self.stdin = os.fdopen(writes, "w")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def _quickened() -> None:
    """Lets our commands fork the commands that they start, and write an empty file for a picture."""
    stand_in = SimpleNamespace(
        Popen=ForkedProcess,
        PIPE=subprocess.PIPE,
        DEVNULL=subprocess.DEVNULL,
        STDOUT=subprocess.STDOUT,
    )
    vars(processes)["subprocess"] = stand_in
    fork_server.AVAILABLE = False  # a process of its own would import everything once more
    Figure.savefig = _no_picture  # type: ignore[method-assign, assignment]


def _no_picture(figure: Figure, target: Any, **_: Any) -> None:
    if hasattr(target, "write"):
        target.write(b"")
    else:
        Path(target).write_bytes(b"")
