"""`make bench`: all benchmarks, one after the other; python -m tests.benchmarks [NAME ...] for some of them.

`--markdown FILE` also writes what they print as a page, with the date and the machine; see docs/performance.md.

Each prints its figures next to their goals. The end names those that missed one, and is 1 then. Nothing else should run
on the machine meanwhile: most figures are CPU time or ratios of one run, which other work spoils less than the clock.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="page that is written")
    given = parser.parse_args()
    machine, printed, missed = machine_text(), dict[str, str](), []
    for name in given.names or BENCHMARKS:
        print(f"== {name}: {BENCHMARKS[name]}", flush=True)
        printed[name], failed = ran(name)
        missed += [name] * failed
    end = f"missed a goal: {', '.join(missed)}" if missed else "all goals are reached"
    print(end)
    if given.markdown is not None:
        given.markdown.write_text(page(machine, printed, end), encoding="utf-8")
    return int(bool(missed))


def ran(name: str) -> tuple[str, bool]:
    """What a benchmark prints, which is shown as it comes, and whether it missed a goal."""
    words = [sys.executable, "-u", "-m", f"tests.benchmarks.{name}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines), bool(process.returncode)


def machine_text() -> str:
    """Date, processor, its load by other work, and the versions that were measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    load = f", load before it {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: nothing was run on CUDA"
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%d %B %Y %H:%M} UTC; {os.cpu_count()} cores of {model}{load}; {versions}; {gpu}."


def page(machine: str, printed: Mapping[str, str], end: str) -> str:
    """The page of a run.

    Args:
        machine: Where and when it was.
        printed: What each benchmark printed, by its name.
        end: The verdict on all.
    """
    parts = [f"## {name}\n\n{BENCHMARKS[name]}\n\n```text\n{text.rstrip()}\n```\n" for name, text in printed.items()]
    return "\n".join([f"# What `make bench` printed\n\n{machine} The verdict: {end}.\n", *parts])


if __name__ == "__main__":
    sys.exit(main())
