"""Files as bytes: found by their names, guarded, unpacked, and Arrow files read; nothing is unpickled.

`text_table.py` reads the cells of text files.
"""

from __future__ import annotations

import glob
import gzip
import io
import logging
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import pandas as pd
import pyarrow as pa

from cnn_lstm.data.sources.arrow_files import MAX_COLUMNS, MIB, TooLargeError, most_bytes, read_feather, read_parquet
from cnn_lstm.data.sources.zip_members import archive_of, file_on_disk
from cnn_lstm.errors import DataError
from cnn_lstm.hints import first_names

log = logging.getLogger(__name__)
PARQUET, FEATHER = b"PAR1", b"ARROW1"
GZIP, ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
UNPACK, AS_CSV = "unpack it, or pack it with gzip or zip", "save it as CSV UTF-8"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # the marks at the beginning of a text
# first bytes of what is not a table of text: what it is, and what to do
FOREIGN: dict[bytes, tuple[str, str]] = {
    b"BZh": ("packed with bzip2", UNPACK),
    b"\xfd7zXZ": ("packed with xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", UNPACK),
    b"7z\xbc\xaf": ("packed with 7-Zip", UNPACK),
    b"Rar!": ("packed with rar", UNPACK),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", AS_CSV),
    b"\x89HDF": ("an HDF5 file", "write Parquet or CSV"),
    b"SQLite format 3": ("an SQLite database", "write its table to Parquet or CSV"),
    b"FEA1": ("a Feather file of version 1", "write Parquet or CSV"),
    b"\x93NUMPY": ("a NumPy array", "write Parquet or CSV"),
    b'{"': ("JSON", "write Parquet or CSV"),
    b"[{": ("JSON", "write Parquet or CSV"),
    b"[[": ("JSON", "write Parquet or CSV"),
    b"<!": ("a web page", "download the file again"),
    b"<html": ("a web page", "download the file again"),
    b"<?xml": ("XML", AS_CSV),
    GZIP: ("packed twice", "unpack it once"),
    ZIP[0]: ("packed twice", "unpack it once"),
}


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns name, each once; a zip file of several tables stands for them."""
    return list(dict.fromkeys(table for file in named_files(patterns) for table in _tables(file)))


def named_files(patterns: Sequence[str]) -> list[Path]:
    """The files on the disk that the patterns name, each once.

    Raises:
        DataError: E301, a pattern names none, or a folder.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        # Path.glob takes no absolute pattern
        paths = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
        where = f"{pattern} (in {Path.cwd()})"
        if not paths:
            raise DataError("no such file", where, "check data.source.paths", code=301)
        if folders := [p for p in paths if p.is_dir()]:
            raise DataError("a folder, not a file", f"{folders[0]} (in {Path.cwd()})", "add /*.csv", code=301)
        files |= dict.fromkeys(paths)
    return list(files)


def _tables(path: Path) -> list[Path]:
    """A file; of a zip file, its tables."""
    if not _magic(path).startswith(ZIP):
        return [path]
    with _damage_in_one_line(path, "zip"), archive_of(path) as archive:
        if archive.expanded > (limit := most_bytes(file_on_disk(path).stat().st_size)):
            raise _too_much(f"it expands to more than {limit // MIB} MiB", path)
        if archive.others:
            what, where = (
                f"left out of {path}: {first_names(archive.others, most=3)}",
                "they do not end as its tables do",
            )
            log.warning("[W381] %s — %s — unpack it, and name the files, if they are needed", what, where)
        return list(archive.tables)


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", str(path), "check the file", code=301) from error


def is_arrow(path: Path) -> bool:
    """Whether a file is Parquet or Feather, or says so by its name; not one in a zip file."""
    if file_on_disk(path) != path:
        return False
    named = path.suffix.lower() in {".parquet", ".pq", ".feather", ".ftr", ".arrow"}
    return named or _magic(path).startswith((PARQUET, FEATHER))


def read_arrow(path: Path) -> pd.DataFrame:
    """All columns of a Parquet or Feather file.

    Raises:
        DataError: E330 or E339.
    """
    feathered = _magic(path).startswith(FEATHER)
    try:
        table = read_feather(path) if feathered else read_parquet(path)
        # what pandas has noted of its own types may be damaged
        raw: pd.DataFrame = table.replace_schema_metadata(None).to_pandas(ignore_metadata=True, date_as_object=False)
    except TooLargeError as error:
        raise _too_much(str(error), path) from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        kind = "Feather" if feathered else "Parquet"
        raise DataError(f"no intact {kind} file: {reason}", str(path), "write it again", code=339) from error
    return raw


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where it is a gzip file or lies in a zip file; of UTF-16 text, as UTF-8.

    Raises:
        DataError: E305, the file is packed and damaged, or a zip file of another content.
    """
    file = file_on_disk(path)
    magic = _magic(file)
    kind = "zip" if magic.startswith(ZIP) else "gzip"
    with _damage_in_one_line(path, kind), ExitStack() as stack:
        # each of them can look ahead
        if magic.startswith(ZIP):
            archive = stack.enter_context(archive_of(file))
            stream = cast(io.BufferedReader, stack.enter_context(archive.file.open(archive.tables[path])))
        else:
            unpack = gzip.open if magic.startswith(GZIP) else open
            stream = stack.enter_context(cast(io.BufferedReader, unpack(file, "rb")))
        yield cast(IO[bytes], Utf8(stream)) if stream.peek(2)[:2] in UTF_16 else stream


@contextmanager
def _damage_in_one_line(path: Path, kind: str) -> Iterator[None]:
    """Reports what is damaged, or locked, in one line."""
    try:
        yield
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise DataError(f"damaged {kind} file: {error}", str(path), "compress it again", code=305) from error
    except UnicodeDecodeError as error:
        raise DataError(f"damaged UTF-16 text: {error.reason}", str(path), AS_CSV, code=305) from error
    except RuntimeError as error:  # what zipfile raises for a password
        if kind != "zip":
            raise
        raise DataError(f"the zip file cannot be opened: {error}", str(path), "unpack it", code=305) from error


class Utf8(io.BufferedIOBase):
    """UTF-16 text, which begins with a byte-order mark, as bytes of UTF-8.

    Args:
        stream: Its bytes; closed with this object.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-16", newline="")

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """At most so many bytes, but at least a letter; all without a size, or with a negative one."""
        # a letter has up to four bytes
        return self._text.read(-1 if size is None or size < 0 else max(1, size // 4)).encode()

    def read1(self, size: int = -1, /) -> bytes:
        """As `read`."""
        return self.read(size)

    def close(self) -> None:
        """Closes the bytes too."""
        self._text.close()
        super().close()


def _too_much(what: str, path: Path) -> DataError:
    return DataError(what, str(path), "this is not a table of prices", code=330)


def guard(path: Path) -> None:
    """Refuse what would exhaust the memory, and what is not text in UTF-8 or UTF-16, before anything is parsed."""
    limit = most_bytes(file_on_disk(path).stat().st_size)
    length = total = 0
    with opened(path) as stream:
        while chunk := stream.read(MIB):
            chunk = chunk.replace(b"\r", b"\n")  # lines of an old Mac end so
            if not total:
                _guard_head(chunk, path)
            total += len(chunk)
            end = chunk.find(b"\n")
            if length + (end if end >= 0 else len(chunk)) > MIB:
                raise _too_much("a line is longer than 1 MiB", path)
            length = len(chunk) - 1 - chunk.rfind(b"\n") if end >= 0 else length + len(chunk)
            if total > limit and not isinstance(stream, io.BufferedReader):
                raise _too_much(f"it expands to more than {total // MIB} MiB", path)


def _guard_head(chunk: bytes, path: Path) -> None:
    """Looks at the first bytes of a text."""
    start = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, (what, fix) in FOREIGN.items():
        if start[:16].lower().startswith(magic.lower()):
            raise DataError(f"not a CSV table but {what}", str(path), fix, code=305)
    if start.startswith((PARQUET, FEATHER)):
        raise DataError("a packed Parquet or Feather file", str(path), "unpack it", code=305)
    if b"\0" in chunk[:1000]:
        raise DataError("not UTF-8 text (UTF-16 without a mark, or binary)", str(path), AS_CSV, code=305)
    if max(map(chunk.split(b"\n", 1)[0].count, (b",", b";", b"\t", b"|"))) >= MAX_COLUMNS:
        raise _too_much(f"more than {MAX_COLUMNS} columns", path)
