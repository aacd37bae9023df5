"""`make mutation`: the share of small faults in data/, evaluation/ and the contract of the model that the tests see.

Three files have all their mutants run, the others a drawn sample. Each mutant runs in a fork with the tests that call
its function. Outcomes are kept in mutants/: a second run goes on, and runs again only what survived.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.stats import binomtest

from tools.mutation.forks import Outcome, Record, outcome, recorded, warm_up
from tools.mutation.mutants import Mutant, Source, drawn

ROOT = Path(__file__).parents[2]
COPY = ROOT / "mutants"
ROOMS = ("cnn_lstm/data/**/*.py", "cnn_lstm/evaluation/**/*.py", "cnn_lstm/model/contract.py")
COMPLETE = ("cnn_lstm/evaluation/significance.py", "cnn_lstm/data/spans.py", "cnn_lstm/data/splits.py")
TESTS = (
    "cnn_lstm/data",
    "cnn_lstm/evaluation",
    "cnn_lstm/model/contract.py",
    "tests/data",
    "tests/evaluation",
    "tests/model/test_contract.py",
    "tests/model/test_checkpoints.py",
    "tests/model/test_crafted.py",
    "tests/validity",
)
COPIED = ("cnn_lstm", "tests", "configs", "docs", "tools", "pyproject.toml", "README.md", "CHANGELOG.md")
LEAST = 0.85


@dataclass(frozen=True)
class Result:
    """What the tests said of one mutant.

    Attributes:
        mutant: The mutant.
        outcome: What it did.
        drawn: Whether it belongs to the sample that the score is of.
    """

    mutant: Mutant
    outcome: Outcome
    drawn: bool

    @property
    def seen(self) -> bool:
        """Whether a test sees it."""
        return self.outcome in ("killed", "timeout")


def made(number: int, seed: int, complete: Sequence[str]) -> tuple[list[tuple[Mutant, bool]], int]:
    """Copies the checkout and writes the mutants into the copy.

    Args:
        number: Mutants of the sample.
        seed: Seed of the sample.
        complete: Files of which all mutants are wanted.

    Returns:
        The mutants, those of the sample first, each with whether it belongs to it; and how many there are in all.
    """
    _copy()
    files = sorted(_files() if number else complete)
    sources = {file: Source(file, ROOT) for file in files}
    sizes = {file: len(source.mutants) for file, source in sources.items()}
    sample = drawn(sizes, number, seed)
    mutants = []
    for file, source in sources.items():
        places = list(range(sizes[file])) if file in complete else sample[file]
        if places:
            written = source.written(places, COPY)
            mutants += [(mutant, place in sample[file]) for place, mutant in written]
    first = {file: place for place, file in enumerate(complete)}
    mutants.sort(key=lambda one: (not one[1], first.get(one[0].file, len(first))))
    return mutants, sum(sizes.values())


def _copy() -> None:
    for name in COPIED:
        source, copy = ROOT / name, COPY / name
        if source.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy)


def _files() -> set[str]:
    return {str(path.relative_to(ROOT)) for room in ROOMS for path in ROOT.glob(room)}


def tried(mutants: Sequence[tuple[Mutant, bool]], record: Record, patience: float) -> list[Result]:
    """Runs the mutants one after the other; those that an earlier run killed stay killed.

    Args:
        mutants: The mutants, and whether each is in the sample.
        record: What the tests do where nothing is changed.
        patience: Seconds of CPU after which a mutant gets no further test.

    Raises:
        SystemExit: The first tests of all mutants do not pass where nothing is changed.
    """
    kept = COPY / "outcomes.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    known = {json.dumps(line["mutant"]): line["outcome"] for line in map(json.loads, lines)}
    chosen = {test for mutant, _ in mutants for test in record.chosen(mutant.function, Path(mutant.file).stem, 0)}
    if outcome("", sorted(chosen), sum(record.seconds[test] for test in chosen)) != "survived":
        raise SystemExit("a test fails in a fork, although nothing is changed: every mutant would count as seen")
    results = []
    with kept.open("a", encoding="utf-8") as file:
        for place, (mutant, is_drawn) in enumerate(mutants):
            found = known.get(json.dumps(asdict(mutant)))
            if found not in ("killed", "timeout"):
                module = Path(mutant.file).stem
                tests = record.chosen(mutant.function, module, patience)
                found = outcome(mutant.name, tests, sum(record.seconds[test] for test in tests))
                file.write(json.dumps({"mutant": asdict(mutant), "outcome": found}) + "\n")
                file.flush()
                print(f"{place + 1}/{len(mutants)} {found}: {mutant}", flush=True)
            results.append(Result(mutant, found, is_drawn))
    return results


def _share(results: Sequence[Result]) -> str:
    killed = sum(result.seen for result in results)
    interval = binomtest(killed, len(results)).proportion_ci(method="wilson")
    kinds = Counter(result.outcome for result in results)
    parts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    share = f"{killed / len(results):.1%} of {len(results)} ({parts})"
    return f"{share}; 95 % interval {interval.low:.1%} to {interval.high:.1%}"


def main(argv: Sequence[str]) -> int:
    """Makes the mutants, runs them, prints the score and what survived."""
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument("--number", type=int, default=400, help="mutants of the sample; 0: only the files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--patience", type=float, default=60, help="CPU seconds of tests for one mutant")
    parser.add_argument("--files", nargs="*", default=COMPLETE, help="files of which all mutants are run")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="tests that may see them")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.files) - _files()):
        parser.error(f"--files: {', '.join(unknown)}: not in {', '.join(ROOMS)}")
    COPY.mkdir(exist_ok=True)
    mutants, total = made(options.number, options.seed, options.files)
    print(
        f"{total} mutants in all; {sum(is_drawn for _, is_drawn in mutants)} drawn, {len(mutants)} to run", flush=True
    )
    warm_up(COPY, options.tests)
    record = recorded(options.tests, {mutant.function for mutant, _ in mutants}, COPY / "records")
    results = tried(mutants, record, options.patience)
    for file in options.files:
        print(f"{file}: {_share([one for one in results if one.mutant.file == file])}")
    for result in results:
        if not result.seen:
            print(f"{result.outcome}: {result.mutant}")
    scored = [one for one in results if one.drawn] or results
    print(f"{f'the sample, seed {options.seed}' if options.number else 'all'}: {_share(scored)}")
    return int(sum(one.seen for one in scored) < LEAST * len(scored))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
