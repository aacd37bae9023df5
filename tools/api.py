"""Compares the public API with that of the last release, by griffe: `make api`.

Public is what cnn_lstm/__init__.py names. With a tag, griffe compares the code of the tag; without one, the file
tools/api.txt, which `python tools/api.py --write` makes anew at a release, stands for it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

import cnn_lstm

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_suffix(".txt")
REQUIRED = "required"


def homes() -> dict[str, str]:
    """Where each public name is defined, by its name."""
    named = {name: f"{module}.{name}" for name, module in cnn_lstm._HOMES.items()}
    return named | dict(cnn_lstm._MODULES) | {"trust": "cnn_lstm.specs.trust"}


def lines(package: griffe.Module) -> list[str]:
    """The public API: a line for each name, each method, and each parameter with its default."""
    return sorted({line for name, path in homes().items() for line in _of(name, _found(package, path))})


def _found(package: griffe.Module, path: str) -> griffe.Object | griffe.Alias:
    found = package[path.removeprefix("cnn_lstm.")]
    return found.final_target if isinstance(found, griffe.Alias) else found


def _of(name: str, thing: griffe.Object | griffe.Alias) -> Iterator[str]:
    yield name
    if thing.is_function:
        for parameter in thing.parameters:  # type: ignore[union-attr]  # a function has them
            if parameter.name != "self" and not str(parameter.kind).startswith("var"):
                yield f"{name}({parameter.name}) {REQUIRED if parameter.default is None else parameter.default}"
    elif thing.is_class:
        for member in thing.all_members.values():
            public = member.name == "__init__" or not member.name.startswith("_")
            if public and not (member.is_alias and not member.target_path.startswith("cnn_lstm")):
                inner = name if member.name == "__init__" else f"{name}.{member.name}"
                yield from _of(inner, member.final_target if isinstance(member, griffe.Alias) else member)
    elif thing.is_module:
        yield from (f"{name}.{exported}" for exported in thing.exports or ())


def breaks(before: list[str], after: list[str]) -> list[str]:
    """What stops a program that ran: names that are gone, other defaults, and new arguments that have to be given.

    Args:
        before: The lines of an API.
        after: Those of now.
    """
    old, new = (dict(line.partition(" ")[::2] for line in side) for side in (before, after))
    gone = [f"{name} is gone" for name in old if name not in new]
    changed = [
        f"{name} was {value} by default, and is {new[name]}"
        for name, value in old.items()
        if name in new and value not in (new[name], REQUIRED)
    ]
    asked = [
        f"{name} is new, and has to be given"
        for name, value in new.items()
        if value == REQUIRED and name not in old and name.partition("(")[0] in old
    ]
    return gone + changed + asked


def last_tag() -> str:
    """The newest tag before this commit; empty without any."""
    done = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def loaded() -> griffe.Module:
    """The package as it is."""
    package = griffe.load("cnn_lstm", search_paths=[ROOT], resolve_aliases=True, resolve_external=False)
    assert isinstance(package, griffe.Module)
    return package


def main(argv: list[str]) -> int:
    """Prints what broke; returns 1 if anything did."""
    after = lines(loaded())
    if argv == ["--write"]:
        FILE.write_text("\n".join(after) + "\n", encoding="utf-8")
        return 0
    tag = last_tag()
    if tag:
        old = griffe.load_git("cnn_lstm", ref=tag, repo=ROOT, resolve_aliases=True, resolve_external=False)
        assert isinstance(old, griffe.Module)
        before = lines(old)
    else:
        before = FILE.read_text(encoding="utf-8").splitlines()
    found = breaks(before, after)
    print("\n".join(found) or f"nothing broke since {tag or FILE.name}: {len(after)} lines")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
