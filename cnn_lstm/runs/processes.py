"""Processes that our own commands start: what a command needs of them, and those of this machine.

An engine starts commands and says how each ended. There are two: `LocalProcesses`, and `cnn_lstm.runs.cluster.Ray`.

A worker of a sweep reads its plan from a pipe that stays open as long as its parent lives. When the pipe closes, the
worker ends: the same order for a Ctrl-C, a deadline, and the death of the parent. Any other command gets a SIGTERM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self, final

from cnn_lstm.runs import fork_server
from cnn_lstm.runs.fork_server import ForkServer, Request
from cnn_lstm.specs import trusted_packages

# -P: without it a stray yaml.py in the current folder would be imported in place of the library
PROGRAM = [sys.executable, "-P", "-m", "cnn_lstm"]
OURS = tuple(PROGRAM)
POLL = 0.1
PATIENCE = 15.0  # seconds that workers may take to end; they leave by themselves before
REPLACEMENTS = 5  # of each worker, so that a fault that kills all of them has an end
EXPECTED = range(2, 9)  # exit codes of errors that are one line, and that every worker would meet


def trust_argv() -> list[str]:
    """The packages that the user trusts, as arguments of a run."""
    packages = sorted(trusted_packages() - {"cnn_lstm"})
    return ["--trust-imports", ",".join(packages)] if packages else []


# -- the interface ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """What an engine starts.

    Attributes:
        argv: Arguments of the command line.
        output: The file that its output and errors are added to; None for those of this process.
        plan: What is written into its input, which stays open until it is to end; None for a command without input.
    """

    argv: Sequence[str]
    output: Path | None = None
    plan: str | None = None


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: The exit code, 128 and more for that of a signal.
        lost: Whether its machine was lost, so that another one may go on with its work.
    """

    code: int
    lost: bool = False


class Running(ABC):
    """A command that was started."""

    @abstractmethod
    def ended(self) -> Ended | None:
        """How it ended; None while it runs."""

    @abstractmethod
    def ask_to_end(self) -> None:
        """Lets it end in order."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it at once."""


class Engine(ABC):
    """Starts commands, and says how each ended.

    Attributes:
        room: How many commands run side by side where nobody says a number.
    """

    room = 1

    def __enter__(self) -> Self:
        """Returns the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends what belongs to the engine alone; the commands have ended."""
        self.close()

    @abstractmethod
    def start(self, command: Command) -> Running:
        """Starts a command.

        Args:
            command: The command.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends what belongs to the engine alone."""


def end_all(running: Sequence[Running], patience: float) -> None:
    """Ends commands, those that do not obey by force.

    Args:
        running: The commands.
        patience: Seconds that they may take, all together.
    """
    for one in running:
        one.ask_to_end()
    until = time.monotonic() + patience
    for one in running:
        while one.ended() is None and time.monotonic() < until:
            time.sleep(POLL / 2)
        if one.ended() is None:
            one.kill()


# -- on this machine -------------------------------------------------------------------------------------------------

_AHEAD: list[ForkServer] = []  # a server that nobody has asked for yet


@contextmanager
def server_ahead() -> Iterator[None]:
    """Starts a fork server, which imports while this process imports too.

    The first `LocalProcesses` takes it. Where nobody does, as in a command that is refused, it ends with the block. A
    machine with one core has none, since it would only be in the way.
    """
    if not _forks() or len(os.sched_getaffinity(0)) < 2:
        yield
        return
    _AHEAD.append(ForkServer(PROGRAM))
    try:
        yield
    finally:
        while _AHEAD:
            _AHEAD.pop().close()


def _forks() -> bool:
    """Whether commands are forked; another program, as in tests, cannot be."""
    return fork_server.AVAILABLE and tuple(PROGRAM) == OURS


@final
class LocalProcesses(Engine):
    """Processes of this machine, forked from one that has imported everything where the system allows that.

    Args:
        lock: Descriptor of the folder's lock, which each process holds open; None where there is none.
        tied: Whether they are killed when this process dies; else they go on, and keep the lock.
    """

    def __init__(self, lock: int | None = None, tied: bool = False) -> None:
        self._lock, self._tied = lock, tied
        self._life = os.pipe() if tied else ()
        self._servers: list[ForkServer] = []  # the last one starts commands; an earlier one has died

    def start(self, command: Command) -> Running:
        """Starts a process.

        Args:
            command: The command.
        """
        with ExitStack() as files:
            output = files.enter_context(command.output.open("ab")) if command.output else None
            if not _forks():
                return _Cold(command, output, self._lock)
            if not self._servers or not self._servers[-1].alive:  # a start that was interrupted has ended it
                self._servers.append(_AHEAD.pop() if _AHEAD else ForkServer(PROGRAM))
            return _Warm(command, output, self._servers[-1], [*self._life[:1], *_held(self._lock)], self._tied)

    def close(self) -> None:
        """Ends the process that others are forked from."""
        for server in self._servers:
            server.close()
        for descriptor in self._life:
            os.close(descriptor)


def _held(lock: int | None) -> list[int]:
    return [] if lock is None else [lock]


def _code(code: int) -> Ended:
    """An exit code as shells say it."""
    return Ended(128 - code if code < 0 else code)


class _Local(Running):
    """What both kinds of process have in common: how they end."""

    def __init__(self, pipe: IO[str] | None) -> None:
        self._pipe = pipe

    @abstractmethod
    def terminate(self) -> None:
        """Sends SIGTERM to a process that runs, or what stands for it on its system."""

    @abstractmethod
    def force(self) -> None:
        """As `terminate`, with SIGKILL."""

    def ask_to_end(self) -> None:
        """Closes its pipe, or sends SIGTERM."""
        if self._pipe is not None:
            _close(self._pipe)
        elif self.ended() is None:
            self.terminate()

    def kill(self) -> None:
        """Ends it at once, and waits for that."""
        if self.ended() is None:
            self.force()
        while self.ended() is None:
            time.sleep(POLL / 10)


def _close(pipe: IO[str]) -> None:
    with suppress(BrokenPipeError):  # its reader may be dead
        pipe.close()


def _write(pipe: IO[str], plan: str) -> None:
    with suppress(BrokenPipeError):  # how its reader ended, its exit code says
        pipe.write(plan + "\n")
        pipe.flush()


@final
class _Cold(_Local):
    """A new process."""

    def __init__(self, command: Command, output: IO[bytes] | None, lock: int | None) -> None:
        self._process = subprocess.Popen(
            [*PROGRAM, *command.argv],
            stdin=subprocess.DEVNULL if command.plan is None else subprocess.PIPE,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            encoding="utf-8",
            pass_fds=_held(lock) if os.name == "posix" else (),  # Windows hands none on
            start_new_session=command.plan is not None,  # keeps the terminal's Ctrl-C from it
        )
        super().__init__(self._process.stdin)
        if self._process.stdin is not None:
            _write(self._process.stdin, command.plan or "")

    def ended(self) -> Ended | None:
        code = self._process.poll()
        if code is not None and self._pipe is not None:
            _close(self._pipe)
        return None if code is None else _code(code)

    def terminate(self) -> None:
        self._process.terminate()

    def force(self) -> None:
        self._process.kill()


@final
class _Warm(_Local):
    """A fork of the server."""

    def __init__(
        self, command: Command, output: IO[bytes] | None, server: ForkServer, held: Sequence[int], tied: bool
    ) -> None:
        self._server = server
        request = Request(command.argv, dict(os.environ), command.plan is not None or tied, tied)
        with ExitStack() as files:
            if command.plan is None:
                super().__init__(None)
                source = files.enter_context(Path(os.devnull).open("rb")).fileno()
            else:
                source, end = os.pipe()
                files.callback(os.close, source)
                super().__init__(os.fdopen(end, "w"))
            streams = [1, 2] if output is None else 2 * [output.fileno()]
            self._pid = server.fork(request, [source, *streams, *held])
        if self._pipe is not None:
            _write(self._pipe, command.plan or "")

    def ended(self) -> Ended | None:
        code = self._server.code(self._pid)
        if code is not None and self._pipe is not None:
            _close(self._pipe)
        return None if code is None else _code(code)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def force(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)


# -- the workers of a sweep ------------------------------------------------------------------------------------------


class WorkerPool:
    """Worker processes.

    Args:
        engine: What starts them.
        command: The command of each.
        jobs: How many there are at a time.
    """

    def __init__(self, engine: Engine, command: Command, jobs: int) -> None:
        self.engine, self.command, self.jobs = engine, command, jobs
        self._running: list[Running] = []
        self._spare = REPLACEMENTS * jobs

    def work(self, deadline: float) -> int:
        """Starts the workers and waits for their end.

        Args:
            deadline: Moment of `time.monotonic` after which they are ended.

        Returns:
            0 if they ended well or the deadline came; else the exit code of the one that did not.
        """
        try:
            for _ in range(self.jobs):
                self._running.append(self.engine.start(self.command))
            while self._running and time.monotonic() < deadline:
                time.sleep(POLL)
                code = self._look()
                if code:
                    return code
            return 0
        finally:
            end_all(self._running, PATIENCE)

    def _look(self) -> int:
        """Replaces workers that were killed; returns the exit code of one that cannot be replaced."""
        for worker in list(self._running):
            ended = worker.ended()
            if ended is None:
                continue
            self._running.remove(worker)
            code, lost = ended
            if (code in EXPECTED and not lost) or (code and not self._spare):
                return code
            if code:
                self._spare -= 1
                how = "was lost with its machine" if lost else f"ended with exit code {code}"
                print(f"a worker {how}, another takes its place", file=sys.stderr, flush=True)
                self._running.append(self.engine.start(self.command))
        return 0
