"""`make bench`: all benchmarks, one after the other; python -m tests.benchmarks [NAME ...] for some of them.

Each prints its figures next to their goals. The end names those that missed one, and is 1 then. Nothing else should run
on the machine meanwhile: most figures are CPU time or ratios of one run, which other work spoils less than the clock.
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "network": "the network's own speed, next to plain layers and to a matrix product",
    "throughput": "a fit next to a bare loop",
    "commands": "the start of the commands",
    "stream": "one bar, one evening",
    "data_path": "windows per second, and memory",
    "setup": "data set-up, cold and warm",
    "sources": "sources next to each other",
    "outputs": "forecasts written in blocks",
    "report": "the report",
    "anytime": "false evidence and power by monthly looks",
    "audit": "the audit",
    "sweep": "trials of a sweep",
    "warm_start": "processes that start warm",
    "market_env": "the trading environment",
}


def main() -> int:
    """Runs them; 1 if one missed a goal."""
    missed = []
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"== {name}: {BENCHMARKS[name]}", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=False).returncode:
            missed.append(name)
    print(f"missed a goal: {', '.join(missed)}" if missed else "all goals are reached")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
