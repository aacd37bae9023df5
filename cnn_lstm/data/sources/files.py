"""Price tables from CSV, gzipped CSV and Parquet files; nothing is guessed and nothing is unpickled.

A cell that is not a number, a date that could be read in two ways and an hour that exists twice are errors that
name the row. The only cells that count as missing are empty ones and those in `MISSING`.
"""

from __future__ import annotations

import glob
import gzip
import re
import warnings
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnn_lstm.data.checks import BARS
from cnn_lstm.data.sources.base import PriceSource, select, validate_symbol
from cnn_lstm.data.sources.clock import UNITS, Clock
from cnn_lstm.errors import ConfigError, DataError, Defect, DefectsError
from cnn_lstm.hints import nearest

MISSING = ["", "NaN", "nan", "NA", "N/A", "n/a", "NULL", "null", "None"]
ALIASES = {
    "timestamp": {"timestamp", "date", "datetime", "time", "ds"},
    "symbol": {"symbol", "ticker", "tic", "instrument", "unique_id"},
}
NAMELESS = re.compile(r"Unnamed: \d+|__index_level_\d+__")
ENDING = re.compile(r"(\.csv|\.parquet|\.pq|\.txt)?(\.gz)?$", re.IGNORECASE)
MIB = 2**20
MAX_COLUMNS = 10_000
MAX_EXPANDED = 4 * 2**30
# real bars compress 3 to 10 times; a bomb reaches 1000
MAX_RATIO = 200


class PriceFiles(PriceSource):
    """Bars from CSV, gzipped CSV or Parquet files.

    The obvious column names are recognised in any case: date, datetime, time, timestamp, ds; symbol, ticker,
    tic, instrument, unique_id; open, high, low, close, volume. Other numeric columns pass through under their
    own name (lower case, blanks as underscores); columns of mere text are left out with a warning.

    Args:
        paths: One path, several, or a pattern such as `prices/*.csv`.
        columns: Our name of a column -> the name in the file, for example `{close: Adj Close}`. A column
            whose name is taken by this mapping is left out.
        tz: Time zone of timestamps without an offset, for example `America/New_York`. None takes them as
            UTC. Daily bars are never shifted: the date is kept.
        date_format: Format of the timestamps as in `strptime`, for example `%d/%m/%Y`; or the unit of numbers
            since 1970: s, ms, us or ns. None accepts ISO dates only.
        symbol: Symbol of a file without a symbol column. None takes the file's name without its endings.

    Raises:
        ConfigError: E2xx, an argument is malformed.

    Example:
        >>> PriceFiles("prices/*.csv", columns={"close": "Adj Close"}, tz="America/New_York").paths
        ['prices/*.csv']
    """

    def __init__(
        self,
        paths: str | list[str],
        columns: dict[str, str] | None = None,
        tz: str | None = None,
        date_format: str | None = None,
        symbol: str | None = None,
    ) -> None:
        self.paths = [paths] if isinstance(paths, str) else list(paths)
        if not self.paths or not all(self.paths):
            raise ConfigError("data.source.paths is empty", "", "give a path or a pattern", code=201)
        if tz is not None and tz not in available_timezones():
            fix = nearest(tz, available_timezones()) or "use a name such as America/New_York"
            raise ConfigError(f"unknown time zone {tz!r}", "data.source.tz", fix, code=210)
        if date_format is not None and date_format not in UNITS and not _is_format(date_format):
            fix = f"use a format such as %d/%m/%Y, or one of {', '.join(UNITS)}"
            raise ConfigError(f"no date format: {date_format!r}", "data.source.date_format", fix, code=209)
        self.columns = dict(columns or {})
        self.clock = Clock(ZoneInfo(tz) if tz else None, date_format)
        self.symbol = None if symbol is None else validate_symbol(symbol)

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load bars of all files; see `PriceSource.load`."""
        tables = {path: self._table(path) for path in _files(self.paths)}
        first = next(iter(tables))
        for path, table in tables.items():
            if odd := sorted(set(table.columns) ^ set(tables[first].columns)):
                where = f"{path} and {first}"
                fix = "load files with the same columns"
                raise DataError(f"columns {', '.join(odd)} are in one file only", where, fix, code=303)
        table = pd.concat(list(tables.values()), ignore_index=True)
        return select(table, symbols, start, end, ", ".join(self.paths))

    def _table(self, path: Path) -> pd.DataFrame:
        raw, names, first_row = self._raw(path)
        if raw.empty:
            raise DataError("0 rows", str(path), "give a file with at least one bar", code=302)
        symbol = raw[names["symbol"]].astype("str") if "symbol" in names else self._symbol_of(path)
        when = self.clock.read(raw[names["timestamp"]], str(path), first_row)
        table = pd.DataFrame({"symbol": symbol, "timestamp": when}).astype({"symbol": "str"})
        numbers = {ours: raw[theirs] for ours, theirs in names.items() if ours not in ALIASES}
        return table.assign(**_numbers(numbers, {*BARS, *self.columns}, path, first_row))

    def _raw(self, path: Path) -> tuple[pd.DataFrame, dict[str, str], int]:
        """Cells as they are in the file, our name -> name in the file, and the number of their first row."""
        if _magic(path) == b"PAR1" or path.suffix.lower() in {".parquet", ".pq"}:
            raw = _parquet(path)
            return raw, self._names(list(raw.columns), path), 1
        _guard(path)
        header = list(_csv(path, rows=0).columns)
        names = self._names(header, path)
        text = {theirs for ours, theirs in names.items() if ours in ALIASES}
        return _csv(path, rows=None, text=text, numbers=set(names.values()) - text), names, 2

    def _names(self, header: list[str], path: Path) -> dict[str, str]:
        """Our name -> name in the file; the mapping of the user comes first."""
        names = {ours: _mapped(theirs, header, path) for ours, theirs in self.columns.items()}
        for column in header:
            plain = re.sub(r"\s+", "_", column.strip().lstrip("$").lower())
            ours = next((name for name, aliases in ALIASES.items() if plain in aliases), plain)
            if column in names.values() or ours in self.columns:
                continue
            if ours in names:
                fix = f"say which: data.source.columns: {{{ours}: ...}}"
                raise DataError(f"{names[ours]} and {column} both look like {ours}", str(path), fix, code=303)
            if not NAMELESS.fullmatch(column):
                names[ours] = column
        nameless = [column for column in header if NAMELESS.fullmatch(column)]
        if "timestamp" not in names and nameless:
            names["timestamp"] = nameless[0]  # an index that was saved without a name; row numbers otherwise
        if "timestamp" not in names:
            fix = "name it: data.source.columns: {timestamp: ...}"
            raise DataError("no column timestamp", f"{path} has {', '.join(header[:20])}", fix, code=303)
        return names

    def _symbol_of(self, path: Path) -> str:
        if self.symbol is not None:
            return self.symbol
        try:
            return validate_symbol(ENDING.sub("", path.name))
        except ConfigError as error:
            raise ConfigError(error.what, f"name of {path}", "set data.source.symbol", code=231) from None


def _is_format(text: str) -> bool:
    try:
        pd.to_datetime(pd.Series(["x"]), format=text, errors="coerce")
    except ValueError:
        return False
    return "%" in text


def _files(patterns: Sequence[str]) -> list[Path]:
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


def _mapped(theirs: str, header: list[str], path: Path) -> str:
    alike = [column for column in header if column.strip().lower() == theirs.strip().lower()]
    if not alike:
        fix = nearest(theirs, header) or "correct data.source.columns"
        raise DataError(f"no column {theirs!r}", f"{path} has {', '.join(header[:20])}", fix, code=303)
    return theirs if theirs in header else alike[0]


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", str(path), "check the file", code=301) from error


def _parquet(path: Path) -> pd.DataFrame:
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


def _guard(path: Path) -> None:
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


def _csv(path: Path, rows: int | None, text: Collection[str] = (), numbers: Collection[str] = ()) -> pd.DataFrame:
    """Read text columns as they are; number columns keep what is not a number as text.

    All columns are read: with `usecols`, pandas cuts rows that are too long without a word.
    """
    with _open(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would lose the last columns of long rows
        try:
            return pd.read_csv(
                stream,
                encoding="utf-8-sig",
                index_col=False,
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


def _numbers(
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
