"""Random wrong inputs: python -m tests.fuzz --seed 0.

Whatever a user gives, a command ends with an exit code of the table, never with a bug of ours, never hangs, and says
what is wrong in lines of at most 400 letters without words of a program. Exits with 1 if one case does not.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from tests import experiments
from tests.fuzz import command_lines, configurations, tables
from tests.fuzz.judged import fresh, report, stdin_is_empty

MEMORY = 12 << 30  # of this process, so that a layer of absurd size fails here and harms nobody else


def main() -> int:
    """Runs all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description="Random wrong inputs.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--configurations", type=int, default=1000)
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--lines", type=int, default=150)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    stdin_is_empty()
    with tempfile.TemporaryDirectory() as name, chdir(name):
        here = Path(name)
        tree = configurations.base(fresh(here / "base"))
        faulty = report(
            "configuration",
            options.configurations,
            lambda number: configurations.case(number, options.seed, tree, here / "work"),
            options.first,
        )
        faulty += report(
            "table", options.tables, lambda number: tables.case(number, options.seed, here / "work"), options.first
        )
        if options.lines:
            config = here / "base" / "experiment.yaml"
            run = experiments.fit(config, here / "trained", "--quiet")
            known = command_lines.lines(run, config)
            faulty += report(
                "line",
                options.lines,
                lambda number: command_lines.case(number, options.seed, known, here),
                options.first,
            )
    return int(faulty > 0)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:  # a strategy of several processes starts this script again
        raise SystemExit(0)
    code = main()
    sys.stdout.flush()
    os._exit(code)
