"""What a command does to the files of a folder, by `strace`: one operation per system call, in order.

The calls come from several processes and threads. Each process has a table of open files; a fork copies the table,
and copies of a descriptor share one position, as in the kernel.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")
CALLS = (
    *("open", "openat", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("write", "writev", "pwrite64", "pwritev", "sendfile", "copy_file_range", "ftruncate", "truncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("symlink", "symlinkat", "fsync", "fdatasync", "clone", "clone3", "fork", "vfork"),
)
FORKS = ("clone", "clone3", "fork", "vfork")
LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. \w+ resumed>|(?P<name>\w+)\()(?P<text>.*)")
RESULT = re.compile(r" = (-?\d+)")  # all texts are written as hexadecimal bytes, so that none holds this
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
DESCRIPTOR = re.compile(r"(\d+)<")
FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")


@dataclass(frozen=True)
class Operation:
    """A change of a folder.

    Attributes:
        kind: make, write, copy, truncate, rename, link, symlink, unlink, mkdir, rmdir, sync or syncdir.
        path: What is changed, relative to the folder; of a file that is open, its name when it was opened.
        file: Number of the file, where it is open or made; it stays the same under another name.
        target: New name of a rename or link; the text of a symlink.
        at: First byte of a write; length of a truncate.
        data: Bytes of a write.
        size: Bytes of a copy from elsewhere, which the trace does not show.
    """

    kind: str
    path: str
    file: int = -1
    target: str = ""
    at: int = 0
    data: bytes = b""
    size: int = 0


@dataclass
class Opened:
    """An open file of a process."""

    path: Path
    file: int
    position: int = 0
    appends: bool = False


def traced(argv: Sequence[str], folder: Path, environment: dict[str, str], trace: Path) -> int:
    """Runs a program under `strace`, in a folder; returns its exit code."""
    assert STRACE is not None
    calls = ["-f", "-y", "-xx", "-s", "1000000000", "-e", f"trace={','.join(CALLS)}", "-e", "signal=none"]
    command = [STRACE, "--seccomp-bpf", *calls, "-o", str(trace), *argv]
    with trace.with_suffix(".log").open("wb") as log:
        return subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False).returncode


def operations(trace: Path, folder: Path, sizes: Mapping[str, int]) -> list[Operation]:
    """The operations of a trace in a folder.

    Args:
        trace: The file that `strace` wrote.
        folder: The folder.
        sizes: Bytes of the files that lay there before, by their names; their places in the order are their numbers.
    """
    calls = list(calls_of(trace))
    reader = TraceReader(folder, {value: (pid, text) for pid, name, text, value in calls if name in FORKS})
    reader.existing(sizes)
    return [operation for call in calls for operation in reader.read(*call)]


def calls_of(trace: Path) -> Iterator[tuple[int, str, str, int]]:
    """Process, name, arguments and result of each call that succeeded, in the order in which they ended.

    A descriptor is free, and may be another thread's, as soon as its `close` begins.
    """
    begun: dict[int, tuple[str, str]] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            match = LINE.match(line)
            if match is None:
                continue
            pid, name, text = int(match["pid"]), match["name"], match["text"].rstrip()
            if text.endswith("<unfinished ...>"):
                if name == "close":
                    yield pid, name, text, 0
                    continue
                begun[pid] = name, text.removesuffix("<unfinished ...>")
                if name in FORKS:
                    yield pid, "begins", text, 0
                continue
            if name is None:
                if pid not in begun:
                    continue
                name, start = begun.pop(pid)
                text = start + text
            result = RESULT.search(text, max(0, text.rfind(" = ")))
            if result is not None and int(result[1]) >= 0:
                yield pid, name, text, int(result[1])


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


class TraceReader:
    """Turns calls into operations of one folder.

    Args:
        folder: The folder.
        parents: Who made a process or thread, and the arguments of that call, by its number: it may do something
            before the call of its parent ends.
    """

    def __init__(self, folder: Path, parents: Mapping[int, tuple[int, str]]) -> None:
        self.folder, self.parents = folder, parents
        self.tables: dict[int, dict[int, Opened]] = {}
        self.numbers: dict[Path, int] = {}  # of the files that have a name now
        self.sizes: dict[int, int] = {}
        self.made = 0
        self.forking: dict[int, dict[int, Opened]] = {}  # open files of who is making a process

    def read(self, pid: int, name: str, text: str, value: int) -> Iterator[Operation]:
        """The operations of a call, if it concerns the folder."""
        table = self._table(pid)
        if name == "begins":
            self.forking[pid] = dict(table)
        elif name in FORKS:
            self._table(value)
            self.forking.pop(pid, None)
        elif name in ("open", "openat", "creat"):
            yield from self._open(table, text, value, name == "creat")
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            yield from self._rename(text, "link" if name.startswith("link") else "rename")
        elif name in ("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "truncate"):
            yield from self._named(name, text)
        elif name in ("symlink", "symlinkat"):
            words = [_bytes(word).decode() for word in TEXT.findall(text)]
            if (path := self._inside(Path(words[-1]))) is not None:
                yield Operation("symlink", path, target=words[0])
        elif name in CALLS and text[:1].isdigit():
            yield from self._descriptor(table, name, text, value)

    def _table(self, pid: int) -> dict[int, Opened]:
        """The open files of a process or thread; a new one has those of its parent."""
        if pid not in self.tables:
            parent, text = self.parents.get(pid, (None, ""))
            if parent is None:
                self.tables[pid] = {}
            elif "CLONE_FILES" in text:
                self.tables[pid] = self._table(parent)
            else:
                self.tables[pid] = dict(self.forking.get(parent, self._table(parent)))
        return self.tables[pid]

    def _inside(self, path: Path) -> str | None:
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) and path != self.folder else None

    def _path(self, text: str, which: int = 0) -> Path:
        """A path among the arguments of a call; a relative one starts in the folder that the call names, or in ours."""
        given = Path(_bytes(TEXT.findall(text)[which]).decode(errors="replace"))
        bases = FOLDER.findall(text.partition('"')[0] if which == 0 else text)
        base = Path(_bytes(bases[min(which, len(bases) - 1)]).decode(errors="replace")) if bases else self.folder
        return base / given

    def _open(self, table: dict[int, Opened], text: str, value: int, creat: bool) -> Iterator[Operation]:
        path = self._path(text)
        if not path.is_relative_to(self.folder):
            table.pop(value, None)
            return
        flags = text.rpartition('"')[2]
        number = self.numbers.get(path, -1)
        new = number < 0 and (creat or "O_CREAT" in flags)
        if new:
            number = self._number(path)
            yield Operation("make", str(path.relative_to(self.folder)), number)
        elif number >= 0 and (creat or "O_TRUNC" in flags) and self.sizes[number]:
            self.sizes[number] = 0
            yield Operation("truncate", str(path.relative_to(self.folder)), number)
        table[value] = Opened(path, number, appends="O_APPEND" in flags)

    def _number(self, path: Path) -> int:
        self.numbers[path] = self.made
        self.sizes[self.made] = 0
        self.made += 1
        return self.made - 1

    def existing(self, sizes: Mapping[str, int]) -> None:
        """Numbers the files that lie in the folder before the command, in this order; bytes by name."""
        for name, size in sizes.items():
            self.sizes[self._number(self.folder / name)] = size

    def _rename(self, text: str, kind: str) -> Iterator[Operation]:
        old, new = self._path(text, 0), self._path(text, 1)
        inside = self._inside(old), self._inside(new)
        if inside == (None, None):
            return
        assert None not in inside, f"{old} -> {new} crosses the border of the folder"
        under = {path: number for path, number in self.numbers.items() if path.is_relative_to(old)}
        for path, number in under.items():  # of a folder, all that lies in it
            self.numbers[new / path.relative_to(old)] = number
            if kind == "rename":
                del self.numbers[path]
        yield Operation(kind, inside[0] or "", target=inside[1] or "")

    def _named(self, name: str, text: str) -> Iterator[Operation]:
        path = self._path(text)
        if (inside := self._inside(path)) is None:
            return
        if name == "truncate":
            yield Operation("truncate", inside, self.numbers[path], at=int(text.rpartition(", ")[2].partition(")")[0]))
        elif name.startswith("mkdir"):
            yield Operation("mkdir", inside)
        elif name == "rmdir" or "AT_REMOVEDIR" in text:
            yield Operation("rmdir", inside)
        else:
            yield Operation("unlink", inside, self.numbers.pop(path, -1))

    def _descriptor(self, table: dict[int, Opened], name: str, text: str, value: int) -> Iterator[Operation]:
        """Calls on an open file."""
        number = int(DESCRIPTOR.findall(text)[1 if name == "copy_file_range" else 0])
        if name == "close":
            table.pop(number, None)
        elif name in ("dup", "dup2", "dup3") or (name == "fcntl" and "F_DUPFD" in text):
            if number in table:
                table[value] = table[number]
            else:
                table.pop(value, None)
        elif number in table:
            opened = table[number]
            if name == "lseek":
                opened.position = value
            else:
                yield from self._change(opened, name, text, value)

    def _change(self, opened: Opened, name: str, text: str, value: int) -> Iterator[Operation]:
        inside, number = str(opened.path.relative_to(self.folder)), opened.file
        if name in ("fsync", "fdatasync"):
            yield Operation("sync" if number >= 0 else "syncdir", inside, number)
        elif name in ("ftruncate", "fallocate"):
            length = int(text.rpartition(", ")[2].partition(")")[0])
            self.sizes[number] = length
            yield Operation("truncate", inside, number, at=length)
        elif name in ("write", "writev", "pwrite64", "pwritev", "sendfile", "copy_file_range") and value:
            positioned = name.startswith("pwrite")
            at = int(text.rpartition(", ")[2].partition(")")[0]) if positioned else opened.position
            at = self.sizes[number] if opened.appends else at
            if not positioned:
                opened.position = at + value
            self.sizes[number] = max(self.sizes[number], at + value)
            if name in ("sendfile", "copy_file_range"):
                yield Operation("copy", inside, number, at=at, size=value)
            else:
                data = b"".join(_bytes(part) for part in TEXT.findall(text))[:value]
                yield Operation("write", inside, number, at=at, data=data)
