"""CPU seconds of commands on the quickstart's data: python -m tests.benchmarks.commands [--run FOLDER] [--rounds N].

Each command is a new process, one after the other, in several rounds: a command has the seconds, of user and system, of
its cheapest round. Exits with 1 where a goal is missed. Goals are of one core of 2.1 GHz, and grow with a slower one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/quickstart.yaml")
PROGRAM = [sys.executable, "-m", "cnn_lstm"]
BARE = "import lightning.pytorch.cli"
NO_GOAL = float("inf")


class Timed(NamedTuple):
    """A command, and the most CPU seconds that it may take, or that many times those of the bare import."""

    words: list[str]
    goal: float = NO_GOAL
    times_bare: float = NO_GOAL


def commands(run: Path) -> dict[str, Timed]:
    """What is timed, by the name that is printed.

    Args:
        run: Folder of a run of the quickstart.
    """
    checkpoint, config = str(run / "checkpoints/best.ckpt"), str(run / "config.yaml")
    of_run = ["--config", config, "--ckpt_path", checkpoint]
    output = ["--output", str(run / "written")]
    return {
        BARE: Timed([sys.executable, "-c", BARE]),
        "fit --help": Timed([*PROGRAM, "fit", "--help"], times_bare=1.1),
        "data check": Timed([*PROGRAM, "data", "check", "--config", CONFIG], 3.0),
        "data describe": Timed([*PROGRAM, "data", "describe", "--config", CONFIG], 3.0),
        "encode": Timed([*PROGRAM, "encode", "--ckpt_path", checkpoint], 3.0),
        "export": Timed([*PROGRAM, "export", "--ckpt_path", checkpoint, "--format", "safetensors", *output]),
        "plot": Timed([*PROGRAM, "plot", str(run)]),
        "predict": Timed([*PROGRAM, "predict", *of_run], 6.0),
        "audit": Timed([*PROGRAM, "audit", *of_run], 12.0),
        "init --help": Timed([*PROGRAM, "init", "--help"], 3.0),
        "update --help": Timed([*PROGRAM, "update", "--help"], 3.0),
        "monitor --help": Timed([*PROGRAM, "monitor", "--help"], 3.0),
        "judge --help": Timed([*PROGRAM, "judge", "--help"], 3.0),
        "roll --help": Timed([*PROGRAM, "roll", "--help"], times_bare=1.1),
    }


def cpu_seconds(words: list[str]) -> float:
    """User and system seconds of a process and its children, until it ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Times all commands, and prints each next to its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of a run of the quickstart; one epoch is trained by default")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or Path(folder) / "run"
        if given.run is None:
            cpu_seconds([*PROGRAM, "fit", "--config", CONFIG, "--run_dir", str(run), "--trainer.max_epochs", "1"])
        timed = commands(run)
        seconds = {name: float("inf") for name in timed}
        for _ in range(given.rounds):
            for name, command in timed.items():
                seconds[name] = min(seconds[name], cpu_seconds(command.words))
    missed = False
    for name, command in timed.items():
        goal = min(command.goal, command.times_bare * seconds[BARE])
        missed = missed or seconds[name] > goal
        verdict = "" if goal == NO_GOAL else f"  goal {goal:5.2f}  {'missed' if seconds[name] > goal else 'reached'}"
        print(f"{name:<30} {seconds[name]:6.2f} CPU s{verdict}")
    sys.exit(missed)


if __name__ == "__main__":
    main()
