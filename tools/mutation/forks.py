"""Runs tests in forks of a process that has imported them all: which functions a test calls, and what a mutant does."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import mutmut.mutation.trampoline as switch
import pytest

Outcome = Literal["killed", "survived", "timeout", "stuck", "untested"]
# examples of Hypothesis are the same in each run, with no limit of time; copies of a function have its doctest too
ARGUMENTS = ["--rootdir=.", "--tb=no", "-q", "--maxfail=1", "-p", "no:cacheprovider", "-k", "not __mutmut_"]
ARGUMENTS += ["--hypothesis-profile=ci", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
PASSED, FAILED = int(pytest.ExitCode.OK), int(pytest.ExitCode.TESTS_FAILED)
CPU_FLOOR, CPU_TIMES = 20, 10  # seconds of CPU that a mutant may use: the floor, and so many times what its tests took
WALL_FLOOR, WALL_TIMES = 240, 100  # the same on the clock, generous: the machine may be busy


@dataclass(frozen=True)
class Record:
    """What the tests do where nothing is changed.

    Attributes:
        tests: Tests that call a function, by the function's name.
        seconds: CPU time of each test.
    """

    tests: dict[str, list[str]]
    seconds: dict[str, float]

    def chosen(self, function: str, named: str, patience: float) -> list[str]:
        """The tests of a mutant of this function: those named after its module first, then the fast ones.

        Args:
            function: Name of the function.
            named: Name of its module, without the package.
            patience: Seconds after which no further test is started.
        """
        candidates = self.tests.get(function, [])
        order = sorted(candidates, key=lambda test: (named not in test.partition("::")[0], self.seconds[test]))
        chosen, spent = [], 0.0
        for test in order:
            if chosen and spent + self.seconds[test] > patience:
                continue
            chosen.append(test)
            spent += self.seconds[test]
        return chosen


def warm_up(folder: Path, selection: Sequence[str]) -> None:
    """Goes to the folder and imports the tests, and with them all that they test.

    Args:
        folder: The copy of the checkout that holds the mutants.
        selection: Tests, as pytest takes them.
    """
    os.chdir(folder)
    here = Path(__file__).parents[2].resolve()
    sys.path[:] = [str(folder), *(entry for entry in sys.path if Path(entry).resolve() != here)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)[1:]])
    if pytest.main([*ARGUMENTS, "--collect-only", "-qq", *selection]) != PASSED:
        raise SystemExit("the tests cannot be imported from the copy")


class _Recorder:
    def __init__(self) -> None:
        self._tests: dict[str, set[str]] = {}
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._called: set[str] = set()
        self._of_fixture: dict[int, set[str]] = {}
        self._began = 0.0

    def found(self) -> dict[str, Any]:
        tests = {name: sorted(callers - self._failed) for name, callers in self._tests.items()}
        return {"tests": tests, "seconds": self._seconds, "failed": sorted(self._failed)}

    def hit(self, name: str, caller: str | None = None) -> None:
        self._called.add(name)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._called.clear()
        self._began = time.process_time()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """What a fixture of many tests calls is called by each of them."""
        before, self._called = self._called, set()
        try:
            return (yield)
        finally:
            self._of_fixture.setdefault(id(fixturedef), set()).update(self._called)
            self._called |= before

    def pytest_runtest_teardown(self, item: pytest.Function) -> None:
        definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {}).values()
        for fixturedef in (one for several in definitions for one in several):
            self._called |= self._of_fixture.get(id(fixturedef), set())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._seconds[nodeid] = time.process_time() - self._began
        for name in self._called:
            self._tests.setdefault(name, set()).add(nodeid)


def recorded(selection: Sequence[str], functions: Iterable[str], folder: Path) -> Record:
    """Runs all tests once, file by file in forks, and notes which functions with mutants each calls.

    A test that fails where nothing is changed is left out, and named.

    Args:
        selection: Tests, as pytest takes them.
        functions: Names of the functions with mutants.
        folder: Keeps a record of each file of tests; one that is there is read instead, unless the file or the
            functions have changed since.
    """
    asked = "\n".join(sorted(functions)).encode()
    folder.mkdir(exist_ok=True)
    tests: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}
    for unit in _units(selection):
        text = Path(unit).read_bytes() if Path(unit).is_file() else b""
        kept = folder / f"{unit.replace('/', '.')}-{sha256(asked + text).hexdigest()[:12]}.json"
        if not kept.exists():
            _forked(partial(_record, unit, kept))
        found = json.loads(kept.read_text(encoding="utf-8"))
        for failed in found["failed"]:
            print(f"left out, since it fails where nothing is changed: {failed}", flush=True)
        seconds |= found["seconds"]
        for name, callers in found["tests"].items():
            tests.setdefault(name, []).extend(callers)
    return Record(tests, seconds)


def _units(selection: Sequence[str]) -> list[str]:
    """Files of tests, one by one; folders of the package, whose examples are quick, as they are."""
    units = []
    for entry in selection:
        inside = sorted(Path(entry).rglob("test_*.py")) if entry.startswith("tests/") else []
        units += [str(path) for path in inside] or [entry]
    return units


def _record(unit: str, kept: Path) -> int:
    recorder = _Recorder()
    switch.get_mutant_under_test = lambda: "stats"
    switch.record_trampoline_hit = recorder.hit
    code = pytest.main([*ARGUMENTS, "--maxfail=1000", unit], plugins=[recorder])
    kept.write_text(json.dumps(recorder.found()), encoding="utf-8")
    return int(code)


def outcome(name: str, tests: Iterable[str], seconds: float) -> Outcome:
    """What a mutant does in its tests: a failure kills it, and an endless loop is a timeout, which counts as seen.

    One that waits for ever, and needs no CPU, is stuck. That is not counted as seen: the machine may have been busy.

    Args:
        name: Name of the mutant, as the switch knows it.
        tests: The tests, in order.
        seconds: CPU time that they take where nothing is changed.
    """
    chosen = list(tests)
    if not chosen:
        return "untested"

    def run() -> int:
        limit = int(CPU_FLOOR + CPU_TIMES * seconds + time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        switch.set_mutant_under_test(name)
        return int(pytest.main([*ARGUMENTS, *chosen]))

    code = _forked(run, wall=WALL_FLOOR + WALL_TIMES * seconds)
    known: dict[int, Outcome] = {PASSED: "survived", -signal.SIGXCPU: "timeout", -signal.SIGKILL: "stuck"}
    nothing_ran = dict.fromkeys((pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED), "untested")
    return (known | nothing_ran).get(code, "killed")


def _forked(run: Callable[[], int], wall: float = 1e6) -> int:
    sys.stdout.flush()
    process = os.fork()
    if not process:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        code = FAILED
        try:
            code = run()
        finally:
            sys.stdout.flush()
            os._exit(code)
    ends = time.monotonic() + wall
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > ends:
            os.killpg(process, signal.SIGKILL)
            ends += 1e6
        time.sleep(0.01)
