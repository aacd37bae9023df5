"""Price tables from CSV, gzipped CSV and Parquet files; nothing is guessed and nothing is unpickled.

A cell that is not a number, a date that could be read in two ways and an hour that exists twice are errors that
name the row. The only cells that count as missing are empty ones and those in `cells.MISSING`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd

from cnn_lstm.data.checks import BARS
from cnn_lstm.data.sources.base import PriceSource, select, under_symbol, validate_symbol
from cnn_lstm.data.sources.cells import guard, is_parquet, matching_files, number_columns, read_csv, read_parquet
from cnn_lstm.data.sources.clock import UNITS, Clock
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.hints import nearest

ALIASES = {
    "timestamp": {"timestamp", "date", "datetime", "time", "ds"},
    "symbol": {"symbol", "ticker", "tic", "instrument", "unique_id"},
}
NAMELESS = re.compile(r"Unnamed: \d+|__index_level_\d+__")
ENDING = re.compile(r"(\.csv|\.parquet|\.pq|\.txt)?(\.gz)?$", re.IGNORECASE)


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
        symbol: Symbol of a file of one symbol, in place of the one that it names. None takes the column of symbols, or
            the file's name without its endings.

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
        tables = {path: under_symbol(self._table(path), self.symbol, str(path)) for path in matching_files(self.paths)}
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
        return table.assign(**number_columns(numbers, {*BARS, *self.columns}, path, first_row))

    def _raw(self, path: Path) -> tuple[pd.DataFrame, dict[str, str], int]:
        """Cells as they are in the file, our name -> name in the file, and the number of their first row."""
        if is_parquet(path):
            raw = read_parquet(path)
            return raw, self._names(list(raw.columns), path), 1
        guard(path)
        header = list(read_csv(path, rows=0).columns)
        names = self._names(header, path)
        text = {theirs for ours, theirs in names.items() if ours in ALIASES}
        return read_csv(path, rows=None, text=text, numbers=set(names.values()) - text), names, 2

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


def _mapped(theirs: str, header: list[str], path: Path) -> str:
    alike = [column for column in header if column.strip().lower() == theirs.strip().lower()]
    if not alike:
        fix = nearest(theirs, header) or "correct data.source.columns"
        raise DataError(f"no column {theirs!r}", f"{path} has {', '.join(header[:20])}", fix, code=303)
    return theirs if theirs in header else alike[0]
