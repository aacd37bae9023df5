"""`python -m tests.flips --seed 0 --number 400`: one flipped bit, or one cut, in every kind of file.

Each ends in the right result, a warning, or one line. A file that a user writes in a format without checksums can also
be silent; such kinds are marked with a star and counted apart. Exits with 1 where another kind was silent, or where an
error was none of ours.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import chdir
from pathlib import Path

from cnn_lstm.errors import CnnLstmError
from tests.flips.kinds import KINDS, Kind, make

ENDS = ("right", "warned", "refused", "earlier", "silent", "bug")


class _Heard(logging.Handler):
    """Collects what is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a warning."""
        self.said.append(record.getMessage())


def damaged(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """The content with one bit flipped, or cut; and what was done."""
    at = chance.randrange(len(content))
    if chance.random() < 0.25:
        return content[:at], f"cut at {at}"
    bit = 1 << chance.randrange(8)
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :], f"byte {at} ^ {bit}"


def heard(kind: Kind, folder: Path) -> tuple[str, list[str]]:
    """What a reader makes of a folder: its result, or its error; and the warnings."""
    ears = _Heard()
    logging.getLogger().addHandler(ears)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = kind.read(folder)
    except CnnLstmError as error:
        found = f"refused: {error}"
    except Exception as error:  # whatever a reader raises that is not ours is what is looked for
        found = f"bug: {type(error).__name__}: {error}"
    finally:
        logging.getLogger().removeHandler(ears)
    return found, ears.said + [str(one.message) for one in caught]


def cases(kind: Kind, numbers: Iterable[int], seed: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Damages a file again and again; how each case ended, and what was done and found."""
    expected, usual = heard(kind, folder)
    assert expected.split(":")[0] not in ("refused", "bug"), expected
    file = folder / kind.file
    whole = file.read_bytes()
    for number in numbers:
        content, what = damaged(whole, random.Random(f"{seed} {kind.name} {number}"))
        file.write_bytes(content)
        found, said = heard(kind, folder)
        file.write_bytes(whole)
        begin = found.split(":")[0]
        if found == expected:
            yield "right", what
        elif begin in ("refused", "bug"):
            yield begin, f"{what}: {found[:200]}"
        elif kind.grows and what.startswith("cut") and b"\n" in whole[max(0, len(content) - 1) : len(content) + 1]:
            yield "earlier", what
        else:
            yield ("warned" if set(said) - set(usual) else "silent"), what


def is_fault(kind: Kind, end: str) -> bool:
    """Whether a damaged file may not end so."""
    return end == "bug" or (end == "silent" and not kind.silent)


def main() -> int:
    """Damages files; returns the exit code."""
    parser = argparse.ArgumentParser(description="Bit flips and cuts.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, default=400)
    options = parser.parse_args()
    faults, totals = 0, {False: Counter[str](), True: Counter[str]()}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        make(Path(folder))
        for position, kind in enumerate(KINDS):
            each = len(range(position, options.number, len(KINDS)))
            ends = list(cases(kind, range(each), options.seed, Path(folder)))
            counts = Counter(end for end, _ in ends)
            totals[kind.silent] += counts
            print(
                f"{kind.name + '*' * kind.silent:<20}" + "".join(f"{end} {counts[end]:>3}   " for end in ENDS),
                flush=True,
            )
            for number, (end, what) in enumerate(ends):
                if is_fault(kind, end):
                    faults += 1
                    print(f"  {end}: {kind.name} {number}: {what}", flush=True)
    for silent, counts in totals.items():
        name = "users' files, without a checksum*" if silent else "files of ours, and Parquet with checksums"
        print(f"{counts.total()} damages of {name}: " + ", ".join(f"{counts[end]} {end}" for end in ENDS))
    return int(faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
