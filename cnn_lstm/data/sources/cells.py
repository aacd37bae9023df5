"""Cells of CSV, gzipped CSV and Parquet files, as they are: nothing is guessed and nothing is unpickled."""

from __future__ import annotations

import glob
import gzip
import warnings
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnn_lstm.errors import DataError, Defect, DefectsError

MISSING = ["", "NaN", "nan", "NA", "N/A", "n/a", "NULL", "null", "None"]
MIB = 2**20
MAX_COLUMNS = 10_000
MAX_EXPANDED = 4 * 2**30
# real bars compress 3 to 10 times; a bomb reaches 1000
MAX_RATIO = 200


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns name, each once."""
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


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", str(path), "check the file", code=301) from error


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, or says so by its name."""
    return _magic(path) == b"PAR1" or path.suffix.lower() in {".parquet", ".pq"}


def read_parquet(path: Path) -> pd.DataFrame:
    """All columns of a Parquet file.

    Raises:
        DataError: E330 or E339.
    """
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_columns > MAX_COLUMNS:
                raise _too_much(f"{file.metadata.num_columns} columns", path)
            raw: pd.DataFrame = file.read().to_pandas(ignore_metadata=True, date_as_object=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"no intact Parquet file: {reason}", str(path), "write it again", code=339) from error
    return raw


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if _magic(path)[:2] == b"\x1f\x8b" else path.open("rb")


def _too_much(what: str, path: Path) -> DataError:
    return DataError(what, str(path), "this is not a table of prices", code=330)


def guard(path: Path) -> None:
    """Refuse what would exhaust the memory, and encodings other than UTF-8, before anything is parsed."""
    limit = min(MAX_EXPANDED, max(64 * MIB, MAX_RATIO * path.stat().st_size))
    length = total = 0
    try:
        with _open(path) as stream:
            while chunk := stream.read(MIB):
                if not total:
                    _guard_head(chunk, path)
                total += len(chunk)
                end = chunk.find(b"\n")
                if length + (end if end >= 0 else len(chunk)) > MIB:
                    raise _too_much("a line is longer than 1 MiB", path)
                length = len(chunk) - 1 - chunk.rfind(b"\n") if end >= 0 else length + len(chunk)
                if total > limit and isinstance(stream, gzip.GzipFile):
                    raise _too_much(f"it expands to more than {total // MIB} MiB", path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"damaged gzip file: {error}", str(path), "compress it again", code=305) from error


def _guard_head(chunk: bytes, path: Path) -> None:
    if chunk[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0" in chunk[:1000]:
        raise DataError("not UTF-8 text (UTF-16 or binary)", str(path), "save it as CSV UTF-8", code=305)
    header = chunk.split(b"\n", 1)[0]
    if header.count(b",") >= MAX_COLUMNS:
        raise _too_much(f"more than {MAX_COLUMNS} columns", path)
    if b"," not in header and (rival := next((c for c in (b";", b"\t", b"|") if c in header), None)):
        what = f"columns are separated by {rival.decode()!r}"
        raise DataError(what, str(path), "save it with commas and decimal points", code=305)


def read_csv(
    path: Path,
    rows: int | None,
    text: Collection[str] = (),
    numbers: Collection[Any] = (),
    header: bool = True,
) -> pd.DataFrame:
    """Reads text columns as they are; number columns keep what is not a number as text.

    All columns are read: with `usecols`, pandas cuts rows that are too long without a word.

    Args:
        path: CSV or gzipped CSV.
        rows: Rows to read; None reads all.
        text: Columns that are kept as text.
        numbers: Columns in which the words of `MISSING` count as missing.
        header: Whether the first line has the names of the columns; else they are numbered from 0 on.

    Raises:
        DataError: E302 or E305.
    """
    with _open(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would lose the last columns of long rows
        try:
            return pd.read_csv(
                stream,
                encoding="utf-8-sig",
                index_col=False,
                header=0 if header else None,
                nrows=rows,
                dtype=dict.fromkeys(text, "str"),
                keep_default_na=False,
                na_values=dict.fromkeys(numbers, MISSING),
                low_memory=False,
            )
        except pd.errors.EmptyDataError:
            raise DataError("0 rows", str(path), "give a file with at least one bar", code=302) from None
        except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"not a CSV table: {reason}", str(path), "save it as CSV UTF-8", code=305) from error


def number_columns(
    columns: dict[str, pd.Series], wanted: set[str], path: Path, first_row: int
) -> dict[str, pd.Series[float]]:
    """Float columns; a column with no number at all is left out with a warning, unless it is `wanted`."""
    values: dict[str, pd.Series[float]] = {}
    defects: list[Defect] = []
    for name, cells in columns.items():
        if pd.api.types.is_numeric_dtype(cells):
            values[name] = cells.astype("float64")
            continue
        text = cells.astype("str").str.strip()
        known = text.notna() & ~text.isin(MISSING)
        number = pd.to_numeric(text.where(known), errors="coerce").astype("float64")
        bad = known & number.isna()
        if bad.equals(known) and name not in wanted:
            warnings.warn(f"{path}: column {name} holds text and is left out", stacklevel=2)
        elif bad.any():
            row = int(bad.to_numpy().argmax())
            where = f"{path}:{row + first_row}, column {name}, {int(bad.sum())} cells"
            defects.append(Defect(304, f"{text.iloc[row]!r} is not a number", where, "correct the cells"))
        else:
            values[name] = number
    if defects:
        raise DefectsError(defects)
    return values
