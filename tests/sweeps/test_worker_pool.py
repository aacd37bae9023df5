"""Worker processes that end well, are killed, or fail."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnn_lstm.runs import processes
from cnn_lstm.runs.processes import Command, LocalProcesses, WorkerPool


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkerPool]:
    """Workers that run a program."""

    def made(code: str, jobs: int = 1) -> WorkerPool:
        monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", code])
        return WorkerPool(LocalProcesses(), Command([], plan="the plan"), jobs)

    return made


def test_workers_read_the_plan_and_see_the_pipe_close(pool: Callable[..., WorkerPool], tmp_path: Path) -> None:
    code = f"import sys; line = sys.stdin.readline(); sys.stdin.read(); open({str(tmp_path / 'x')!r}, 'w').write(line)"
    assert pool(code).work(time.monotonic() + 2) == 0
    assert (tmp_path / "x").read_text() == "the plan\n"


def test_a_worker_that_is_killed_is_replaced_but_not_for_ever(
    pool: Callable[..., WorkerPool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"import os; open({str(tmp_path / 'x')!r}, 'a').write('.'); os.kill(os.getpid(), 9)"
    assert pool(code).work(time.monotonic() + 60) == 137
    assert (tmp_path / "x").read_text() == "......"
    assert capsys.readouterr().err.count("another takes its place") == 5


def test_the_exit_code_of_a_reported_error_ends_the_sweep(pool: Callable[..., WorkerPool]) -> None:
    assert pool("raise SystemExit(6)", jobs=2).work(time.monotonic() + 60) == 6
