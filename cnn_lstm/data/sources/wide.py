"""Wide tables: one row per moment and one column per series, with dates or, as in many benchmarks, without."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from cnn_lstm.data.sources.base import PriceSource, select, utc_moment, validate_symbol
from cnn_lstm.data.sources.cells import matching_files
from cnn_lstm.data.sources.clock import Clock
from cnn_lstm.data.sources.numbers import number_columns
from cnn_lstm.data.sources.raw_table import RawTable, TextForm, read_raw
from cnn_lstm.data.sources.zip_members import archives_stay_open
from cnn_lstm.errors import DataError, require
from cnn_lstm.hints import first_names

log = logging.getLogger(__name__)
Layout = Literal["columns", "series"]
Step = Literal["business day", "day", "hour"]
FREQUENCIES: dict[str, str] = {"business day": "B", "day": "D", "hour": "h"}
DATES = ("date", "timestamp", "datetime", "time")


class WideFile(PriceSource):
    """A table with one column per series, from CSV, plain or packed, Parquet or Feather.

    Args:
        paths: One path, several, or a pattern.
        names: Names of the columns, in order, of a file that is a bare matrix; its first line is then data. None takes
            them from the header.
        layout: `columns` makes one symbol of a file, with all series as its columns, so that each series is an input of
            every other; `series` makes each series a symbol of its own, with one column.
        symbol: Symbol of a file in the layout `columns`; the file's name without its ending by default.
        value: Name of the only column in the layout `series`.
        artificial_start: ISO date that the first row is given in a file without dates. The dates that follow are
            artificial, and a warning says so: features of the calendar mean nothing then. None reads them from the
            column date, timestamp, datetime or time, in ISO form.
        artificial_step: Distance of the artificial dates.

    Raises:
        ConfigError: E2xx, an argument is malformed.

    Example:
        >>> WideFile("rates.txt", names=["GBP", "JPY"], artificial_start="1990-01-01").layout
        'columns'
    """

    def __init__(
        self,
        paths: str | list[str],
        names: list[str] | None = None,
        layout: Layout = "columns",
        symbol: str | None = None,
        value: str = "value",
        artificial_start: str | None = None,
        artificial_step: Step = "business day",
    ) -> None:
        self.paths = [paths] if isinstance(paths, str) else list(paths)
        where = "data.source"
        require(bool(self.paths) and all(self.paths), "data.source.paths is empty", "", "give a path", code=201)
        require(layout in get_args(Layout), f"layout={layout!r}", where, f"use {' or '.join(get_args(Layout))}")
        require(artificial_step in FREQUENCIES, f"artificial_step={artificial_step!r}", where, f"use {[*FREQUENCIES]}")
        different = names is None or len(set(names)) == len(names) > 0
        require(different, f"names={names}", where, "give each column a name of its own")
        self.names, self.layout, self.value = names, layout, value
        self.symbol = None if symbol is None else validate_symbol(symbol)
        self.start = None if artificial_start is None else utc_moment(artificial_start, f"{where}.artificial_start")
        self.step = artificial_step

    @archives_stay_open()
    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load all files; see `PriceSource.load`."""
        table = pd.concat([self._table(path) for path in matching_files(self.paths)], ignore_index=True)
        return select(table, symbols, start, end, ", ".join(self.paths))

    def _table(self, path: Path) -> pd.DataFrame:
        """The long table of one file."""
        raw = self._raw(path)
        dates = self._dates(raw.header)[:1]
        series = {name: raw.cells[k] for k, name in enumerate(raw.header) if k not in dates}
        if self.start is not None:
            when = self._artificial(self.start, len(raw.cells), path)
        elif dates:
            when = Clock(None, None).read(raw.column(dates[0]), str(path)).reset_index(drop=True)
        else:
            fix = "name the column of dates `date`, or set data.source.artificial_start"
            raise DataError("no column of dates", f"{path} has {first_names(raw.header)}", fix, code=303)
        numbers = number_columns(raw.with_points(series, set(series), None), set(series), str(path))
        values = {name: column.reset_index(drop=True) for name, column in numbers.items()}
        if self.layout == "columns":
            parts = [pd.DataFrame({"symbol": self._symbol_of(path), "timestamp": when, **values})]
        else:
            parts = [pd.DataFrame({"symbol": name, "timestamp": when, self.value: values[name]}) for name in series]
        return pd.concat(parts, ignore_index=True).astype({"symbol": "str"})

    def _raw(self, path: Path) -> RawTable:
        """The cells of a file under the names of its columns, each of which is there once."""
        raw = read_raw(path, TextForm(self.names is None, tuple(self.names or ())), self._dates)
        if raw.cells.empty:
            raise DataError("0 rows", str(path), "give a table with at least one row", code=302)
        if self.names is not None and len(self.names) != len(raw.header):
            what = f"{len(raw.header)} columns, and {len(self.names)} names"
            raise DataError(what, str(path), "give data.source.names one name per column", code=303)
        header = self.names or [name or f"column {k + 1}" for k, name in enumerate(raw.header)]
        if twice := [name for name in dict.fromkeys(header) if header.count(name) > 1]:
            what, fix = f"{first_names(twice)}: a name of several columns", "give each column a name of its own"
            raise DataError(what, str(path), fix, code=303)
        return replace(raw, header=list(header), levels=None)

    def _dates(self, header: Sequence[str]) -> list[int]:
        """Positions of the columns of dates."""
        return [k for k, name in enumerate(header) if self.start is None and name.strip().lower() in DATES]

    def _artificial(self, start: pd.Timestamp, rows: int, path: Path) -> pd.Series:
        """Dates for a file that has none."""
        when = pd.date_range(start, periods=rows, freq=FREQUENCIES[self.step]).as_unit("us")
        first = f"{when[0]:%Y-%m-%d}"
        log.warning("%s has no dates: its rows are dated from %s on, one %s each", path, first, self.step)
        return pd.Series(when)

    def _symbol_of(self, path: Path) -> str:
        return self.symbol or validate_symbol(path.name.split(".")[0])
