"""Where price tables come from: the abstract source and what all sources share.

A price table is long: `symbol` (str), `timestamp` (UTC, microseconds; a daily bar carries midnight UTC of its
session date), then float64 columns, usually open, high, low, close and volume. A row is a bar of a symbol.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import available_timezones

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.errors import ConfigError, DataError, require
from cnn_lstm.hints import first_names, nearest
from cnn_lstm.specs import Serializable

MOST_LETTERS = 40
SIGNS = ". ^ = _ - / & $ : + ! # @"
SYMBOL = re.compile(r"(?![=+@#!:/ -])[A-Za-z0-9.^=_/&$:+!#@ -]+")
PATH = re.compile(r"(^|/)\.*(/|$)|  | $")  # a part of a path that is empty or dots; two blanks, or one at the end
TIME_DTYPE = "datetime64[us, UTC]"
BLOCK_ROWS = 1_000_000


def validate_symbol(name: str) -> str:
    """Refuse a symbol that could be a path, a spreadsheet formula or rubbish; return it unchanged otherwise.

    A first `=`, `+`, `-` or `@` is refused too: no market uses it and a spreadsheet would run it as a formula. Nothing
    that we write is named after a symbol, so that one may hold what a file name may not.

    Args:
        name: Symbol as the user or the table gives it.

    Raises:
        ConfigError: E231, the symbol is not 1 to 40 letters, digits, `. ^ = _ - / & $ : + ! # @` or single blanks.

    Example:
        >>> [validate_symbol(name) for name in ("BRK-B", "^GSPC", "EURUSD=X", "BTC/USDT:USDT", "M&M.NS", "$SPX")]
        ['BRK-B', '^GSPC', 'EURUSD=X', 'BTC/USDT:USDT', 'M&M.NS', '$SPX']
    """
    given: object = name  # a table may hold anything
    known = isinstance(given, str) and len(given) <= MOST_LETTERS and SYMBOL.fullmatch(given)
    if not known or PATH.search(name):
        short = repr(name if len(str(name)) <= MOST_LETTERS else str(name)[:MOST_LETTERS] + "...")
        fix = f"use 1 to {MOST_LETTERS} letters, digits, single blanks or {SIGNS}, and begin with none of = + - @"
        raise ConfigError(f"symbol {short} is not allowed", "", fix, code=231)
    return name


def under_symbol(table: pd.DataFrame, symbol: str | None, where: str) -> pd.DataFrame:
    """A table of one symbol, under another name.

    Args:
        table: Price table.
        symbol: The name; None leaves the table as it is.
        where: The file, for the message.

    Raises:
        ConfigError: E231, the table has several symbols.
    """
    if symbol is None:
        return table
    names = [str(name) for name in table["symbol"].unique()]
    fix = "leave it out, and choose symbols by data.symbols"
    require(len(names) == 1, f"data.source.symbol is {symbol}", f"{where} has {first_names(names)}", fix, code=231)
    return table.assign(symbol=symbol).astype({"symbol": "str"})


def known_zone(name: str, key: str) -> str:
    """The name of a time zone.

    Args:
        name: For example America/New_York.
        key: Name of the option, for the message.

    Raises:
        ConfigError: E210, the zone is unknown.
    """
    zones = available_timezones()
    fix = nearest(name, zones) or "use a name such as America/New_York"
    require(name in zones, f"unknown time zone {name!r}", key, fix, code=210)
    return name


def utc_moment(text: str | date, key: str) -> pd.Timestamp:
    """An ISO date or date with time as a UTC timestamp; a time without an offset is taken as UTC.

    Args:
        text: For example `2020-01-31` or `2020-01-31T14:30`; or a `date`, `datetime` or `pd.Timestamp`.
        key: Name of the option, for the message.

    Raises:
        ConfigError: E209, the text is not an ISO date.

    Example:
        >>> utc_moment("2020-01-31", "data.start")
        Timestamp('2020-01-31 00:00:00+0000', tz='UTC')
    """
    try:
        moment = datetime.fromisoformat(text.isoformat() if isinstance(text, date) else text)
    except (TypeError, ValueError):
        raise ConfigError(f"{key} is {text!r}, not an ISO date", "", "write it as 2020-01-31", code=209) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return pd.Timestamp(moment).tz_convert("UTC").as_unit("us")


def stamp(text: str | date, key: str) -> np.datetime64:
    """An ISO date or moment as the UTC microseconds that a panel holds.

    Args:
        text: Date or moment, as text or as an object; without a zone it is UTC.
        key: Where it was given, for the message.

    Raises:
        ConfigError: If it is not an ISO date.

    Example:
        >>> str(stamp("2020-01-02", "data.split.test"))
        '2020-01-02T00:00:00.000000'
    """
    moment: np.datetime64 = utc_moment(text, key).tz_localize(None).to_datetime64().astype("datetime64[us]")
    return moment


def check_symbols(symbols: Sequence[str]) -> list[str]:
    """The requested symbols, validated, each once, in the order asked.

    Args:
        symbols: Requested symbols.

    Raises:
        ConfigError: E231, no symbol at all or one that is not allowed.

    Example:
        >>> check_symbols(["IBM", "AAPL", "IBM"])
        ['IBM', 'AAPL']
    """
    listed = bool(symbols) and not isinstance(symbols, str)
    require(listed, f"data.symbols is {symbols!r}", "", "give a list of at least one symbol", code=231)
    return [validate_symbol(name) for name in dict.fromkeys(symbols)]


def select(
    table: pd.DataFrame, symbols: Sequence[str] | None, start: str | None, end: str | None, where: str
) -> pd.DataFrame:
    """Keep the requested symbols and the bars in `[start, end)`; nothing asked for disappears silently.

    Args:
        table: Price table.
        symbols: Symbols to keep; None keeps all.
        start: First ISO date, inclusive; None is unbounded.
        end: Last ISO date, exclusive; None is unbounded.
        where: Name of the source, for messages.

    Raises:
        ConfigError: A symbol or date is malformed, or start is not before end.
        DataError: E333 symbols that are not there; E302 no row is left, of one requested symbol or at all.
    """
    present = list(table["symbol"].unique())
    wanted = chosen_symbols(present, symbols, where)
    keep = within(table["timestamp"], *span_of(start, end))
    if len(wanted) < len(present):
        keep &= table["symbol"].isin(wanted).to_numpy()
    kept = (table if keep.all() else table.loc[keep]).reset_index(drop=True)
    lost = [] if symbols is None else sorted(set(wanted) - set(kept["symbol"].unique()))
    if lost or kept.empty:
        first, last = table["timestamp"].min(), table["timestamp"].max()
        span = f"{where} runs from {first:%Y-%m-%d} to {last:%Y-%m-%d}" if len(table) else where
        raise no_rows(lost, start, end, span)
    return kept


def chosen_symbols(present: Sequence[str], symbols: Sequence[str] | None, where: str) -> list[str]:
    """The requested symbols, each once, or all that there are.

    Args:
        present: Symbols of a source.
        symbols: Requested symbols; None is all.
        where: Name of the source, for messages.

    Raises:
        ConfigError: E231, a symbol is not allowed.
        DataError: E333, a symbol is not there.

    Example:
        >>> chosen_symbols(["B", "A"], None, "prices/"), chosen_symbols(["B", "A"], ["A"], "prices/")
        (['B', 'A'], ['A'])
    """
    present = [validate_symbol(name) for name in present]
    wanted = present if symbols is None else check_symbols(symbols)
    known = set(present)
    if missing := [name for name in wanted if name not in known]:
        hint = nearest(missing[0], present) or "ask for the symbols that are there"
        error = DataError(f"no rows for {first_names(missing)}", f"{where} has {first_names(present)}", hint, code=333)
        error.symbols = tuple(missing)
        raise error
    return wanted


def span_of(start: str | None, end: str | None) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """The first moment of a span and the one behind its last; None where it is open.

    Raises:
        ConfigError: E209, a date is malformed; E223, start is not before end.
    """
    low = None if start is None else utc_moment(start, "start")
    high = None if end is None else utc_moment(end, "end")
    in_order = low is None or high is None or low < high
    require(in_order, f"start {start} is not before end {end}", "", "end is exclusive", code=223)
    return low, high


def within(times: pd.Series, low: pd.Timestamp | None, high: pd.Timestamp | None) -> NDArray[np.bool_]:
    """Which times, (n,), lie in a span of `span_of`."""
    inside = np.ones(len(times), dtype=bool)
    if low is not None:
        inside &= (times >= low).to_numpy()
    if high is not None:
        inside &= (times < high).to_numpy()
    return inside


def no_rows(symbols: Sequence[str], start: str | None, end: str | None, where: str) -> DataError:
    """The refusal of a span in which some symbols, or all, have no row."""
    of = " for " + first_names(symbols) if symbols else ""
    what = f"0 rows{of} between {start or 'ever'} and {end or 'now'}"
    error = DataError(what, where, "change start, end or symbols", code=302)
    error.symbols = tuple(symbols)
    return error


class PriceSource(Serializable, ABC):
    """Loads a price table; give a subclass by `class_path` in YAML.

    Attributes:
        local: Whether loading another span needs no network.
    """

    local: bool = True

    @abstractmethod
    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load the bars of some symbols in a span of time.

        Args:
            symbols: Symbols to load; None is all that the source has.
            start: First ISO date, inclusive; None is the first bar there is.
            end: Last ISO date, exclusive; None is the last bar there is.

        Returns:
            Long table: `symbol`, `timestamp` (UTC), then float64 columns. Not sorted, not checked.

        Raises:
            ConfigError: The request is malformed.
            DataError: The table is missing, damaged, or lacks a requested symbol.
        """

    def files(self) -> list[Path] | None:
        """Files that decide, with the arguments of the source, what `load` returns; None where anything else does.

        Their content then stands for the table, which need not be read to know it.
        """
        return None

    def blocks(
        self, symbols: Sequence[str] | None, start: str | None, end: str | None, max_rows: int = BLOCK_ROWS
    ) -> Iterator[pd.DataFrame]:
        """The table of `load` in blocks, for tables that do not fit in memory.

        The blocks of a source joined are its `load`. All rows of a symbol lie in one block, and several blocks follow
        one another in the order of their symbols. A source that does not know better gives its whole table as one.

        Args:
            symbols: As for `load`.
            start: As for `load`.
            end: As for `load`.
            max_rows: Rows of a block, unless a single symbol has more.

        Yields:
            Long tables with the same columns.

        Raises:
            ConfigError: The request is malformed.
            DataError: As `load`; what is wrong with a later block is only seen there.
        """
        yield self.load(symbols, start, end)
