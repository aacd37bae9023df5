"""What never changes of a symbol, such as its sector: categories, from a table of their own to codes in a panel.

A category travels as the code of its name, as a symbol does, see `symbol_codes`: the same in every table and program.
Shapes: n rows of prices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.features import Feature
from cnn_lstm.data.side_files import frame_of, require_columns
from cnn_lstm.data.sources.column_names import our_name
from cnn_lstm.data.symbol_codes import code_of, distinct_codes
from cnn_lstm.errors import DataError, require
from cnn_lstm.hints import counted, first_names

if TYPE_CHECKING:
    from cnn_lstm.data.arrow_frames import Frame

    Table = str | Path | Frame
else:
    Table = str  # a configuration names a file; a frame exists in Python alone

SYMBOL = "symbol"
PREFIX = "static_"
FAMILY = "static"
WHERE = "the table of static columns"
Vocabulary = Mapping[str, Collection[str]]


@dataclass(frozen=True, eq=False)
class StaticColumns:
    """What never changes of a symbol: sector, exchange, currency, the symbol itself (`data.static` in YAML).

    Each column is an embedding in the model, see `CategoryScale`; lines and baselines do not read it.

    Args:
        columns: Names of the columns. `symbol` is the symbol itself, which needs no table; such a model forecasts the
            symbols of its training alone.
        table: CSV, Parquet or Feather file; in Python also a frame of pandas, Polars or Arrow. It has a column `symbol`
            and one for each other name. It may be a price table: a symbol may have several rows, which say the same.

    Raises:
        ConfigError: If an argument is out of its range.

    Example:
        >>> StaticColumns(["sector", "symbol"], "symbols.csv").names
        ('static_sector', 'static_symbol')
    """

    columns: list[str]
    table: Table | None = None

    def __post_init__(self) -> None:
        require_columns(self.columns, "data.static.columns")
        needed = [name for name in self.columns if name != SYMBOL]
        what = f"no table says the {first_names(needed)} of a symbol"
        require(not needed or self.table is not None, what, "data.static", "give its table", code=225)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns in a panel."""
        return static_names(self.columns)

    def load(self) -> StaticTable:
        """Reads and checks the table.

        Raises:
            DataError: If it is missing or damaged, or a symbol changes its category.
        """
        needed = [name for name in self.columns if name != SYMBOL]
        values = _read(self.table, needed) if needed else {}
        return StaticTable(values, WHERE if not isinstance(self.table, str | Path) else str(self.table))


def static_names(columns: Sequence[str]) -> tuple[str, ...]:
    """Names of static columns in a panel.

    Example:
        >>> static_names(["sector"])
        ('static_sector',)
    """
    return tuple(f"{PREFIX}{name}" for name in columns)


@dataclass(frozen=True, eq=False)
class StaticTable:
    """Categories of symbols.

    Attributes:
        values: Category of each symbol, by column; without the column `symbol`.
        place: The file, for messages.
    """

    values: Mapping[str, Mapping[str, str]]
    place: str

    def digest(self) -> str:
        """SHA-256 of all that it says."""
        plain = [(name, sorted(of_symbols.items())) for name, of_symbols in self.values.items()]
        return hashlib.sha256(repr(plain).encode()).hexdigest()

    def category(self, column: str, symbol: str, known: Collection[str] | None = None) -> str:
        """The category of a symbol.

        Args:
            column: Name of the column.
            symbol: The symbol.
            known: Categories that the model has learnt; None for any.

        Raises:
            DataError: E377, the table does not name the symbol; E378, the category is not a known one.

        Example:
            >>> StaticTable({}, "").category("symbol", "IBM", ["AAPL", "MSFT"])
            Traceback (most recent call last):
            cnn_lstm.errors.DataError: error[E378]: the symbol 'IBM' was not in the training — known: AAPL, MSFT — \
leave it out, or train again with it
        """
        found = symbol if column == SYMBOL else self.values[column].get(symbol)
        if found is None:
            what, has = f"no {column} for {symbol}", first_names(list(self.values[column]))
            raise DataError(what, f"{self.place} has {has}", "add its row", code=377)
        if known is not None and found not in known:
            name = f"the symbol {found!r}" if column == SYMBOL else f"the {column} {found!r} of {symbol}"
            fix = "leave it out, or train again with it"
            raise DataError(f"{name} was not in the training", f"known: {first_names(sorted(known))}", fix, code=378)
        return found


def static_feature(column: str, table: StaticTable, known: Collection[str] | None) -> Feature:
    """The feature of a static column: the code of each row's category.

    Args:
        column: Name of the column.
        table: The categories.
        known: Categories that the model has learnt; None for any.
    """
    return Feature(f"{PREFIX}{column}", _Codes(column, table, known), 0, (), FAMILY)


@dataclass(frozen=True)
class _Codes:
    """The function of a feature."""

    column: str
    table: StaticTable
    known: Collection[str] | None

    def __call__(self, bars: pd.DataFrame) -> NDArray[np.float64]:
        numbers, symbols = pd.factorize(bars[SYMBOL])
        codes = [float(code_of(self.table.category(self.column, str(symbol), self.known))) for symbol in symbols]
        return np.array(codes)[numbers]


def vocabulary(
    columns: Sequence[str], table: StaticTable, trained: Sequence[str], every: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Categories of some symbols by column, sorted: what a model that trains on them learns.

    Args:
        columns: Names of the columns.
        table: The categories.
        trained: Symbols with training rows.
        every: All symbols, those of validation and test among them.

    Raises:
        DataError: E377, a symbol has no category, or two categories share a code; E378, no training row has the
            category of a symbol.

    Example:
        >>> table = StaticTable({"sector": {"IBM": "tech", "KO": "food", "XOM": "oil"}}, "symbols.csv")
        >>> vocabulary(["sector"], table, ["KO", "IBM"])
        {'sector': ['food', 'tech']}
    """
    found = {name: sorted({table.category(name, symbol) for symbol in trained}) for name in columns}
    for name, categories in found.items():
        for symbol in every:
            table.category(name, symbol, categories)
        alike = sorted(set(categories) - set(distinct_codes(categories)))
        if alike:
            what, fix = f"{first_names(alike)} have one code", "rename one of them"
            raise DataError(what, f"{table.place}: {name}", fix, code=377)
    return found


def _read(source: object, needed: Sequence[str]) -> dict[str, dict[str, str]]:
    frame, place = frame_of(source, WHERE, set(needed))
    keys = [str(name) for name in frame.columns if name not in needed and our_name(str(name)) == SYMBOL]
    if not keys and our_name(str(frame.index.name)) == SYMBOL:
        frame, keys = frame.reset_index(), [str(frame.index.name)]
    missing = [name for name in needed if name not in frame.columns] + ([] if len(keys) == 1 else [SYMBOL])
    if missing or frame.empty:
        what = f"no column {first_names(missing)}" if missing else "0 rows"
        where = f"{place} has {first_names([str(name) for name in frame.columns])}"
        raise DataError(f"{WHERE}: {what}", where, "correct data.static", code=377)
    texts = pd.DataFrame({name: _texts(frame[name]) for name in (keys[0], *needed)}).rename(columns={keys[0]: SYMBOL})
    empty = (texts == "").any(axis=1)
    if empty.any():
        row = texts[empty].iloc[0]
        name = next(name for name in (SYMBOL, *needed) if row[name] == "")
        where = f"{place}: {row[SYMBOL] or 'a row'}, {counted(int(empty.sum()), 'row')}"
        raise DataError(f"{WHERE}: {name} is empty", where, "give each symbol its category", code=377)
    return {name: _constant(texts, name, place) for name in needed}


def _constant(texts: pd.DataFrame, name: str, place: str) -> dict[str, str]:
    """Category of each symbol; refused where a symbol has several."""
    pairs = texts[[SYMBOL, name]].drop_duplicates()
    twice = pairs[pairs[SYMBOL].duplicated(keep=False)]
    if len(twice):
        symbol = str(twice[SYMBOL].iloc[0])
        several = first_names(twice.loc[twice[SYMBOL] == symbol, name].tolist())
        fix = "a static column never changes; a fact that does is a feature"
        raise DataError(f"{WHERE}: {name} of {symbol} changes: {several}", place, fix, code=377)
    return dict(zip(pairs[SYMBOL], pairs[name], strict=True))


def _texts(cells: pd.Series) -> pd.Series:
    """Cells as text; whole numbers without decimals, as files and frames write them, and nothing for a missing cell."""
    text = cells.astype("str").fillna("").str.strip()
    if pd.api.types.is_float_dtype(cells.dtype):
        text = text.mask(cells.isna(), "")
    return text.str.replace(r"^([+-]?\d+)\.0+$", r"\1", regex=True)
