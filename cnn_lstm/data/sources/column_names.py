"""Names of columns: what users and vendors call them, and what we do. Files and frames share it.

A name that two columns could have is refused; nothing is taken by its position.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cnn_lstm.data.checks import BARS
from cnn_lstm.errors import DataError
from cnn_lstm.hints import nearest

ALIASES = {
    "timestamp": {"timestamp", "date", "datetime", "time", "ds"},
    "symbol": {"symbol", "ticker", "tic", "instrument", "unique_id"},
}
# names of vendors that mean one of ours and nothing else
VENDORS = {"close/last": "close", "vol.": "volume", "<vol>": "volume", "<dtyyyymmdd>": "date"}
# German exchanges and banks: their files have semicolons and decimal commas too
VENDORS |= {"datum": "date", "erster": "open", "eröffnung": "open", "hoch": "high", "tief": "low", "schluss": "close"}
VENDORS |= {"schlusskurs": "close", "stuecke": "volume", "stücke": "volume", "volumen": "volume"}
NAMELESS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
REPEATED = re.compile(r"(open|high|low|close|adj_close|volume)\.\d+")
FIELDS = {*BARS, "adj_close", "dividends", "stock_splits", "capital_gains"}
TIME_OF_DAY = "time"


def plain_name(name: str) -> str:
    """A column's name in lower case, without the signs around it, blanks as underscores.

    Example:
        >>> plain_name(" Adj Close"), plain_name("<CLOSE>"), plain_name("Vol."), plain_name("Schlusskurs")
        ('adj_close', 'close', 'volume', 'close')
    """
    plain = re.sub(r"\s+", "_", name.strip().lstrip("$").lower())
    return VENDORS.get(plain, plain[1:-1] if re.fullmatch(r"<.+>", plain) else plain)


def our_name(name: str) -> str:
    """What we call a column: `timestamp`, `symbol`, or its plain name.

    Example:
        >>> our_name("Date"), our_name("tic"), our_name("Adj Close")
        ('timestamp', 'symbol', 'adj_close')
    """
    plain = plain_name(name)
    return next((ours for ours, aliases in ALIASES.items() if plain in aliases), plain)


def bind_columns(header: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, int]:
    """Positions of the columns by our names; the mapping of the user comes first.

    Args:
        header: Names as they are.
        mapping: Our name -> name in the header. `date` and `time` name a date and a time of day in two columns.
        where: The file, for messages.

    Returns:
        Our name -> position. `timestamp` is always there. `time` is there where a column next to that of the dates
        could hold the times of day: its cells decide.

    Raises:
        DataError: E303, a column is not there, or two could be the same.

    Example:
        >>> bind_columns(["Date", "Close", "Adj Close"], {"close": "Adj Close"}, "x.csv")
        {'close': 2, 'timestamp': 0}
    """
    mapping = {("timestamp" if ours == "date" else ours): theirs for ours, theirs in mapping.items()}
    names = {ours: _mapped(theirs, header, where) for ours, theirs in mapping.items()}
    dates = _dates(header, names, where)
    for position, column in enumerate(header):
        ours = REPEATED.sub(r"\1", our_name(column))
        if position in names.values() or ours in mapping or NAMELESS.fullmatch(column) or ours == "timestamp":
            continue
        if ours in names:
            fix = f"say which: data.source.columns: {{{ours}: ...}}"
            what = f"{header[names[ours]]} and {column} both look like {ours}"
            if header[names[ours]] == column:
                what, fix = f"{what}: the header has this name twice", "give each column a name of its own"
            raise DataError(what, where, fix, code=303)
        names[our_name(column)] = position
    names |= dates
    nameless = [position for position, column in enumerate(header) if NAMELESS.fullmatch(column)]
    if "timestamp" not in names and nameless:
        names["timestamp"] = nameless[0]  # an index that was saved without a name; row numbers otherwise
    if "timestamp" not in names:
        likely = [column for column in header if re.search("date|time", column, re.IGNORECASE)]
        fix = f"name it: data.source.columns: {{timestamp: {likely[0] if len(likely) == 1 else '...'}}}"
        raise DataError("no column timestamp", f"{where} has {_listed(header)}", fix, code=303)
    return names


def both_like_time(header: Sequence[str], names: Mapping[str, int], where: str) -> DataError:
    """The refusal of two columns of which each could be the timestamp."""
    two = f"{header[names['timestamp']]} and {header[names[TIME_OF_DAY]]}"
    return DataError(f"{two} both look like timestamp", where, TWO_TIMES, code=303)


TWO_TIMES = "say which: data.source.columns: {timestamp: ...}, or {date: ..., time: ...} for a day and its time"


def _dates(header: Sequence[str], names: Mapping[str, int], where: str) -> dict[str, int]:
    """Positions of the timestamps, and of what could be their times of day."""
    alike = {k: plain_name(name) for k, name in enumerate(header) if our_name(name) == "timestamp"}
    if "timestamp" in names:
        times = [k for k, plain in alike.items() if plain == "time" and k != names["timestamp"]]
        free = TIME_OF_DAY not in names and len(times) == 1
        return {TIME_OF_DAY: times[0]} if free and alike.get(names["timestamp"]) != "timestamp" else {}
    rest = [k for k in alike if k not in names.values()]
    if len(rest) > 1 and sorted(alike[k] for k in rest) != ["date", "time"]:
        two = f"{header[rest[0]]} and {header[rest[1]]}"
        raise DataError(f"{two} both look like timestamp", where, TWO_TIMES, code=303)
    ordered = sorted(rest, key=lambda k: alike[k])
    return dict(zip(("timestamp", TIME_OF_DAY), ordered, strict=False))


def _mapped(theirs: str, header: Sequence[str], where: str) -> int:
    """Position of a column that the user names."""
    exact = [k for k, column in enumerate(header) if column == theirs]
    alike = exact or [k for k, column in enumerate(header) if column.strip().lower() == theirs.strip().lower()]
    if not alike:
        fix = nearest(theirs, header) or "correct data.source.columns"
        raise DataError(f"no column {theirs!r}", f"{where} has {_listed(header)}", fix, code=303)
    if len(alike) > 1:
        what = f"{len(alike)} columns are called {theirs!r}"
        raise DataError(what, where, "give each column a name of its own", code=303)
    return alike[0]


def _listed(header: Sequence[str]) -> str:
    """The names of a header for a message, cut off where they are long."""
    text = ", ".join(header[:20])
    return text if len(text) <= 160 else text[:160] + "..."


# -- headers of two levels, a field and a symbol, as yfinance writes them ----------------------------------------------


@dataclass(frozen=True)
class Levels:
    """A header of two levels.

    Attributes:
        names: Field of each column, or the name of the time.
        symbols: Symbol of each column, or nothing for the time.
        lines: Lines of the file that it takes.
    """

    names: tuple[str, ...]
    symbols: tuple[str, ...]
    lines: int = 0

    def parts(self) -> dict[str, list[int]]:
        """Positions of the columns of each symbol, in the order of the file, the time first."""
        shared = [k for k, symbol in enumerate(self.symbols) if not symbol]
        named = dict.fromkeys(symbol for symbol in self.symbols if symbol)
        return {name: [*shared, *(k for k, symbol in enumerate(self.symbols) if symbol == name)] for name in named}


def levels_of_rows(first: Sequence[str], second: Sequence[str], third: Sequence[str]) -> Levels | None:
    """The header that two or three lines are, if one has fields, one symbols, and the third the name of the time alone.

    Example:
        >>> levels_of_rows(["Price", "Close", "Open"], ["Ticker", "ACME", "ACME"], ["Date", "", ""])
        Levels(names=('Date', 'Close', 'Open'), symbols=('', 'ACME', 'ACME'), lines=3)
    """
    if len(first) != len(second) or len(first) < 2 or re.search(r"\d", second[0]):
        return None
    named = len(third) == len(first) and bool(third[0].strip()) and not any(cell.strip() for cell in third[1:])
    time = third[0] if named else first[0] if our_name(first[0]) == "timestamp" else ""
    pairs = zip(first[1:], second[1:], strict=True)
    return levels_of_pairs([(time, ""), *pairs], lines=3 if named else 2)


def levels_of_pairs(pairs: Sequence[tuple[str, str]], lines: int = 0) -> Levels | None:
    """The header of columns with two names each: a field and a symbol, in either order.

    Args:
        pairs: Two names of each column; those of the time are its name and nothing, or its name twice.
        lines: Lines of the file that it takes.

    Example:
        >>> levels_of_pairs([("Date", ""), ("ACME", "Close"), ("BOLT", "Close")]).symbols
        ('', 'ACME', 'BOLT')
    """
    one, two = ([str(name).strip() for name in names] for names in zip(*pairs, strict=True))
    times = [not b or our_name(a) == "timestamp" for a, b in zip(one, two, strict=True)]
    values = [k for k, time in enumerate(times) if not time]
    for fields, symbols in ((one, two), (two, one)):
        known = all(plain_name(fields[k]) in FIELDS for k in values)
        texts = all(re.search("[^\\W\\d]", symbols[k]) and plain_name(symbols[k]) not in FIELDS for k in values)
        each = [sorted(fields[k] for k in values if symbols[k] == name) for name in {symbols[k] for k in values}]
        alike = all(one == each[0] for one in each) and len(set(each[0])) == len(each[0]) if each else False
        if known and texts and alike:
            names = tuple(a if time else field for a, field, time in zip(one, fields, times, strict=True))
            of = tuple("" if time else symbol for symbol, time in zip(symbols, times, strict=True))
            return Levels(names, of, lines)
    return None


def levels_of_names(names: Sequence[object]) -> Levels | None:
    """The header of columns whose names are pairs, or texts of pairs as Arrow files keep them.

    Example:
        >>> levels_of_names(["('Close', 'ACME')", "('Open', 'ACME')", "Date"]).symbols
        ('ACME', 'ACME', '')
    """
    pairs = [_pair(name) for name in names]
    if not any(b for _, b in pairs):
        return None
    return levels_of_pairs(pairs)


def _pair(name: object) -> tuple[str, str]:
    if isinstance(name, str) and re.fullmatch(r"\('[^']*', '[^']*'\)", name):
        name = ast.literal_eval(name)
    if isinstance(name, tuple) and len(name) == 2:
        return str(name[0]), str(name[1])
    return str(name), ""


def symbol_candidates(cells: pd.DataFrame, header: Sequence[str], taken: Sequence[int], when: pd.Series) -> list[str]:
    """Columns that tell rows of one moment apart, as a column of symbols does.

    Args:
        cells: Columns by position.
        header: Their names.
        taken: Positions that are not asked about.
        when: Timestamps of the rows.

    Example:
        >>> cells = pd.DataFrame({0: ["d", "d", "e", "e"], 1: ["ACME", "BOLT", "ACME", "BOLT"]})
        >>> symbol_candidates(cells, ["date", "Name"], [0], cells[0])
        ['Name']
    """
    names = []
    for position, name in enumerate(header):
        column = cells[position]
        named = pd.api.types.infer_dtype(column) in {"string", "integer", "categorical"}
        if position in taken or not named or column.nunique() > len(column) / 2:
            continue
        if not pd.DataFrame({"symbol": column, "when": when}).duplicated().any():
            names.append(name)
    return names
