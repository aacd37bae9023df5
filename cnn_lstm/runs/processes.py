"""Processes that our own commands start: their command line, and the workers of a sweep.

A worker reads its plan from a pipe that stays open as long as its parent lives. When the pipe closes, the worker ends:
the same order for a Ctrl-C, a deadline, and the death of the parent.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cnn_lstm.specs import trusted_packages

# -P: without it a stray yaml.py in the current folder would be imported in place of the library
PROGRAM = [sys.executable, "-P", "-m", "cnn_lstm"]
POLL = 0.1
PATIENCE = 15.0  # seconds that workers may take to end; they leave by themselves before
REPLACEMENTS = 5  # of each worker, so that a fault that kills all of them has an end
EXPECTED = range(2, 9)  # exit codes of errors that are one line, and that every worker would meet


def trust_argv() -> list[str]:
    """The packages that the user trusts, as arguments of a run."""
    packages = sorted(trusted_packages() - {"cnn_lstm"})
    return ["--trust-imports", ",".join(packages)] if packages else []


def wait_or_kill(process: subprocess.Popen[Any], seconds: float) -> None:
    """Waits for the end of a process, and kills it if that takes too long.

    Args:
        process: The process, which was asked to end.
        seconds: How long it may take.
    """
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class WorkerPool:
    """Worker processes.

    Args:
        command: Their command line.
        plan: What is written into their pipes.
        jobs: How many there are at a time.
    """

    def __init__(self, command: Sequence[str], plan: str, jobs: int) -> None:
        self.command, self.plan, self.jobs = list(command), plan, jobs
        self._running: list[subprocess.Popen[str]] = []
        self._spare = REPLACEMENTS * jobs

    def work(self, deadline: float) -> int:
        """Starts the workers and waits for their end.

        Args:
            deadline: Moment of `time.monotonic` after which they are ended.

        Returns:
            0 if they ended well or the deadline came; else the exit code of the one that did not.
        """
        try:
            self._running = [self._start() for _ in range(self.jobs)]
            while self._running and time.monotonic() < deadline:
                time.sleep(POLL)
                code = self._look()
                if code:
                    return code
            return 0
        finally:
            self._end()

    def _start(self) -> subprocess.Popen[str]:
        """Starts a worker; a new session keeps the terminal's Ctrl-C from it."""
        worker = subprocess.Popen(self.command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        assert worker.stdin is not None
        worker.stdin.write(self.plan + "\n")
        worker.stdin.flush()
        return worker

    def _look(self) -> int:
        """Replaces workers that were killed; returns the exit code of one that cannot be replaced."""
        for worker in list(self._running):
            code = worker.poll()
            if code is None:
                continue
            self._running.remove(worker)
            _close(worker)
            if code in EXPECTED or (code and not self._spare):
                return code if code > 0 else 128 - code
            if code:
                self._spare -= 1
                print(f"a worker ended with exit code {code}, another takes its place", file=sys.stderr, flush=True)
                self._running.append(self._start())
        return 0

    def _end(self) -> None:
        for worker in self._running:
            _close(worker)
        until = time.monotonic() + PATIENCE
        for worker in self._running:
            wait_or_kill(worker, max(0.0, until - time.monotonic()))


def _close(worker: subprocess.Popen[str]) -> None:
    """Closes the pipe of a worker, which may be dead."""
    if worker.stdin is not None:
        with suppress(BrokenPipeError):
            worker.stdin.close()
