"""Runs a folder of cases, and holds each against what is right: python -m tests.validity.cases FOLDER.

A case is a folder with inputs and `run.sh`, which calls the command line by `$CLI` and Python by `$PY` and prints
`rc=CODE` after each command. Its `expect.txt` is prose. What can be read off by a program is listed here by the number
of the case: the exit codes, what a message must say, and what it must never say. For every case, listed or not, no
command may end with a traceback, with exit code 1, or with a message of more than 400 letters.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_lstm.errors import MAX_LETTERS

SECONDS = 300  # that a case may take
RUNS, OR_DATA, OR_CONFIG, REFUSED = (0,), (0, 3), (0, 2), (2,)


@dataclass(frozen=True)
class Expected:
    """What is right in a case.

    Attributes:
        codes: Exit codes that are right, for each command that prints one.
        says: Patterns that the output must hold.
        never: Patterns that it must not hold.
    """

    codes: tuple[tuple[int, ...], ...] = ()
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


EXPECTED = {
    "01": Expected((OR_DATA, OR_DATA), ("160 rows|multi_level_index|three",), ("'Ticker' is no",)),
    "02": Expected(((3,),), ("E303",)),
    "03": Expected((OR_DATA,), never=("allow_ohlc",)),
    "04": Expected((OR_DATA,), (r"[\d,]+ rows|E3\d\d.*\d",)),
    "05": Expected(((3,),), (r"1970|ms|unit",)),
    "06": Expected((OR_DATA,), (r"header|rows",)),
    "07": Expected((OR_DATA, OR_DATA), (r"join|rows",), ("say which",)),
    "08": Expected((OR_DATA,), (r"rows|E304.*\$",)),
    "09": Expected((OR_DATA,), (r"rows|E304",)),
    "10": Expected((OR_DATA, RUNS)),
    "11": Expected((OR_DATA,), (r"rows|E305",)),
    "12": Expected((OR_DATA,), never=("index_col",)),
    "12c": Expected((OR_DATA, OR_DATA), never=("index_col",)),
    "13": Expected(((0, 2, 3), (0, 2, 3)), (r"rows|columns|symbol",)),
    "14": Expected((OR_DATA,), ("Name|rows",), ("keep one",)),
    "15": Expected((OR_DATA,), (r"162|rows",), ("date_format",)),
    "15b": Expected((OR_DATA, OR_DATA), never=("date_format",)),
    "17": Expected((RUNS, RUNS, RUNS)),
    "17c": Expected((OR_CONFIG, (0, 2, 3)), (r"rows|write",)),
    "19": Expected((RUNS,), ("300 rows",), ("gap", "move the dates of data.split")),
    "20": Expected((OR_DATA, OR_DATA), never=("not UTF-8 text",)),
    "21": Expected((RUNS, OR_DATA, RUNS)),
    "22": Expected((OR_DATA, RUNS)),
    "23": Expected(((3,), RUNS), ("on_short",)),
    "24": Expected((RUNS, RUNS)),
    "25": Expected((OR_DATA, OR_DATA, RUNS), (r"data\.source\.symbol|symbols: 1",)),
    "30": Expected((RUNS, REFUSED), ("total_steps",)),
    "31": Expected((OR_CONFIG,)),
    "31b": Expected((OR_CONFIG,)),
    "32": Expected((OR_CONFIG,), (r"max_steps|best val_loss",)),
    "33": Expected((OR_CONFIG, (0, 2, 4)), (r"validat",)),
    "34": Expected((RUNS,)),
    "35": Expected((RUNS,), (r"lr: 0\.001",)),
    "36": Expected(((3,), REFUSED), ("E322", "Classes")),
    "43": Expected((), ("E238.*cuda",)),
    "50": Expected((), (r"norm_obs_keys",)),
    "60": Expected((REFUSED,), ("val_check_interval",)),
    "60c": Expected((REFUSED,)),
    "61": Expected((OR_DATA,), (r"volume",), ("move the dates of data.split",)),
    "70": Expected((RUNS, RUNS), (r"deleted|restore",)),
    "71": Expected(((0, 2, 7),)),
}


def faults(output: str, expected: Expected) -> Iterator[str]:
    """What is wrong with the output of a case.

    Args:
        output: All that it printed.
        expected: What is right.
    """
    codes = [int(code) for code in re.findall(r"^rc=(\d+)$", output, re.MULTILINE)]
    # a script of the user's ends with our error, where the command line would have a line and an exit code
    refused = re.search(r"^cnn_lstm\.errors\.\w+: error\[E\d+\]", output, re.MULTILINE)
    crashed = "Traceback (most recent call last)" in output or 1 in codes
    if "error[E100]" in output or (crashed and not refused):
        yield f"a bug: {output.strip().splitlines()[-1][:200]}"
    for line in output.splitlines():
        if line.startswith(("error[", "warning: ")) and len(line) > MAX_LETTERS:
            yield f"{len(line)} letters: {line[:100]} ..."
    if expected.codes and len(codes) != len(expected.codes):
        yield f"exit codes {codes}, {len(expected.codes)} expected"
    for code, right in zip(codes, expected.codes, strict=False):
        if code not in right:
            yield f"exit code {code}, right: {' or '.join(map(str, right))}"
    yield from (f"it does not say {pattern!r}" for pattern in expected.says if not re.search(pattern, output))
    yield from (f"it says {pattern!r}" for pattern in expected.never if re.search(pattern, output))


def run_case(folder: Path, place: Path, cli: str, python: str) -> str:
    """Runs a copy of a case; returns its output.

    Args:
        folder: The case.
        place: Where it is copied to.
        cli: What is called for `cnn-lstm`.
        python: What is called for Python.
    """
    copy = place / folder.name
    shutil.copytree(folder, copy)
    environment = os.environ | {"CLI": cli, "PY": python}
    try:
        done = subprocess.run(
            ["bash", "run.sh"],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it hangs: more than {SECONDS} s\nrc=1"
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all cases of a folder; returns how many are not right.

    Args:
        argv: Arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(description="Runs a folder of cases.")
    parser.add_argument("folder", type=Path, help="folder of the cases; it is copied")
    parser.add_argument("names", nargs="*", help="beginnings of the names of the cases to run; all by default")
    parser.add_argument("--cli", default=f"{sys.executable} -m cnn_lstm", help="what is called for cnn-lstm")
    parser.add_argument("--python", default=sys.executable, help="what is called for Python")
    parser.add_argument("--show", action="store_true", help="print the output of each case that is not right")
    options = parser.parse_args(argv)
    chosen = tuple(options.names) or ("",)
    cases = sorted(path.parent for path in options.folder.glob("*/run.sh") if path.parent.name.startswith(chosen))
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        for case in cases:
            began = time.monotonic()
            output = run_case(case, Path(place), options.cli, options.python)
            expected = EXPECTED.get(case.name.split("-")[0], Expected())
            found = list(faults(output, expected))
            wrong += bool(found)
            print(f"{'WRONG' if found else 'right'}  {case.name}, {time.monotonic() - began:.0f} s", flush=True)
            for fault in found:
                print(f"       {fault}")
            if found and options.show:
                print(output)
    print(f"{len(cases) - wrong} of {len(cases)} right")
    return wrong


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
