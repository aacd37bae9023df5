"""Refuses a change that makes this package slower: python -m tests.benchmarks.gate [--base COMMIT] [--pairs N].

The present tree and a base commit, in a work tree of its own, run the same measures in the same environment, in
processes that take turns. Compared is CPU time, by the median of the ratios of pairs. A measure has regressed where
that is above `BOUND` and at least three quarters of the pairs are slower. The end is 1 then, unless
`benchmarks-accepted.toml` accepts it:

    [[accepted]]
    measure = "predict"      # as the table names it
    commit = "1a2b3c4"       # which made it slower; it lies between base and present
    ratio = 1.2              # up to which it is accepted
    why = "each forecast has an interval now"
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.fit_cost import HERE, fit
from tests.benchmarks.throughput import TINY

BOUND = 1.10
ACCEPTED = HERE / "benchmarks-accepted.toml"
STEPS = {"step of the tiny network": [word.removeprefix("--") for word in TINY], "step of the default network": []}
# runs in either tree; a base without one of these names is too old to be compared with
CHILD = """
import json, sys, time
from pathlib import Path
import torch
from tests.benchmarks.setup import measure, write_prices
from tests.benchmarks.stream import ROWS, TESTED, milliseconds, predictor_of, streamed
from tests.markets import walk
torch.set_num_threads(1)
prices = Path(sys.argv[1], "prices.parquet")
write_prices(prices, 500, 600)
seconds = {"panel of 500 symbols": measure(str(prices), str(Path(sys.argv[1], "cache")))[0]}
table = walk(ROWS, "S000", 0)
predictor = predictor_of(table, TESTED)
bars = sorted(streamed(predictor, 1, 60)[0])
seconds["streamed bar"] = bars[len(bars) // 2] / 1e3
seconds["predict"] = min(milliseconds(lambda: predictor.predict(table)) for _ in range(3)) / 1e3
Path(sys.argv[1], "seconds.json").write_text(json.dumps(seconds))
"""
MEASURES = [*STEPS, "panel of 500 symbols", "streamed bar", "predict"]


@dataclass(frozen=True)
class Acceptance:
    """A regression that somebody has accepted in writing; see the head of this file."""

    measure: str
    commit: str
    ratio: float
    why: str

    def __post_init__(self) -> None:
        if self.measure not in MEASURES or len(self.commit) < 7 or self.ratio <= 1 or not self.why.strip():
            raise ValueError(
                f"{ACCEPTED.name}: {self}: give a measure of the table, a commit, a ratio above 1, and why"
            )

    def covers(self, measure: str, ratio: float, commits: Sequence[str]) -> bool:
        """Whether it speaks of this ratio, by one of the commits since the base."""
        named = any(commit.startswith(self.commit) for commit in commits)
        return self.measure == measure and named and ratio <= self.ratio


def acceptances(text: str) -> list[Acceptance]:
    """What the file of acceptances says.

    Raises:
        ValueError: If an acceptance is not complete.
    """
    try:
        return [Acceptance(**one) for one in tomllib.loads(text).get("accepted", [])]
    except TypeError as error:
        raise ValueError(f"{ACCEPTED.name}: {error}") from error


def regressed(now: Sequence[float], before: Sequence[float]) -> tuple[float, bool]:
    """Median of the ratios of pairs, and whether it is a regression."""
    ratios = [a / b for a, b in zip(now, before, strict=True)]
    slower = sum(ratio > 1 for ratio in ratios) >= 0.75 * len(ratios)
    return statistics.median(ratios), statistics.median(ratios) > BOUND and slower


def refused(
    now: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]], accepted: Sequence[Acceptance],
    commits: Sequence[str],
) -> list[str]:  # fmt: skip
    """Prints the table; the measures that have regressed and that nobody has accepted.

    Args:
        now: Seconds by measure, of each pair.
        before: The same of the base.
        accepted: What is accepted.
        commits: Whole names of the commits since the base.
    """
    names = []
    for measure in MEASURES:
        ratio, slower = regressed([pair[measure] for pair in now], [pair[measure] for pair in before])
        reasons = [one.why for one in accepted if one.covers(measure, ratio, commits)]
        verdict = "" if not slower else f"slower, accepted: {reasons[0]}" if reasons else "SLOWER"
        print(f"{measure:<30} {ratio:5.2f} of the base (bound {BOUND})  {verdict}".rstrip())
        names += [measure] * (slower and not reasons)
    return names


def measured(tree: Path) -> dict[str, float]:
    """CPU seconds of each measure in a tree, each once, in processes of their own."""
    seconds = {}
    for name, options in STEPS.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds[name] = fit(tree, 3, options, Path(folder))["step"][1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-P", "-c", CHILD, folder], cwd=tree, env=environment, check=True)
        others: dict[str, float] = json.loads(Path(folder, "seconds.json").read_text())
        return seconds | others


def git(*words: str) -> str:
    """What git answers about this checkout."""
    return subprocess.run(["git", *words], cwd=HERE, check=True, text=True, capture_output=True).stdout.strip()


@contextmanager
def work_tree(commit: str) -> Iterator[Path]:
    """Files of a commit, in a folder that is removed again."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "base")
        git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def main() -> int:
    """Compares, and prints each measure; 1 if one is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="HEAD^", help="commit to compare with")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    accepted = acceptances(ACCEPTED.read_text(encoding="utf-8"))
    base = git("merge-base", "HEAD", given.base)
    times: dict[Path, list[dict[str, float]]] = {}
    with work_tree(base) as tree:
        for pair in range(given.pairs):
            for version in (HERE, tree)[:: -1 if pair % 2 else 1]:
                times.setdefault(version, []).append(measured(version))
        names = refused(times[HERE], times[tree], accepted, git("rev-list", f"{base}..HEAD").split())
    print(
        f"slower than {base[:7]}: {', '.join(names)}; see CONTRIBUTING.md" if names else f"not slower than {base[:7]}"
    )
    return int(bool(names))


if __name__ == "__main__":
    sys.exit(main())
