"""Price tables that are read block by block: a folder of Parquet files or a database holds more rows than memory.

What a column means is found by the code that files are read by, once for the whole table: its names, whether its bars
are daily, and which columns hold numbers. A block is then read on its own.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal
from zoneinfo import ZoneInfo

import pandas as pd

from cnn_lstm.data.checks import BARS, PRICES
from cnn_lstm.data.sources.adjustment import scaled, with_adjustment
from cnn_lstm.data.sources.base import (
    BLOCK_ROWS,
    PriceSource,
    chosen_symbols,
    known_zone,
    no_rows,
    span_of,
    validate_symbol,
    within,
)
from cnn_lstm.data.sources.clock import Clock, require_format
from cnn_lstm.data.sources.column_names import ALIASES, TIME_OF_DAY, bind_columns, both_like_time
from cnn_lstm.data.sources.text_table import MISSING
from cnn_lstm.errors import DataError
from cnn_lstm.hints import counted, first_names, nearest

log = logging.getLogger(__name__)
Kind = Literal["numbers", "text", "nothing"]
# a bar of a day in Kiritimati has the UTC date before, one in Pago Pago the date behind
MARGIN = pd.Timedelta(days=2)
RAW_CLOSE = "close before adjustment"
Moment = pd.Timestamp | None


class Store(ABC):
    """A table that somebody else keeps, open.

    Attributes:
        header: Names of its columns, as they are there.
        where: The folder or the database, for messages.
    """

    header: list[str]
    where: str

    @abstractmethod
    def kind(self, position: int) -> Kind:
        """What a column holds."""

    @abstractmethod
    def rows(self, symbol: int | None) -> dict[str, int]:
        """Number of rows of each symbol.

        Args:
            symbol: Position of the column of symbols; None counts all rows under the empty name.
        """

    @abstractmethod
    def times(self, positions: Sequence[int]) -> Iterator[pd.DataFrame]:
        """The times that there are, in parts without an order; columns by position."""

    @abstractmethod
    def read(
        self, positions: Sequence[int], symbol: int | None, names: Sequence[str], time: int, low: Moment, high: Moment
    ) -> pd.DataFrame:
        """The rows of some symbols, columns by position.

        Args:
            positions: Columns to read.
            symbol: Position of the column of symbols, read as text; None reads the rows of all.
            names: Symbols to read.
            time: Position of the column of times.
            low: Rows before this moment may be left out; None where there are none.
            high: Rows at or behind this moment may be left out.
        """


class BlockSource(PriceSource):
    """A source that reads a store block by block; what is the same for all of them.

    Args:
        columns: Our name of a column -> the name in the store, as for `PriceFiles`.
        tz: Time zone of timestamps without an offset; None takes them as UTC. Daily bars keep their date.
        date_format: As for `PriceFiles`.
        symbol: The only symbol of a table that names none.
        only: Our names of the columns to read, next to symbol and timestamp; None reads all columns of numbers.
        adjust: As for `PriceFiles`.

    Raises:
        ConfigError: E2xx, an argument is malformed.
    """

    def __init__(
        self,
        columns: dict[str, str] | None = None,
        tz: str | None = None,
        date_format: str | None = None,
        symbol: str | None = None,
        only: list[str] | None = None,
        adjust: bool | None = None,
    ) -> None:
        require_format(date_format)
        zone = None if tz is None else ZoneInfo(known_zone(tz, "data.source.tz"))
        self.columns = {ours: str(theirs) for ours, theirs in (columns or {}).items()}
        self.clock = Clock(zone, date_format)
        self.symbol = None if symbol is None else validate_symbol(symbol)
        self.only, self.adjust = only, adjust

    @abstractmethod
    def open(self) -> AbstractContextManager[Store]:
        """The store, for as long as blocks are read from it."""

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load all blocks; see `PriceSource.load`."""
        return pd.concat(list(self.blocks(symbols, start, end)), ignore_index=True)

    def blocks(
        self, symbols: Sequence[str] | None, start: str | None, end: str | None, max_rows: int = BLOCK_ROWS
    ) -> Iterator[pd.DataFrame]:
        """The table in blocks of whole symbols, sorted by symbol; see `PriceSource.blocks`.

        Yields:
            Tables that are never empty. Rows of one symbol come in the order of the store.

        Raises:
            DataError: E302 a symbol that was asked for has no row in the span, or there is none at all; E303 a column
                is not there; E304 it holds no numbers; E333 a symbol is not there.
        """
        low, high = span_of(start, end)
        with self.open() as store:
            form = _form_of(store, self)
            counts = {self.symbol: 0} if form.symbol is None and self.symbol else store.rows(form.symbol)
            names = sorted(chosen_symbols(sorted(counts), symbols, store.where))
            some = False
            for group in grouped(names, counts, max_rows):
                table = form.bars(form.cells(group, low, high))
                if low is not None or high is not None:
                    table = table[within(table["timestamp"], low, high)].reset_index(drop=True)
                if symbols is not None and (lost := sorted(set(group) - set(table["symbol"]))):
                    raise no_rows(lost, start, end, store.where)
                if len(table):
                    some = True
                    if not table["symbol"].is_monotonic_increasing:
                        table = table.sort_values("symbol", kind="stable", ignore_index=True)
                    yield table
            if not some:
                raise no_rows([], start, end, store.where)


def grouped(names: Sequence[str], counts: Mapping[str, int], max_rows: int) -> Iterator[list[str]]:
    """Symbols in groups, in their order, whose rows together are at most `max_rows` unless it is a single symbol.

    Example:
        >>> list(grouped(["A", "B", "C", "D"], {"A": 2, "B": 2, "C": 9, "D": 1}, max_rows=4))
        [['A', 'B'], ['C'], ['D']]
    """
    group: list[str] = []
    rows = 0
    for name in names:
        if group and rows + counts[name] > max_rows:
            yield group
            group, rows = [], 0
        group.append(name)
        rows += counts[name]
    if group:
        yield group


@dataclass(frozen=True)
class _Form:
    """What the columns of a store are.

    Attributes:
        store: The store.
        numbers: Positions of the columns of numbers, by our names.
        time: Positions of the times; of days and times of day where there are two.
        symbol: Position of the symbols; None where the table has one symbol.
        only_symbol: That symbol.
        clock: How times are read.
    """

    store: Store
    numbers: Mapping[str, int]
    time: tuple[int, ...]
    symbol: int | None
    only_symbol: str | None
    clock: Clock

    def cells(self, names: Sequence[str], low: Moment, high: Moment) -> pd.DataFrame:
        """The cells of some symbols, columns by position; some rows around the span may be among them."""
        symbol = [] if self.symbol is None else [self.symbol]
        positions = list(dict.fromkeys([*self.time, *symbol, *self.numbers.values()]))
        span = (low and low - MARGIN, high and high + MARGIN)
        cells = self.store.read(positions, self.symbol, names, self.time[0], *span)
        return cells.set_axis(range(1, len(cells) + 1), axis=0)

    def bars(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The price table of cells."""
        of = self.only_symbol if self.symbol is None else cells[self.symbol].astype("str").str.strip()
        when = self._times(cells, of)
        table = pd.DataFrame({"symbol": of, "timestamp": when}, index=cells.index).astype({"symbol": "str"})
        numbers = {name: _numbers(cells[at], name, self.store.where) for name, at in self.numbers.items()}
        if RAW_CLOSE in numbers:
            theirs = {name: self.store.header[at] for name, at in self.numbers.items()}
            numbers = scaled(numbers, numbers.pop(RAW_CLOSE), theirs)
        return table.assign(**numbers).reset_index(drop=True)

    def _times(self, cells: pd.DataFrame, of: pd.Series | str | None) -> pd.Series:
        """Timestamps."""
        named = [cells[at].rename(self.store.header[at]) for at in self.time]
        with self._rows_named(of):
            if len(named) == 1:
                return self.clock.read(named[0], self.store.where)
            return self.clock.read_joined(named[0], named[1], self.store.where)

    @contextmanager
    def _rows_named(self, of: pd.Series | str | None) -> Iterator[None]:
        """Errors name the symbol of a row, since the number of a row in a block means nothing to anybody."""
        where = self.store.where
        try:
            yield
        except DataError as error:
            row = re.match(re.escape(where) + r":(\d+)", error.where)
            if row is None:
                raise
            symbol = of.loc[int(row[1])] if isinstance(of, pd.Series) else of
            place = f"{where}, a row of {symbol}" if symbol is not None else where
            raise DataError(error.what, place, error.fix, code=error.code) from None

    def with_daily(self) -> _Form:
        """The same, knowing whether all bars of the store are daily: a block alone would not prove it."""
        parts = (self._are_dates(cells) for cells in self.store.times(self.time) if len(cells))
        return replace(self, clock=replace(self.clock, daily=all(parts)))

    def _are_dates(self, cells: pd.DataFrame) -> bool:
        cells = cells.set_axis(range(1, len(cells) + 1), axis=0)
        if len(self.time) == 2:
            times = self._times(cells, None)
            return bool((times == times.dt.normalize()).all())
        with self._rows_named(None):
            return self.clock.are_dates(cells[self.time[0]].rename(self.store.header[self.time[0]]), self.store.where)


def _form_of(store: Store, source: BlockSource) -> _Form:
    """Finds what the columns of a store are."""
    names = bind_columns(store.header, source.columns, store.where)
    time = names.pop(TIME_OF_DAY, None)
    if time is not None and TIME_OF_DAY not in source.columns:
        raise both_like_time(store.header, names | {TIME_OF_DAY: time}, store.where)
    times = (names["timestamp"],) if time is None else (names["timestamp"], time)
    symbol = names.get("symbol") if source.symbol is None else None
    if symbol is None and source.symbol is None:
        where = f"{store.where} has {first_names(store.header)}"
        fix = "name it: data.source.columns: {symbol: ...}, or give the only symbol as data.source.symbol"
        raise DataError("no column symbol", where, fix, code=303)
    names, raw_close = with_adjustment(names, store.header, source.adjust, store.where)
    numbers = _number_columns(store, {n: at for n, at in names.items() if n not in ALIASES}, source)
    if raw_close is not None:
        numbers[RAW_CLOSE] = raw_close
    return _Form(store, numbers, times, symbol, source.symbol, source.clock).with_daily()


def _number_columns(store: Store, names: Mapping[str, int], source: BlockSource) -> dict[str, int]:
    """Positions of the columns of numbers that are read; what is left out is named once."""
    if source.only is not None:
        if missing := [name for name in source.only if name not in names]:
            where, fix = f"{store.where} has {first_names(sorted(names))}", nearest(missing[0], list(names))
            raise DataError(f"no column {missing[0]}", where, fix or "correct data.source.only", code=303)
        names = {name: names[name] for name in source.only}
    wanted = {*BARS, *source.columns, *(source.only or ())}
    kept: dict[str, int] = {}
    for name, at in names.items():
        kind = store.kind(at)
        if kind == "text" and name in wanted:
            fix = "store it as numbers, or leave it out by data.source.only"
            raise DataError(f"column {name} holds no numbers", store.where, fix, code=304)
        if kind == "text" or (kind == "nothing" and name not in PRICES):
            log.warning("column %s %s — %s — it is left out", name, NOT_READ[kind], store.where)
        else:
            kept[name] = at
    return kept


NOT_READ = {"text": "holds text", "nothing": "is empty"}


def _numbers(cells: pd.Series, name: str, where: str) -> pd.Series[float]:
    """A column as floats."""
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    bad = numbers.isna() & cells.notna()
    if bad.any() and not pd.api.types.is_numeric_dtype(cells.dtype):
        bad &= ~cells.astype("str").str.strip().isin(MISSING)
    if bad.any():
        text = str(cells[bad].iloc[0])[:40]
        place = f"{where}, column {name}, {counted(int(bad.sum()), 'cell')}"
        raise DataError(f"{text!r} is not a number", place, "store the column as numbers", code=304)
    return numbers
