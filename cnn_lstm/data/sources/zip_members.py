"""Zip files as folders: each table in one has a path of its own, such as `prices.zip/ACME.csv`."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cnn_lstm.errors import DataError
from cnn_lstm.hints import first_names

TABLE = re.compile(r".+\.(csv|tsv|txt|parquet|pq|feather|ftr|arrow)(\.gz)?", re.IGNORECASE)
# files that packers and systems add
CLUTTER = re.compile(r"(.*/)?(__MACOSX/.*|\..*|thumbs\.db|desktop\.ini)", re.IGNORECASE)
NOTE = re.compile(r"(.*/)?(read[-_ ]?me|licen[cs]e|copying|notice)(?![a-z])[^/]*(?<!\.csv)(?<!\.tsv)", re.IGNORECASE)


@dataclass(frozen=True)
class Archive:
    """A zip file.

    Attributes:
        file: The zip file, open.
        tables: Its tables by their paths; one that is the only file has the path of the zip file.
        others: Names of the files that are neither such tables nor notes for people.
    """

    file: zipfile.ZipFile
    tables: dict[Path, zipfile.ZipInfo]
    others: list[str]

    @property
    def expanded(self) -> int:
        """Bytes of all tables, unpacked; `zipfile` never reads more of a file than its header says."""
        return sum(info.file_size for info in self.tables.values())


_held: ContextVar[dict[Path, Archive] | None] = ContextVar("archives that stay open", default=None)


@contextmanager
def archives_stay_open() -> Iterator[None]:
    """Keeps zip files open in here: each opening reads the names of all files again, which thousands of them feel."""
    held: dict[Path, Archive] = {}
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)
        for archive in held.values():
            archive.file.close()


@contextmanager
def archive_of(path: Path) -> Iterator[Archive]:
    """A zip file, open.

    Args:
        path: The zip file.

    Raises:
        DataError: E305, if it holds none of the tables that are read.
        zipfile.BadZipFile: If it is damaged.
    """
    held = _held.get()
    if held is None:
        with zipfile.ZipFile(path) as file:
            yield _archive(file, path)
        return
    if path not in held:
        with zipfile.ZipFile(path) as probe:
            _archive(probe, path)
        held[path] = _archive(zipfile.ZipFile(path), path)
    yield held[path]


def file_on_disk(path: Path) -> Path:
    """The zip file that a path leads into, or the path itself.

    Example:
        >>> file_on_disk(Path("prices.csv")).name
        'prices.csv'
    """
    if path.exists():
        return path
    return next((above for above in path.parents if above.is_file()), path)


def _archive(file: zipfile.ZipFile, path: Path) -> Archive:
    """The tables of a zip file; what was meant for people, or for another system, is left alone."""
    visible: dict[str, zipfile.ZipInfo] = {}
    for info in file.infolist():
        if info.is_dir() or CLUTTER.fullmatch(name := _plain(info.filename)):
            continue
        if name in visible:
            what = f"a zip file with several files of the name {name}"
            raise DataError(what, str(path), "unpack it, and name the files", code=305)
        visible[name] = info
    if "[Content_Types].xml" in visible:
        raise DataError("an Excel workbook", str(path), "save it as CSV UTF-8", code=305)
    if len(visible) == 1:
        return Archive(file, {path: next(iter(visible.values()))}, [])
    names = [name for name in visible if not NOTE.fullmatch(name)]
    found = sorted(name for name in names if TABLE.fullmatch(name))
    plain = [name for name in found if not name.lower().endswith(".txt")]  # a text next to them describes them
    tables = {path / name: visible[name] for name in plain or found}
    if not tables:
        what = f"a zip file of {len(visible)} files, none of them a table ({first_names(list(visible), most=3)})"
        raise DataError(what, str(path), "unpack it, and name the files", code=305)
    return Archive(file, tables, [name for name in names if path / name not in tables])


def _plain(name: str) -> str:
    """A name that leads below the zip file, whatever the packer wrote."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("/", "//", "..") and not part.endswith(":"))
