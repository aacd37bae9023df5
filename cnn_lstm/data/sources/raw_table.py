"""A file as cells under its own names, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cnn_lstm.data.sources.cells import guard, is_arrow, read_arrow
from cnn_lstm.data.sources.column_names import FIELDS, Levels, levels_of_names, plain_name
from cnn_lstm.data.sources.numbers import Decimal, has_commas
from cnn_lstm.data.sources.text_table import Layout, layout_of, read_text
from cnn_lstm.errors import DataError


@dataclass(frozen=True)
class TextForm:
    """What the user says of a text file.

    Attributes:
        header: Whether a line has the names of the columns.
        names: Names of the columns of a file without such a line.
        separator: What stands between two cells; None finds it.
        known: Names that may be in the header.
        missing: Words that count as missing.
    """

    header: bool = True
    names: tuple[str, ...] = ()
    separator: str | None = None
    known: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawTable:
    """Cells as they are in a file.

    Attributes:
        cells: Columns by position; the index is the number of the row, or of the line, in the file.
        header: Names of the columns.
        path: The file.
        levels: The header of two levels, if it is one.
        layout: Where the cells of a text file are; None for other files.
    """

    cells: pd.DataFrame
    header: list[str]
    path: Path
    levels: Levels | None = None
    layout: Layout | None = None

    def column(self, position: int) -> pd.Series:
        """A column under its name."""
        return self.cells[position].rename(self.header[position])

    def by_symbol(self) -> Iterator[tuple[str | None, RawTable]]:
        """The whole table, or one table per symbol of a header of two levels, without rows that are empty for it."""
        if self.levels is None:
            yield None, self
            return
        for symbol, positions in self.levels.parts().items():
            header = [self.levels.names[position] for position in positions]
            cells = self.cells[positions].set_axis(range(len(positions)), axis=1)
            values = cells[[k for k, name in enumerate(header) if plain_name(name) in FIELDS]]
            yield symbol, RawTable(cells[values.notna().any(axis=1)], header, self.path)

    def with_points(
        self, columns: Mapping[str, pd.Series], wanted: Collection[str], decimal: Decimal | None
    ) -> dict[str, pd.Series]:
        """The columns, as texts where a point may stand between thousands: `1.234` was taken for a number."""
        plain = self.layout is None or decimal == "." or not (decimal == "," or has_commas(columns, wanted))
        if plain or self.layout is None:
            return dict(columns)
        texts = read_text(self.path, self.layout, range(len(self.header)))
        return {name: texts[cells.name].reindex(cells.index) for name, cells in columns.items()}


def read_raw(path: Path, form: TextForm, text: Callable[[Sequence[str]], Collection[int]]) -> RawTable:
    """Reads a file.

    Args:
        path: CSV, plain or packed; Parquet or Feather.
        form: What the user says of text files.
        text: Positions of the columns of a header that are kept as text.

    Raises:
        DataError: E3xx, the file cannot be read.
    """
    if is_arrow(path):
        frame = read_arrow(path)
        header = [str(name) for name in frame.columns]
        frame = frame.set_axis(range(len(header)), axis=1).set_axis(range(1, len(frame) + 1), axis=0)
        levels = levels_of_names(header)
        return RawTable(frame, list(levels.names) if levels else header, path, levels)
    guard(path)
    layout = layout_of(path, form.separator, form.header and not form.names, form.known)
    if form.names:
        if len(form.names) != len(layout.names):
            what = f"{len(layout.names)} columns, and {len(form.names)} names"
            raise DataError(what, str(path), "give data.source.names one name per column", code=303)
        layout = replace(layout, names=form.names)
    levels = layout.levels
    keys = text(layout.names) if levels is None else [k for k, symbol in enumerate(levels.symbols) if not symbol]
    cells = read_text(path, layout, keys, form.missing)
    return RawTable(cells, list(layout.names), path, levels, layout)
