"""Runs one command in this process and says what is wrong with how it ended, whatever it was asked to do."""

from __future__ import annotations

import io
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_lstm.model.forecaster import Forecaster
from tests import experiments

MOST_LETTERS = 400
SECONDS = 60  # after which a command hangs
STEPS, TRAINING = 30, 10.0  # steps and seconds of training after which a fit is interrupted: it has passed the door
FINE = (0, 2, 3, 4, 5, 6, 7, 8, 10, 11, 130)
WITHOUT_ERROR = (None, 0, 1, 10, 11, 130)  # 10 and 11 are verdicts of monitor
OUR_WORDS = ("error[", "warning: ")
# what a parser or Python says to programmers
INSIDE = re.compile(
    r"<class '|functools\.partial|Traceback \(|object at 0x|jsonargparse|Namespace\(|NestedArg|Parser key|NoneType"
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        argv: Its arguments.
        code: Exit code; None if it hung.
        lines: Its errors and warnings.
        seconds: How long it took.
        faults: What is wrong with that.
    """

    argv: Sequence[str]
    code: int | None
    lines: Sequence[str]
    seconds: float
    faults: Sequence[str]


class HangError(BaseException):
    """A command did not end; not an `Exception`, so that nothing takes it for an error of its own."""


def judged(*argv: object) -> Outcome:
    """Runs a command, and judges its exit code and its messages.

    Args:
        argv: The command and its arguments.
    """
    words, began = [str(word) for word in argv], time.monotonic()
    error, output = io.StringIO(), io.StringIO()
    code: int | None = None
    with redirect_stderr(error), redirect_stdout(output), _interrupted_training(), _ended(SECONDS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of libraries, which are not our messages
                code = experiments.run(*words)
        except HangError:
            pass
        except BaseException as unexpected:  # nothing may leave `main`
            error.write(f"\nleft main: {type(unexpected).__name__}: {unexpected}\n")
            code = 1
    lines = [line for line in error.getvalue().splitlines() if line.startswith(OUR_WORDS)]
    faults = list(_faults(code, lines, error.getvalue()))
    return Outcome(words, code, lines, time.monotonic() - began, faults)


def _faults(code: int | None, lines: Sequence[str], text: str) -> Iterator[str]:
    if code is None:
        yield f"it hangs: more than {SECONDS} s"
    elif code not in FINE:
        yield f"exit code {code}: {text.strip().splitlines()[-1][:300] if text.strip() else ''}"
    if code not in WITHOUT_ERROR and not any(line.startswith("error[") for line in lines):
        yield f"exit code {code} without an error of ours: {text.strip()[-200:]}"
    for line in lines:
        if len(line) > MOST_LETTERS:
            yield f"{len(line)} letters: {line[:200]} ..."
        if INSIDE.search(line):
            yield f"words of a program: {line[:300]}"


@contextmanager
def _interrupted_training() -> Iterator[None]:
    """Ends a training after a few steps as Ctrl-C does."""
    original, seen = Forecaster.training_step, [0, 0.0]

    def step(self: Forecaster, *args: Any) -> Any:
        seen[0] += 1
        seen[1] = seen[1] or time.monotonic()
        if seen[0] > STEPS or time.monotonic() - seen[1] > TRAINING:
            raise KeyboardInterrupt
        return original(self, *args)

    Forecaster.training_step = step  # type: ignore[method-assign, assignment]  # a spy
    try:
        yield
    finally:
        Forecaster.training_step = original  # type: ignore[method-assign]  # a spy


@contextmanager
def _ended(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def report(name: str, cases: int, case: Callable[[int], tuple[Outcome, str]], first: int = 0) -> int:
    """Runs cases, prints each fault with what makes it again, and counts.

    Args:
        name: What is tried.
        cases: How many.
        case: Runs the case of a number; returns its outcome, and what was changed in it.
        first: Number of the first case.

    Returns:
        How many have a fault.
    """
    faulty, codes, began = 0, dict[int | None, int](), time.monotonic()
    for number in range(first, first + cases):
        outcome, changed = case(number)
        codes[outcome.code] = codes.get(outcome.code, 0) + 1
        faulty += bool(outcome.faults)
        for fault in outcome.faults:
            print(f"{name} {number}: {changed}\n    {fault}", flush=True)
    counted = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items(), key=str))
    seconds = time.monotonic() - began
    print(f"{name}: {cases} cases in {seconds:.0f} s, {faulty} with a fault; exit codes {counted}", flush=True)
    return faulty


def shortened(value: object) -> str:
    """A value as text that fits on a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fresh(folder: Path) -> Path:
    """The folder, made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stdin_is_empty() -> None:
    """No command may wait for somebody to type."""
    sys.stdin = io.StringIO()
