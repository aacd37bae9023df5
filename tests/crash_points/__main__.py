"""`make crash-points`: every command is traced, crashed at every step, and continued; `make crash-point N=fit-17`.

A trace is kept in the folder, so that a number stays the same state; without one the command is traced again, which may
shift the numbers, since threads do not always write in the same order.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.crash_points.commands import SCENARIOS
from tests.crash_points.disk import LOSSES, Disk, crashed, digest, read_tree, with_copies, write_tree
from tests.crash_points.scenarios import Result, Scenario, fault_of
from tests.crash_points.trace import STRACE, Operation, operations, traced
from tests.crash_points.user import User
from tests.crash_points.warm import warm_up

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Crash:
    """A crash of a traced command.

    Attributes:
        number: Its number.
        end: Operations that were done.
        loss: What the crash loses; see `LOSSES`.
    """

    number: int
    end: int
    loss: str


class Crashes:
    """The crashes of one scenario.

    Args:
        name: Name of the scenario.
        home: Folder that keeps its trace, and what the last state left.
        seed: Chooses the crashes.
    """

    def __init__(self, name: str, home: Path, seed: int) -> None:
        self.name, self.home, self.seed = name, home, seed
        self.folder = home / "here"
        self.scenario: Scenario = SCENARIOS[name]()
        self.user = User(self.folder, home / "log")

    def trace(self) -> None:
        """Runs the command under the tracer, and learns its right result."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.scenario.prepare(self.folder, self.user)
        start = Disk.of(self.folder)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        code = traced([sys.executable, *self.scenario.program], self.folder, environment, self.home / "trace")
        assert code == 0, (self.home / "trace.log").read_text()
        steps = operations(self.home / "trace", self.folder, start.sizes)
        final = read_tree(self.folder)
        self.start, self.steps = start, with_copies(steps, start, final)
        whole = crashed(start, self.steps, len(steps), "nothing", "").tree()
        different = [name for name in whole | final if whole.get(name, b"?") != final.get(name, b"?")]
        assert not different, f"the trace does not explain {different[:5]}"
        self.expected: Result = self.scenario.result(self.folder, self.user, "")
        kept = (self.start, self.steps, self.expected, vars(self.scenario))
        (self.home / "crashes.pickle").write_bytes(pickle.dumps(kept))
        (self.home / "trace").unlink()

    def load(self) -> None:
        """Takes the trace that is kept, or makes it."""
        kept = self.home / "crashes.pickle"
        if not kept.exists():
            self.trace()
            return
        self.start, self.steps, self.expected, values = pickle.loads(kept.read_bytes())
        vars(self.scenario).update(values)

    def chosen(self) -> list[Crash]:
        """All crashes in an order that the seed gives; rarely written places come as often as busy ones."""
        chance = random.Random(f"{self.seed}-{self.name}")
        places = [_place(step) for step in self.steps]
        busy = Counter(places)
        every = [Crash(0, end, loss) for end in range(len(self.steps) + 1) for loss in LOSSES]
        weights = [busy[places[min(crash.end, len(places) - 1)]] ** 0.5 for crash in every]
        order = sorted(range(len(every)), key=lambda place: chance.expovariate(1.0) * weights[place])
        return [Crash(number, every[place].end, every[place].loss) for number, place in enumerate(order)]

    def tree_of(self, crash: Crash) -> dict[str, bytes | None]:
        """The folder after a crash."""
        return crashed(self.start, self.steps, crash.end, crash.loss, f"{self.seed}-{crash.number}").tree()

    def describe(self, crash: Crash) -> str:
        """A crash in words."""
        step = self.steps[crash.end - 1] if crash.end else None
        after = f"{step.kind} {step.path} {step.target}".strip() if step else "nothing"
        return f"{self.name}-{crash.number}: after {crash.end} of {len(self.steps)} steps ({after}), {crash.loss} lost"

    def check(self, tree: dict[str, bytes | None]) -> str:
        """What is wrong with a state; empty if nothing is."""
        write_tree(tree, self.folder)
        return fault_of(self.scenario, self.folder, self.user, self.expected)


def _place(step: Operation) -> str:
    """Where a step writes, for a fair choice: copies of our own code and databases are many steps alike."""
    parts = step.path.split("/")
    return "code" if "code" in parts else step.path


def run_scenario(crashes: Crashes, states: int, seconds: float) -> tuple[int, list[str]]:
    """Tries states that differ; returns how many there were, and their faults."""
    seen: set[str] = set()
    faults: list[str] = []
    until = time.monotonic() + seconds
    for crash in crashes.chosen():
        if len(seen) >= states or time.monotonic() > until:
            break
        tree = crashes.tree_of(crash)
        if (sha := digest(tree)) in seen:
            continue
        seen.add(sha)
        if fault := crashes.check(tree):
            faults.append(f"{crashes.describe(crash)}: {fault}")
            print(f"FAULT {faults[-1]}", flush=True)
    return len(seen), faults


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all scenarios, or one crash."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_points", description=__doc__)
    parser.add_argument("which", nargs="*", help=f"scenarios, or a crash such as fit-17; {', '.join(SCENARIOS)}")
    parser.add_argument("--folder", type=Path, default=Path("runs/crash-points"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the states of each scenario")
    parser.add_argument("--seconds", type=float, default=1e9, help="of each scenario at most")
    parser.add_argument("--again", action="store_true", help="trace the commands again")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time")
    options = parser.parse_args(argv)
    if STRACE is None:
        print("skipped: strace is not installed")
        return 0
    which = options.which or list(SCENARIOS)
    for name in which:
        if name not in SCENARIOS and not (name.rpartition("-")[0] in SCENARIOS and name.rpartition("-")[2].isdigit()):
            parser.error(f"neither a scenario nor a crash of one: {name}")
    warm_up()
    if single := [name for name in which if name not in SCENARIOS]:
        return max(_run_one(name, options) for name in single)
    with ProcessPoolExecutor(options.jobs, get_context("fork")) as pool:
        done = list(pool.map(_run, which, [options] * len(which)))
    states, faults = (sum(numbers) for numbers in zip(*done, strict=True))
    print(f"{states} different states, {faults} faults")
    return int(bool(faults))


def _crashes(scenario: str, options: argparse.Namespace) -> Crashes:
    crashes = Crashes(scenario, options.folder.resolve() / scenario, options.seed)
    if options.again:
        shutil.rmtree(crashes.home, ignore_errors=True)
    crashes.load()
    return crashes


def _run_one(name: str, options: argparse.Namespace) -> int:
    """Runs one crash, such as fit-17; returns 1 if something is wrong."""
    scenario, _, number = name.rpartition("-")
    crashes = _crashes(scenario, options)
    chosen = crashes.chosen()
    if int(number) >= len(chosen):
        print(f"{scenario} has the crashes 0 to {len(chosen) - 1}")
        return 2
    crash = chosen[int(number)]
    print(crashes.describe(crash))
    fault = crashes.check(crashes.tree_of(crash))
    print(fault or "passed", f"\nfolder: {crashes.folder}\nwhat the commands printed: {crashes.user.log}")
    return int(bool(fault))


def _run(scenario: str, options: argparse.Namespace) -> tuple[int, int]:
    """Runs the crashes of a scenario; returns how many states differed, and how many of them were wrong."""
    crashes = _crashes(scenario, options)
    began, busy = time.monotonic(), _busy()
    states, faults = run_scenario(crashes, round(crashes.scenario.states * options.share), options.seconds)
    took = f"{time.monotonic() - began:.0f} s, {_busy() - busy:.0f} s of a core"
    print(f"{scenario}: {len(crashes.steps)} steps, {states} states, {len(faults)} faults, {took}", flush=True)
    return states, len(faults)


def _busy() -> float:
    """Seconds that this process and its children had a core."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    sys.exit(main())
