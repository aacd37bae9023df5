"""Text files as tables: which line has the names, what separates the cells, and the cells as they are.

Only what the lines themselves prove is taken from them: the separator that cuts most lines into equally many cells,
lines above the header that are cut into fewer, and the header lines of a table with two levels of names.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.checks import BARS
from cnn_lstm.data.sources.cells import AS_CSV, opened
from cnn_lstm.data.sources.column_names import ALIASES, Levels, levels_of_rows, plain_name
from cnn_lstm.errors import DataError

MISSING = ["", "NaN", "nan", "NA", "N/A", "n/a", "NULL", "null", "None"]
# in this order where two cut all lines: a decimal comma stands between other separators, seldom the other way round
SEPARATORS = (";", "\t", "|", ",")
BLANK = " "  # any number of them: a table of fixed widths
HEAD_LINES = 100
PREAMBLE = 50
EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
NUMBER = r"[+-]?[$€£¥₹]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?[KMB%]?"
DATA = re.compile(rf"{NUMBER}|\d{{1,4}}([-/.])\d{{1,2}}\1\d{{1,4}}.*|\d{{8}}[T ]\d+|\d{{1,2}}:\d{{2}}.*")


@dataclass(frozen=True)
class Layout:
    """Where the cells of a text file are.

    Attributes:
        separator: What stands between two cells.
        skipped: Lines above the first row.
        names: Names of the columns, as they are; those of fields where the header has two levels.
        levels: The header of two levels, if it is one.
    """

    separator: str
    skipped: int
    names: tuple[str, ...]
    levels: Levels | None = None


def layout_of(path: Path, separator: str | None, header: bool, known: Collection[str]) -> Layout:
    """Finds the header of a text file.

    Args:
        path: A file that `guard` has let pass.
        separator: What stands between two cells; None finds it.
        header: Whether a line has the names of the columns; else they are numbered from 1 on.
        known: Names of columns that the user gave.

    Raises:
        DataError: E302 the file is empty; E305 the lines do not make a table; E344 the first line looks like data.
    """
    lines = _head(path)
    marked = EXCEL.fullmatch(lines[0])
    found = marked[1] if marked else _separator(lines)
    rows = [_split(line, separator or found) for line in lines]
    if marked:
        rows[0] = []
    width = _width(rows)
    if not header:
        first = next(k for k, row in enumerate(rows) if len(row) == width)
        return Layout(separator or found, first, tuple(str(k + 1) for k in range(width)))
    for at, (row, below) in enumerate(pairwise(rows[: PREAMBLE + 1])):
        beneath = rows[at + 2] if at + 2 < len(rows) else []
        if (levels := levels_of_rows(row, below, beneath)) is not None:
            return Layout(separator or found, at + levels.lines, levels.names, levels)
    at = _header(rows, width, known, path)
    return Layout(separator or found, at + 1, tuple(name.strip() for name in rows[at]))


def looks_like_data(row: Sequence[str], known: Collection[str] = ()) -> bool:
    """Whether a line is one of values rather than of names: most of its cells are numbers or dates, and none a name.

    Args:
        row: Its cells.
        known: Names that the user gave.

    Example:
        >>> looks_like_data(["1725148800000", "40006.5", "12"]), looks_like_data(["date", "0", "1"])
        (True, False)
    """
    cells = [cell.strip() for cell in row if cell.strip()]
    words = {*BARS, *(alias for aliases in ALIASES.values() for alias in aliases)}
    values = [cell for cell in cells if DATA.fullmatch(cell)]
    given = set() if set(known) & set(values) else set(known)  # the user took values for names
    named = any(plain_name(cell) in words or cell in given for cell in cells if cell not in values)
    counted = values in ([str(k + first) for k in range(len(values))] for first in (0, 1))
    return bool(values) and 2 * len(values) >= len(cells) and not named and not counted


def read_text(path: Path, layout: Layout, text: Collection[int], missing: Sequence[str] = ()) -> pd.DataFrame:
    """The cells of a text file: text columns as they are, and other columns as numbers where all their cells are.

    All columns are read: with `usecols`, pandas cuts rows that are too long without a word.

    Args:
        path: The file.
        layout: Where its cells are.
        text: Positions of the columns that are kept as text.
        missing: Words that count as missing next to those of `MISSING`.

    Returns:
        Columns by position. The index is the number of the line in the file; lines without a cell are left out.

    Raises:
        DataError: E302 or E305.
    """
    columns = list(range(len(layout.names)))
    words: dict[Any, list[str]] = {column: [*MISSING, *missing] for column in columns if column not in text}
    with opened(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would lose the last columns of long rows
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
        for _ in range(layout.skipped):
            lines.readline()
        try:
            cells: pd.DataFrame = pd.read_csv(
                lines,
                sep=r"\s+" if layout.separator == BLANK else layout.separator,
                header=None,
                names=columns,
                index_col=False,
                dtype=dict.fromkeys(text, "str"),
                keep_default_na=False,
                na_values=words,
                skip_blank_lines=False,
                skipinitialspace=True,
                low_memory=False,
            )
        except pd.errors.EmptyDataError:
            raise DataError("0 rows", str(path), "give a file with at least one bar", code=302) from None
        except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
            raise _no_table(path, layout, error) from error
    cells.index += layout.skipped + 1
    empty = cells.isna() | (cells == "")
    return cells[~empty.all(axis=1)]


def _head(path: Path) -> list[str]:
    """The first lines of a text file."""
    with opened(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
        try:
            lines = list(islice(text, HEAD_LINES))
        except UnicodeDecodeError as error:
            reason = f"not a CSV table: byte {error.object[error.start]:#x} is not UTF-8"
            raise DataError(reason, str(path), AS_CSV, code=305) from error
    if not any(line.strip() for line in lines):
        raise DataError("0 rows", str(path), "give a file with at least one bar", code=302)
    return lines


def _split(line: str, separator: str) -> list[str]:
    if separator == BLANK:
        return line.split()
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a cell of more than 128 KiB
        row = line.split(separator)
    return row if any(cell.strip() for cell in row) else []


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Number of cells that most lines of more than one have; the larger one of two that are as frequent."""
    counts = Counter(len(row) for row in rows if len(row) > 1) or Counter(len(row) for row in rows if row)
    return max(counts, key=lambda width: (counts[width], width))


def _separator(lines: Sequence[str]) -> str:
    """What cuts most lines into the same number of cells."""

    def cut(separator: str) -> int:
        counts = Counter(len(row) for line in lines if len(row := _split(line, separator)) > 1)
        return max(counts.values(), default=0)

    best = max(SEPARATORS, key=cut)
    if cut(best):
        return best
    return BLANK if 2 * cut(BLANK) > len(lines) else ","


def _header(rows: Sequence[Sequence[str]], width: int, known: Collection[str], path: Path) -> int:
    """Position of the line with the names: the first one as wide as the table that has the name of a time, or any."""
    wide = [k for k, row in enumerate(rows[:PREAMBLE]) if len(row) == width]
    if not wide:
        raise DataError(f"not a CSV table: no line of {width} cells above the rows", str(path), AS_CSV, code=305)
    dated = [k for k in wide if any(plain_name(cell) in ALIASES["timestamp"] or cell in known for cell in rows[k])]
    named = [k for k in dated if not looks_like_data(rows[k], known)]
    at = (named or dated or wide)[0]
    if not looks_like_data(rows[at], known):
        return at
    above = [k for k, row in enumerate(rows[:at]) if len(row) > 1 and not looks_like_data(row)]
    if above:
        raise _ragged(path, above[-1] + 1, len(rows[above[-1]]), at + 1, width)
    short = ", ".join(cell[:20] for cell in rows[at][:4])
    fix = (
        f"name its {width} columns: data.source.names: [timestamp, open, ...]; PriceFiles has data.source.header: false"
    )
    raise DataError(f"line {at + 1} looks like data ({short}, ...), not like names", str(path), fix, code=344)


def _no_table(path: Path, layout: Layout, error: Exception) -> DataError:
    """What keeps lines from being a table."""
    width = len(layout.names)
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return DataError(f"not a CSV table: byte {byte:#x} is not UTF-8", str(path), AS_CSV, code=305)
    with opened(path) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
        for number, line in enumerate(lines, start=1):
            if number > layout.skipped and len(row := _split(line, layout.separator)) > width:
                return _ragged(path, layout.skipped, width, number, len(row))
    reason = " ".join(str(error).split())[:150]
    return DataError(f"not a CSV table: {reason}", str(path), AS_CSV, code=305)


def _ragged(path: Path, header: int, names: int, line: int, cells: int) -> DataError:
    what = f"not a CSV table: line {line} has {cells} cells, and the header in line {header} has {names}"
    return DataError(what, f"{path}:{line}", "give each column a name, and each line as many cells", code=305)
