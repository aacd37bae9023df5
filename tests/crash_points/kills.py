"""`make kills`: random commands are killed with SIGKILL at random moments, and continued; nothing may be lost.

Real processes in sessions of their own: a kill ends a command and all that it started.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.crash_points.commands import SCENARIOS
from tests.crash_points.disk import read_tree, write_tree
from tests.crash_points.scenarios import Result, Scenario, fault_of
from tests.crash_points.user import User
from tests.crash_points.warm import warm_up

ROOT = Path(__file__).parents[2]


class Target:
    """A scenario whose command is killed again and again.

    Args:
        name: Its name.
        home: Folder to work in.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home, self.folder = name, home, home / "here"
        shutil.rmtree(home, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.scenario: Scenario = SCENARIOS[name]()
        self.user = User(self.folder, home / "log")
        self.scenario.prepare(self.folder, self.user)
        self.before = read_tree(self.folder)
        began = time.monotonic()
        code = self._started().wait()
        self.seconds = time.monotonic() - began
        assert code == 0, (home / "killed.log").read_text()
        self.expected: Result = self.scenario.result(self.folder, self.user, "")

    def _started(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.home / "killed.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *self.scenario.program],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, after: float) -> str:
        """Kills the command after some seconds, and goes on; returns what is wrong, empty if nothing is."""
        write_tree(self.before, self.folder)
        process = self._started()
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return fault_of(self.scenario, self.folder, self.user, self.expected)


def main(argv: Sequence[str] | None = None) -> int:
    """Kills commands at random."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_points.kills", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/kills"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", choices=list(SCENARIOS), nargs="*", help="commands; all by default")
    options = parser.parse_args(argv)
    warm_up()
    chance, targets, lost = random.Random(options.seed), {}, 0
    for number in range(options.kills):
        name, share = chance.choice(options.only or list(SCENARIOS)), chance.random()
        if name not in targets:
            targets[name] = Target(name, options.folder.resolve() / name)
        after = share * targets[name].seconds
        fault = targets[name].kill(after)
        lost += bool(fault)
        print(f"kill {number}: {name} after {after:.2f} s: {fault or 'nothing lost'}", flush=True)
    print(f"{options.kills} kills, {lost} lost")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
