"""Price tables from CSV, zipped CSV, Parquet and Feather files; nothing is guessed and nothing is unpickled.

A cell that is not a number, a date that could be read in two ways and an hour that exists twice are errors that
name the row. The only cells that count as missing are empty ones and those in `text_table.MISSING`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd

from cnn_lstm.data.checks import BARS, PRICES
from cnn_lstm.data.sources.adjustment import scaled, with_adjustment
from cnn_lstm.data.sources.base import PriceSource, select, under_symbol, validate_symbol
from cnn_lstm.data.sources.cells import matching_files, named_files
from cnn_lstm.data.sources.clock import Clock, are_times_of_day, require_format
from cnn_lstm.data.sources.column_names import (
    ALIASES,
    TIME_OF_DAY,
    bind_columns,
    both_like_time,
    symbol_candidates,
)
from cnn_lstm.data.sources.file_parts import refuse_parts
from cnn_lstm.data.sources.numbers import DECIMALS, Decimal, number_columns
from cnn_lstm.data.sources.raw_table import RawTable, TextForm, read_raw
from cnn_lstm.data.sources.zip_members import archives_stay_open
from cnn_lstm.errors import ConfigError, DataError, require
from cnn_lstm.hints import nearest

log = logging.getLogger(__name__)
ENDING = re.compile(r"(\.csv|\.parquet|\.pq|\.txt|\.tsv|\.feather)?(\.gz|\.zip)?$", re.IGNORECASE)


class PriceFiles(PriceSource):
    """Bars from CSV files, plain or packed with gzip or zip, and from Parquet and Feather files.

    The obvious column names are recognised in any case: date, datetime, time, timestamp, ds; symbol, ticker,
    tic, instrument, unique_id; open, high, low, close, volume; also as `<DATE>`. Other numeric columns pass through
    under their own name (lower case, blanks as underscores); columns of mere text are left out with a warning.

    Args:
        paths: One path, several, or a pattern such as `prices/*.csv`. A zip file of several tables is read as they
            are.
        columns: Our name of a column -> the name in the file, for example `{close: Adj Close}`. A column
            whose name is taken by this mapping is left out. `date` and `time` name a day and its time in two columns.
        tz: Time zone of timestamps without an offset, for example `America/New_York`. None takes them as
            UTC. Daily bars are never shifted: the date is kept.
        date_format: Format of the timestamps as in `strptime`, for example `%d/%m/%Y`; or the unit of numbers
            since 1970: s, ms, us or ns; or auto, where each number proves its unit. None accepts dates with the year
            first only.
        symbol: Symbol of a file of one symbol, in place of the one that it names. None takes the column of symbols, or
            the file's name without its endings.
        header: Whether a line of a text file has the names of the columns. Without it they are numbered from 1 on.
        names: Names of the columns, in order, of a text file whose first line is data.
        separator: What stands between two cells of a text file. None takes what the lines prove.
        decimal: Sign before the decimals, a point or a comma. None takes what the cells prove.
        missing: Words for cells that are not known, such as `-`, next to the empty cell, `NaN`, `N/A` and the like.
        adjust: Whether open, high and low are scaled by the ratio of the adjusted close to the close, and the adjusted
            close becomes the close. None does it where `columns` takes an adjusted close as close.

    Raises:
        ConfigError: E2xx, an argument is malformed.

    Example:
        >>> PriceFiles("prices/*.csv", columns={"close": "Adj Close"}, tz="America/New_York").paths
        ['prices/*.csv']
    """

    def __init__(  # noqa: PLR0913 - each argument is a key of the YAML
        self,
        paths: str | list[str],
        columns: dict[str, str | int] | None = None,
        tz: str | None = None,
        date_format: str | None = None,
        symbol: str | None = None,
        header: bool = True,
        names: list[str] | None = None,
        separator: str | None = None,
        decimal: Decimal | None = None,
        missing: list[str] | None = None,
        adjust: bool | None = None,
    ) -> None:
        self.paths = [paths] if isinstance(paths, str) else list(paths)
        if not self.paths or not all(self.paths):
            raise ConfigError("data.source.paths is empty", "", "give a path or a pattern", code=201)
        if tz is not None and tz not in available_timezones():
            fix = nearest(tz, available_timezones()) or "use a name such as America/New_York"
            raise ConfigError(f"unknown time zone {tz!r}", "data.source.tz", fix, code=210)
        require_format(date_format)
        _require_form(names, separator, decimal)
        self.columns = {ours: str(theirs) for ours, theirs in (columns or {}).items()}
        self.clock = Clock(ZoneInfo(tz) if tz else None, date_format)
        self.symbol = None if symbol is None else validate_symbol(symbol)
        self.form = TextForm(
            header, tuple(names or ()), separator, frozenset(self.columns.values()), tuple(missing or ())
        )
        self.decimal, self.adjust = decimal, adjust

    @archives_stay_open()
    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load bars of all files; see `PriceSource.load`."""
        tables = {path: under_symbol(self._table(path), self.symbol, str(path)) for path in matching_files(self.paths)}
        first = next(iter(tables))
        for path, table in tables.items():
            if odd := sorted(set(table.columns) ^ set(tables[first].columns)):
                where = f"{path} and {first}"
                fix = "load files with the same columns"
                raise DataError(f"columns {', '.join(odd)} are in one file only", where, fix, code=303)
        refuse_parts(tables, lambda path: ENDING.sub("", path.name))
        table = pd.concat(list(tables.values()), ignore_index=True)
        return select(_without_empty(table), symbols, start, end, ", ".join(self.paths))

    def files(self) -> list[Path]:
        """The files that the paths name; see `PriceSource.files`."""
        return named_files(self.paths)

    def _table(self, path: Path) -> pd.DataFrame:
        raw = read_raw(path, self.form, lambda header: set(self._names(header, path).values()))
        parts = [self._bars(part, path, symbol) for symbol, part in raw.by_symbol()]
        return pd.concat(parts, ignore_index=True)

    def _bars(self, raw: RawTable, path: Path, symbol: str | None) -> pd.DataFrame:
        """The bars of a file, or of one symbol of a file whose header names several."""
        if raw.cells.empty:
            raise DataError("0 rows", str(path), "give a file with at least one bar", code=302)
        names = bind_columns(raw.header, self._mapping(symbol), str(path))
        when = self._moments(raw, names, path)
        names, raw_close = with_adjustment(names, raw.header, self.adjust, str(path))
        if symbol is not None:
            of: pd.Series | str = symbol
        elif "symbol" in names:
            of = raw.cells[names["symbol"]].astype("str").str.strip()
        else:
            of = self._symbol_of(path)
            self._refuse_repeated(raw, names, when, path)
        table = pd.DataFrame({"symbol": of, "timestamp": when}).astype({"symbol": "str"})
        numbers = self._numbers(raw, names, raw_close, path)
        return table.assign(**numbers).reset_index(drop=True)

    def _moments(self, raw: RawTable, names: dict[str, int], path: Path) -> pd.Series:
        """Timestamps; of days and times in two columns, which leaves `names`."""
        cells, time = raw.column(names["timestamp"]), names.pop(TIME_OF_DAY, None)
        if time is None:
            return self.clock.read(cells, str(path))
        if TIME_OF_DAY in self.columns or are_times_of_day(raw.column(time), cells):
            return self.clock.read_joined(cells, raw.column(time), str(path))
        if not {"timestamp", "date"} & set(self.columns):
            raise both_like_time(raw.header, names | {TIME_OF_DAY: time}, str(path))
        return self.clock.read(cells, str(path))

    def _numbers(
        self, raw: RawTable, names: Mapping[str, int], raw_close: int | None, path: Path
    ) -> dict[str, pd.Series[float]]:
        """Columns of numbers by our names."""
        wanted, where = {*BARS, *self.columns}, str(path)
        columns = {ours: raw.cells[position] for ours, position in names.items() if ours not in ALIASES}
        if raw_close is not None:
            columns[RAW_CLOSE] = raw.cells[raw_close]
        columns = raw.with_points(columns, wanted, self.decimal)
        numbers = number_columns(columns, wanted, where, self.decimal, self.form.missing)
        if raw_close is None:
            return numbers
        close = numbers.pop(RAW_CLOSE)
        return scaled(numbers, close, {ours: raw.header[names[ours]] for ours in numbers})

    def _mapping(self, symbol: str | None) -> dict[str, str]:
        """The user's mapping; a header of two levels says itself which column has the times."""
        times = () if symbol is None else ("timestamp", "symbol")
        return {ours: theirs for ours, theirs in self.columns.items() if ours not in times}

    def _names(self, header: Sequence[str], path: Path) -> dict[str, int]:
        """Positions of the columns that are text."""
        names = bind_columns(header, self.columns, str(path))
        return {ours: position for ours, position in names.items() if ours in {*ALIASES, TIME_OF_DAY}}

    def _refuse_repeated(self, raw: RawTable, names: Mapping[str, int], when: pd.Series, path: Path) -> None:
        """Refuses rows of one moment where a column that is not read tells them apart."""
        if not when.duplicated().any():
            return
        prices = [position for ours, position in names.items() if ours in {*ALIASES, *BARS}]
        likely = symbol_candidates(raw.cells, raw.header, prices, when)
        if times := [name for name in likely if re.search("time|hour", name, re.IGNORECASE)]:
            what = f"each date is there several times, and the column {times[0]} could be the time of day"
            fix = f"set data.source.columns: {{date: {raw.header[names['timestamp']]}, time: {times[0]}}}"
            raise DataError(what, str(path), fix, code=303)
        if likely:
            what = f"each date is there for several symbols, and the column {likely[0]} could name them"
            fix = f"set data.source.columns: {{symbol: {likely[0]}}}"
            raise DataError(what, str(path), fix, code=303)

    def _symbol_of(self, path: Path) -> str:
        if self.symbol is not None:
            return self.symbol
        try:
            return validate_symbol(ENDING.sub("", path.name))
        except ConfigError as error:
            raise ConfigError(error.what, f"name of {path}", "set data.source.symbol", code=231) from None


RAW_CLOSE = "close before adjustment"


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """The table without columns that hold nothing, such as the volume of an index; prices stay."""
    empty = [str(name) for name in table.columns if name not in {*ALIASES, *PRICES} and table[name].isna().all()]
    for name in empty:
        log.warning("column %s is empty — %s rows — it is left out", name, len(table))
    return table.drop(columns=empty)


def _require_form(names: Sequence[str] | None, separator: str | None, decimal: str | None) -> None:
    where, different = "data.source.names", names is None or len(set(names)) == len(names) > 0
    require(different, f"names={names}", where, "give each column a name of its own", code=275)
    one = separator is None or (len(separator) == 1 and not separator.isalnum())
    require(one, f"separator={separator!r}", "data.source.separator", "give one sign, such as ';'", code=275)
    known = decimal is None or decimal in DECIMALS
    require(known, f"decimal={decimal!r}", "data.source.decimal", "use '.' or ','", code=275)
