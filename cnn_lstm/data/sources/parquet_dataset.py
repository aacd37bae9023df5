"""A folder of Parquet files as one table, of which a block of symbols is read at a time.

Columns, symbols and dates are pushed down: a group of rows whose statistics say that nothing of it is wanted is never
unpacked. Every footer is looked at first, as for other Parquet files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from cnn_lstm.data.sources.arrow_files import TooLargeError, require_modest
from cnn_lstm.data.sources.base import MOST_LETTERS, validate_symbol
from cnn_lstm.data.sources.blocks import BlockSource, Kind, Moment, Store
from cnn_lstm.data.sources.column_names import our_name
from cnn_lstm.errors import DataError, require
from cnn_lstm.hints import first_names

ENDINGS = {".parquet", ".pq"}
DATE_LETTERS = 64  # of a time that is stored as text
BATCH_ROWS = 65_536
AHEAD = {"batch_size": BATCH_ROWS, "batch_readahead": 2, "fragment_readahead": 1}
STEM = "symbol"  # column of the names of files, where nothing else names symbols


class ParquetDataset(BlockSource):
    """Bars from a folder of Parquet files, which may hold more rows than fit in memory.

    A symbol is named by a column, by a folder such as `symbol=ACME` (Hive's partitions), or by the name of its file.
    Another folder such as `year=2024` only leads to its files, and its key is not a column, unless it is the only one
    that names a date. Names of columns are recognised as in `PriceFiles`.

    Blocks are read fastest where each file holds few symbols, or where rows are sorted by symbol: files of one day each
    are all read for every block.

    Args:
        path: The folder. Files in it, at any depth, count if they end in .parquet or .pq; names that begin with a point
            or an underscore are passed over.
        columns: Our name of a column -> the name in the files, as for `PriceFiles`.
        tz: Time zone of timestamps without an offset; None takes them as UTC. Daily bars keep their date.
        date_format: Format of timestamps that are text, or the unit of numbers since 1970, as for `PriceFiles`.
        symbol: The only symbol, of files that name none.
        only: Our names of the columns to read, next to symbol and timestamp; None reads all columns of numbers.
        adjust: As for `PriceFiles`.

    Raises:
        ConfigError: E2xx, an argument is malformed.

    Example:
        >>> ParquetDataset("prices/", only=["open", "high", "low", "close", "volume"]).path
        'prices/'
    """

    def __init__(
        self,
        path: str,
        columns: dict[str, str] | None = None,
        tz: str | None = None,
        date_format: str | None = None,
        symbol: str | None = None,
        only: list[str] | None = None,
        adjust: bool | None = None,
    ) -> None:
        super().__init__(columns, tz, date_format, symbol, only, adjust)
        require(bool(path), "data.source.path is empty", "", "give the folder of the files", code=201)
        self.path = path

    def files(self) -> list[Path]:
        """The files of the folder; see `PriceSource.files`."""
        return _paths(Path(self.path).expanduser())

    @contextmanager
    def open(self) -> Iterator[Store]:
        """The files, with their footers read."""
        folder = Path(self.path).expanduser()
        try:
            yield _Files(folder, self.symbol is None and "symbol" not in self.columns, set(self.columns.values()))
        except TooLargeError as error:
            raise DataError(str(error), str(folder), "this is not a table of prices", code=330) from error
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            fix = "write the file again"
            raise DataError(f"no intact Parquet file: {reason}", str(folder), fix, code=339) from error


class _Files(Store):
    """The files of a folder.

    Args:
        folder: The folder.
        may_name: Whether the names of the files may be those of symbols.
        mapped: Names of columns that the user gave.
    """

    def __init__(self, folder: Path, may_name: bool, mapped: set[str]) -> None:
        self.where = str(folder)
        paths = _paths(folder)
        keys = _keys(folder, paths)
        system = LocalFileSystem()
        first = ds.ParquetFileFormat().make_fragment(str(paths[0]), system).physical_schema
        texts = [field.name for field in first if _is_text(field.type)]
        checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        read = ds.ParquetReadOptions(dictionary_columns=texts)
        form = ds.ParquetFileFormat(read_options=read, default_fragment_scan_options=checked)
        plain = [form.make_fragment(str(path), system) for path in paths]
        stored = _schema(plain, paths)
        missing = _names_of_paths(keys[paths[0]], stored.names, may_name, mapped)
        named = {path: {name: keys[path].get(name) or _symbol_of(path) for name in missing} for path in paths}
        files = [form.make_fragment(str(path), system, partition_expression=_equals(named[path])) for path in paths]
        # groups of rows, with what the path of each names: most sets of symbols are in few of them
        self._groups = [
            (named[path], group) for path, file in zip(paths, files, strict=True) for group in file.split_by_row_group()
        ]
        self._schema = pa.schema([*stored, *(pa.field(name, pa.string()) for name in missing)])
        self._dataset = partial(ds.FileSystemDataset, schema=self._schema, format=form, filesystem=system)
        self._data = self._dataset([group for _, group in self._groups])
        self._footers = [fragment.metadata for fragment in plain]
        self._missing = missing
        self._raw: dict[str, list[object]] = {}
        self._holding: dict[str, list[int]] = {}
        self.header = list(self._schema.names)

    def kind(self, position: int) -> Kind:
        """What a column holds, as its type says; nothing where the statistics count only nulls."""
        field = self._schema.field(position)
        if field.name in self._missing or not (_is_number(field.type) or pa.types.is_null(field.type)):
            return "text"
        nothing = all(_only_nulls(metadata, field.name) for metadata in self._footers)
        return "nothing" if nothing or pa.types.is_null(field.type) else "numbers"

    def rows(self, symbol: int | None) -> dict[str, int]:
        """Number of rows of each symbol, from the footers where the paths name the symbols."""
        counts: Counter[str] = Counter()
        name = "" if symbol is None else self.header[symbol]
        for place, (named, group) in enumerate(self._groups):
            for raw, rows in self._counted(name, named, group):
                text = "" if raw is None else str(raw).strip()
                counts[text] += rows
                if raw not in self._raw.setdefault(text, []):
                    self._raw[text].append(raw)
                if self._holding.setdefault(text, [])[-1:] != [place]:
                    self._holding[text].append(place)
        return dict(counts)

    def _counted(self, name: str, named: Mapping[str, str], group: ds.ParquetFileFragment) -> Iterator[tuple[Any, int]]:
        """Rows of each symbol in a group of rows."""
        if not name or name in self._missing:
            yield named.get(name), group.row_groups[0].num_rows
            return
        for batch in self._dataset([group]).to_batches(columns=[name], **AHEAD):
            for pair in pc.value_counts(_bounded(batch.column(0), MOST_LETTERS, self.where)).to_pylist():
                yield pair["values"], pair["counts"]

    def times(self, positions: Sequence[int]) -> Iterator[pd.DataFrame]:
        """The times of each batch of rows, each once where they lie in one column."""
        if len(positions) == 1 and pa.types.is_date(self._schema.field(positions[0]).type):
            yield pd.DataFrame({positions[0]: pd.to_datetime(["2000-01-01"])})
            return
        names = [self.header[position] for position in positions]
        for batch in self._data.to_batches(columns=names, **AHEAD):
            table = pa.Table.from_batches([batch])
            if len(names) == 1:
                times = _bounded(pc.unique(batch.column(0)), DATE_LETTERS, self.where)
                table = pa.table({names[0]: times})
            yield self._frame(table, positions, positions)

    def read(
        self, positions: Sequence[int], symbol: int | None, names: Sequence[str], time: int, low: Moment, high: Moment
    ) -> pd.DataFrame:
        """The rows of some symbols, in the order of the files."""
        wanted, data = self._in_span(time, low, high), self._data
        if symbol is not None:
            places = sorted({place for name in names for place in self._holding[name]})
            data = self._dataset([self._groups[place][1] for place in places])
            raw = [value for name in names for value in self._raw[name]]
            chosen = ds.field(self.header[symbol]).isin(pa.array(raw))
            wanted = chosen if wanted is None else wanted & chosen
        columns = [self.header[position] for position in positions]
        table = data.to_table(columns=columns, filter=wanted, **AHEAD)
        texts = [*([] if symbol is None else [symbol]), time]
        return self._frame(table, positions, texts)

    def _in_span(self, time: int, low: Moment, high: Moment) -> ds.Expression | None:
        """The span for the column of times, where its type is that of a time."""
        field = self._schema.field(time)
        if not (pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)):
            return None
        bounds = [moment if moment is None else moment.tz_localize(None).to_pydatetime() for moment in (low, high)]
        zoned = pa.types.is_timestamp(field.type) and field.type.tz is not None
        moments = [
            None if bound is None else pa.scalar(bound, pa.timestamp("us", "UTC" if zoned else None)).cast(field.type)
            for bound in bounds
        ]
        column = ds.field(field.name)
        parts = [*([column >= moments[0]] if moments[0] else []), *([column < moments[1]] if moments[1] else [])]
        return parts[0] & parts[1] if len(parts) == 2 else parts[0] if parts else None

    def _frame(self, table: pa.Table, positions: Sequence[int], texts: Sequence[int]) -> pd.DataFrame:
        """Cells by position; columns of numbers as floats, the keys as they are."""
        columns: dict[int, pd.Series] = {}
        for position, column in zip(positions, table.columns, strict=True):
            kind = self._schema.field(position).type
            if position in texts:
                column = _bounded(column, DATE_LETTERS, self.where)
            elif _is_number(kind):
                column = column.cast(pa.float64(), safe=False)
            columns[position] = column.to_pandas(date_as_object=False)
        return pd.DataFrame(columns)


def _paths(folder: Path) -> list[Path]:
    """The files of a folder, in the order of their names."""
    if not folder.exists():
        raise DataError("no such folder", f"{folder} (in {Path.cwd()})", "check data.source.path", code=301)
    if folder.is_file():
        return [folder]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    paths = [path for path in files if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    if not paths:
        raise DataError("no Parquet file", f"{folder} (in {Path.cwd()})", "check data.source.path", code=301)
    return paths


def _keys(folder: Path, paths: Sequence[Path]) -> dict[Path, dict[str, str]]:
    """What the folders above each file say, such as `symbol=ACME`; all files must have the same keys."""
    keys = {}
    for path in paths:
        parts = path.relative_to(folder).parts[:-1] if path != folder else ()
        pairs = [part.split("=", 1) for part in parts if "=" in part]
        keys[path] = {name: unquote(value) for name, value in pairs}
        if list(keys[path]) != list(keys[paths[0]]):
            what = (
                f"folders {first_names(list(keys[path]) or ['without a key'])} and {first_names(list(keys[paths[0]]))}"
            )
            fix = "give all files the same partitions"
            raise DataError(what, f"{path} and {paths[0]}", fix, code=303)
    return keys


def _names_of_paths(keys: Mapping[str, str], stored: Sequence[str], may_name: bool, mapped: set[str]) -> list[str]:
    """Columns that come from the paths: keys that the user names, or that are the only symbol or time."""
    names = [name for name in keys if name in mapped and name not in stored]
    roles = {our_name(name) for name in stored}
    for role in ("symbol", "timestamp"):
        likely = [name for name in keys if our_name(name) == role and name not in names]
        names += likely[:1] if role not in roles and (role == "timestamp" or may_name) else []
    if may_name and "symbol" not in roles | {our_name(name) for name in names}:
        names.append(STEM)
    return names


def _symbol_of(path: Path) -> str:
    return validate_symbol(path.stem)


def _equals(values: Mapping[str, str]) -> ds.Expression:
    """What the path of a file says of all its rows."""
    expression = ds.scalar(True)
    for name, value in values.items():
        expression = expression & (ds.field(name) == value)
    return expression


def _schema(fragments: Sequence[ds.ParquetFileFragment], paths: Sequence[Path]) -> pa.Schema:
    """The columns that all files have; a column of numbers of several types becomes one of floats."""
    types: dict[str, set[pa.DataType]] = {}
    first = fragments[0].physical_schema.names
    if twice := [name for name, count in Counter(first).items() if count > 1]:
        what = f"{twice[0]} is the name of {first.count(twice[0])} columns"
        raise DataError(what, str(paths[0]), "give each column a name of its own", code=303)
    for fragment, path in zip(fragments, paths, strict=True):
        require_modest(fragment.metadata, path.stat().st_size)
        schema = fragment.physical_schema
        if odd := sorted(set(schema.names) ^ set(first)):
            what = f"columns {first_names(odd)} are in one file only"
            raise DataError(what, f"{path} and {paths[0]}", "give all files the same columns", code=303)
        for field in schema:
            types.setdefault(field.name, set()).add(field.type)
    return pa.schema([pa.field(name, _one_type(name, types[name], str(paths[0].parent))) for name in first])


def _one_type(name: str, types: set[pa.DataType], where: str) -> pa.DataType:
    if len(types) == 1:
        return next(iter(types))
    known = [kind for kind in types if not pa.types.is_null(kind)]
    if all(_is_number(kind) for kind in known):
        return pa.float64()
    if all(pa.types.is_timestamp(kind) for kind in known) and len({kind.tz for kind in known}) == 1:
        return pa.timestamp("ns" if any(kind.unit == "ns" for kind in known) else "us", known[0].tz)
    if len(set(known)) == 1:
        return known[0]
    what = f"column {name} is {first_names(sorted(map(str, types)))}"
    raise DataError(what, where, "give the column one type in all files", code=303)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(test(kind) for test in tests)


def _only_nulls(metadata: object, name: str) -> bool:
    """Whether the statistics of a file say that a column is empty."""
    for number in range(metadata.num_row_groups):  # type: ignore[attr-defined]  # pyarrow has no types
        group = metadata.row_group(number)  # type: ignore[attr-defined]  # pyarrow has no types
        chunk = next(
            (group.column(k) for k in range(group.num_columns) if group.column(k).path_in_schema == name), None
        )
        known = chunk is not None and chunk.statistics is not None and chunk.statistics.has_null_count
        if not known or chunk is None or chunk.statistics.null_count < chunk.num_values:
            return False
    return True


def _bounded(column: pa.Array | pa.ChunkedArray, letters: int, where: str) -> pa.Array | pa.ChunkedArray:
    """Texts written out, after each different one was looked at: one of a megabyte may stand in every row."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    longest = max((pc.max(pc.utf8_length(chunk.dictionary)).as_py() or 0 for chunk in chunks), default=0)
    if longest > letters:
        what = f"a text of {longest} letters in a column of symbols or times"
        raise DataError(what, where, "this is not a table of prices", code=330)
    return column.cast(column.type.value_type)
