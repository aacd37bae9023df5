"""What a disk may hold after a crash: files and names, of which the last ones may be lost.

A kill loses nothing that a process has handed to the system. A power cut may lose what was not flushed: bytes of a file
since its last fsync, and names since the last fsync of their folder; see Pillai et al., "All File Systems Are Not
Created Equal" (OSDI 2014), for what file systems really do.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash_points.trace import Operation

# what is lost: nothing (a kill); bytes; a part of them; bytes where the length is kept; names; names and bytes
LOSSES = ("nothing", "bytes", "torn bytes", "zeros", "names", "names and bytes")
PATIENCE = 10.0  # seconds
NAMES = ("make", "rename", "link", "symlink", "unlink", "mkdir", "rmdir")


@dataclass
class Disk:
    """Files by number, names by path.

    Attributes:
        content: Bytes of each file.
        names: File of each name; -1 is a folder.
        links: Text of each symlink.
    """

    content: dict[int, bytearray] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """A folder as it is; its files are numbered in the order of their names."""
        tree = read_tree(folder)
        files = [name for name, content in tree.items() if content is not None]
        disk = cls({number: bytearray(tree[name] or b"") for number, name in enumerate(files)})
        disk.names = {name: number for number, name in enumerate(files)}
        disk.names |= {name: -1 for name, content in tree.items() if content is None}
        return disk

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the files, by name."""
        return {name: len(self.content[number]) for name, number in self.names.items() if number >= 0}

    def apply(self, step: Operation) -> None:
        """Does an operation, as far as it still can be done."""
        if step.kind in NAMES:
            self._name(step)
        elif step.kind == "write":
            content = self.content.setdefault(step.file, bytearray())
            content.extend(bytes(max(0, step.at - len(content))))
            content[step.at : step.at + len(step.data)] = step.data
        elif step.kind == "truncate":
            content = self.content.setdefault(step.file, bytearray())
            del content[step.at :]
            content.extend(bytes(step.at - len(content)))

    def _name(self, step: Operation) -> None:
        names = self.names
        if step.kind == "make":
            self.content.setdefault(step.file, bytearray())
            names[step.path] = step.file
        elif step.kind == "mkdir":
            names[step.path] = -1
        elif step.kind == "symlink":
            self.links[step.path] = step.target
        elif step.kind == "link" and step.path in names:
            names[step.target] = names[step.path]
        elif step.kind in ("unlink", "rmdir"):
            names.pop(step.path, None)
            self.links.pop(step.path, None)
        elif step.kind == "rename":
            for name in [name for name in names if name == step.path or name.startswith(f"{step.path}/")]:
                names[step.target + name[len(step.path) :]] = names.pop(name)

    def tree(self) -> dict[str, bytes | None]:
        """Content by path, None for a folder; a name whose folder was lost is lost too."""
        tree: dict[str, bytes | None] = {}
        for name in sorted(self.names):
            parent = os.path.dirname(name)  # noqa: PTH120 - a text
            if not parent or tree.get(parent, b"") is None:
                number = self.names[name]
                tree[name] = None if number < 0 else bytes(self.content.get(number, b""))
        return tree


def with_copies(steps: Sequence[Operation], start: Disk, final: Mapping[str, bytes | None]) -> list[Operation]:
    """Steps whose copies from elsewhere are writes: their bytes are those that the file has in the end.

    Args:
        steps: The operations of a trace.
        start: The disk before.
        final: The folder after the command, see `Disk.tree`.
    """
    disk = Disk(dict(start.content), dict(start.names))
    for step in steps:
        if step.kind in NAMES:
            disk.apply(step)
    last = {number: final.get(name) or b"" for name, number in disk.names.items() if number >= 0}
    return [
        Operation("write", step.path, step.file, at=step.at, data=_copied(last.get(step.file, b""), step))
        if step.kind == "copy"
        else step
        for step in steps
    ]


def _copied(content: bytes, step: Operation) -> bytes:
    return content[step.at : step.at + step.size].ljust(step.size, b"\0")


def crashed(start: Disk, steps: Sequence[Operation], end: int, loss: str, seed: str) -> Disk:
    """The disk after the first steps and a crash.

    Args:
        start: The disk before.
        steps: All operations.
        end: How many were done.
        loss: One of `LOSSES`.
        seed: Decides what is lost, where several things may be.
    """
    chance = random.Random(seed)
    done = list(steps[:end])
    kept = [True] * end
    if "names" in loss:
        _lose_names(done, kept, chance)
    if "bytes" in loss or loss == "zeros":
        done = _lose_bytes(done, kept, loss, chance)
    disk = Disk({number: bytearray(content) for number, content in start.content.items()}, dict(start.names))
    for step, keep in zip(done, kept, strict=True):
        if keep:
            disk.apply(step)
    return disk


def _lose_names(done: Sequence[Operation], kept: list[bool], chance: random.Random) -> None:
    """Loses the names from some moment on that no later fsync of their folder covers."""
    unsynced, synced = [], set()
    for place in reversed(range(len(done))):
        step = done[place]
        if step.kind == "syncdir":
            synced.add("" if step.path == "." else step.path)
        elif step.kind in NAMES and not {_parent(step.path), _parent(step.target or step.path)} <= synced:
            unsynced.append(place)
    if unsynced:
        first = chance.choice(unsynced)
        for place in unsynced:
            kept[place] = kept[place] and place < first


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _lose_bytes(done: list[Operation], kept: list[bool], loss: str, chance: random.Random) -> list[Operation]:
    """Loses the writes after the last fsync of their file: all, those from some moment on, or their content."""
    last = {step.file: place for place, step in enumerate(done) if step.kind == "sync"}
    open_ends: dict[int, list[int]] = {}
    for place, step in enumerate(done):
        if step.kind in ("write", "truncate") and place > last.get(step.file, -1):
            open_ends.setdefault(step.file, []).append(place)
    changed = list(done)
    for places in open_ends.values():
        first = chance.randrange(len(places)) if loss == "torn bytes" else 0
        for place in places[first:]:
            step = done[place]
            if loss == "zeros":
                changed[place] = Operation(step.kind, step.path, step.file, at=step.at, data=bytes(len(step.data)))
            elif loss == "torn bytes" and place == places[first] and step.kind == "write":
                data = step.data[: chance.randrange(len(step.data))]
                changed[place] = Operation("write", step.path, step.file, at=step.at, data=data)
            else:
                kept[place] = False
    return changed


def write_tree(tree: Mapping[str, bytes | None], folder: Path) -> None:
    """Makes a folder hold a tree, and nothing else."""
    until = time.monotonic() + PATIENCE
    while folder.exists() and time.monotonic() < until:  # a child of the last command may still write there
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in tree.items():
        path = folder / name
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)


def read_tree(folder: Path) -> dict[str, bytes | None]:
    """The tree of a folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in paths}


def digest(tree: Mapping[str, bytes | None]) -> str:
    """A hash of names and content."""
    sha = hashlib.sha256()
    for name, content in tree.items():
        sha.update(f"{name}\0{-1 if content is None else len(content)}\0".encode())
        sha.update(content or b"")
    return sha.hexdigest()
