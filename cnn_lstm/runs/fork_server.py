"""Warm starts: a process that has imported what a command needs, and forks itself for each command.

The imports of a fit take seconds; a fork takes milliseconds. The server is a process of its own, which imports and does
nothing else: a process that has computed has threads, and threads do not survive a fork. Each child gets arguments,
environment, input and output as a new process would, and goes on as the command line.

The two ends talk through a socket, which is the server's standard input. When its other end closes, the server ends;
children go on, as those of a killed process do, unless they are tied to the life of who started them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnn_lstm.errors import ResourceError

FORK_SERVER = "fork-server"
# a fork of a process that has used Apple's frameworks crashes, and Windows has no forks
AVAILABLE = sys.platform == "linux"
LOOK = 0.02  # seconds between two looks for children that have ended
SIZE = 8  # bytes that say how long a message is
STREAMS = 3  # descriptors of input, output and errors come first; then those to keep open


@dataclass(frozen=True)
class Request:
    """A command to fork.

    Attributes:
        argv: Arguments of the command line.
        environment: All variables of its environment.
        session: Whether it begins a session of its own, which the terminal's Ctrl-C does not reach.
        tied: Whether it is killed, with what it has started, once the last of its descriptors is closed elsewhere.
    """

    argv: Sequence[str]
    environment: dict[str, str]
    session: bool = False
    tied: bool = False


# -- the end of who starts commands -----------------------------------------------------------------------------------


class ForkServer:
    """The server, as who starts commands sees it.

    Args:
        program: How our command line is started.
    """

    def __init__(self, program: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen([*program, FORK_SERVER], stdin=theirs.fileno())
        self._text = b""
        self._codes: dict[int, int] = {}

    def fork(self, request: Request, descriptors: Sequence[int]) -> int:
        """Starts a command, once the server has imported everything; returns its process number.

        Args:
            request: The command.
            descriptors: Its input, output and errors, and what else it holds open.

        Raises:
            ResourceError: E657, if the server has died.
        """
        message = json.dumps(asdict(request)).encode()
        try:
            socket.send_fds(self._socket, [len(message).to_bytes(SIZE, "big")], list(descriptors))
            self._socket.sendall(message)
            while True:
                if (answer := self._answer(None)) is None:
                    raise BrokenPipeError("it closed its socket")
                if "code" not in answer:
                    return int(answer["pid"])
                self._codes[answer["pid"]] = answer["code"]
        except OSError as error:
            self._end()
            what, fix = "the process that starts commands has died", "see what it printed; it may lack memory"
            raise ResourceError(what, error.strerror or str(error), fix, code=657) from error
        except BaseException:  # a Ctrl-C: nothing may start after it
            self._end()
            raise

    def code(self, pid: int) -> int | None:
        """How a command ended, as `Popen.returncode` says it; None while it runs.

        Args:
            pid: Its process number.
        """
        while pid not in self._codes:
            answer = self._answer(0.0)
            if answer is None:
                return None if self._process.poll() is None or _alive(pid) else -signal.SIGKILL
            self._codes[answer["pid"]] = answer["code"]
        return self._codes[pid]

    @property
    def alive(self) -> bool:
        """Whether it can start commands."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the server."""
        self._socket.close()
        self._end()

    def _end(self) -> None:
        self._process.kill()  # it holds nothing that could be lost
        self._process.wait()

    def _answer(self, seconds: float | None) -> dict[str, int] | None:
        """The next line of the server; None if there is none within some seconds, or it has died."""
        while b"\n" not in self._text:
            if not select.select([self._socket], [], [], seconds)[0]:
                return None
            with suppress(ConnectionResetError):
                if part := self._socket.recv(4096):
                    self._text += part
                    continue
            return None
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, int] = json.loads(line)
        return answer


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # no signal is sent
    except OSError:
        return False
    return True


# -- the server ------------------------------------------------------------------------------------------------------


def served(modules: Sequence[str]) -> list[str] | None:
    """Imports modules and forks a child for each request; returns in each child.

    Args:
        modules: What the commands import.

    Returns:
        The arguments of the command that this process has become; None in the server, once nobody can ask it any more.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the commands
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    with socket.socket(fileno=os.dup(0)) as connection:
        while True:
            if not select.select([connection], [], [], LOOK)[0]:
                _report_ended(connection)
                continue
            received = _received(connection)
            if received is None:
                return None
            request, descriptors = received
            with warnings.catch_warnings():
                # Python 3.12 counts threads of libraries too; that of Arrow's allocator is made for forks
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                break
            for descriptor in descriptors:
                os.close(descriptor)
            _send(connection, {"pid": pid})
    signal.signal(signal.SIGINT, before)
    return _become(request, descriptors)


def _received(connection: socket.socket) -> tuple[Request, list[int]] | None:
    """A request and its descriptors; None at the end."""
    length, descriptors, _, _ = socket.recv_fds(connection, SIZE, 16)
    text = b""
    while len(text) < int.from_bytes(length, "big"):
        part = connection.recv(65536)
        if not part:
            return None
        text += part
    return (Request(**json.loads(text)), descriptors) if text else None


def _report_ended(connection: socket.socket) -> None:
    """Tells who asks about every child that has ended."""
    with suppress(ChildProcessError):  # this process has not started one
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _send(connection, {"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody listens any more; the next look at the socket ends the server
        connection.sendall(f"{json.dumps(answer)}\n".encode())


def _become(request: Request, descriptors: Sequence[int]) -> list[str]:
    """Turns a fork of the server into the process of a command; returns its arguments."""
    if request.session:
        os.setsid()
    for target, descriptor in enumerate(descriptors[:STREAMS]):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[1:] = request.argv  # Lightning starts the processes of a `ddp` training by them
    np.random.seed()  # noqa: NPY002 - the global generator is what a fork copies
    if request.tied:
        threading.Thread(target=_die_with, args=(descriptors[STREAMS],), name="tie", daemon=True).start()
    return list(request.argv)


def _die_with(descriptor: int) -> None:
    """Kills this process and its group once a pipe closes: another machine may take its work over at once."""
    os.read(descriptor, 1)
    os.killpg(0, signal.SIGKILL)
