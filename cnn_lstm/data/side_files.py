"""Tables next to the prices, facts known ahead and static columns: a file or a frame as columns under its own names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from cnn_lstm.data.arrow_frames import as_pandas
from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.sources.cells import matching_files
from cnn_lstm.data.sources.column_names import our_name
from cnn_lstm.data.sources.frame import write_frame
from cnn_lstm.data.sources.raw_table import TextForm, read_raw
from cnn_lstm.errors import DataError, require
from cnn_lstm.hints import first_names


def require_columns(columns: object, where: str) -> None:
    """Refuses what is not a list of different names.

    Raises:
        ConfigError: E224.

    Example:
        >>> require_columns(["sector", "sector"], "data.static.columns")
        Traceback (most recent call last):
        cnn_lstm.errors.ConfigError: error[E224]: columns=['sector', 'sector'] — data.static.columns — \
name at least one column, each once
    """
    named = isinstance(columns, list | tuple) and all(isinstance(name, str) and name for name in columns)
    different = named and 0 < len(set(columns)) == len(columns)  # type: ignore[call-overload,arg-type]  # a list by now
    require(different, f"columns={columns!r}", where, "name at least one column, each once")


def frame_of(table: object, what: str, wanted: Collection[str]) -> tuple[pd.DataFrame, str]:
    """The columns of a table that are keys or wanted, and what to call it in messages.

    Args:
        table: A file, or a frame of pandas, Polars or Arrow. Cells of text files stay text.
        what: What it is, for messages.
        wanted: Names of columns.

    Raises:
        DataError: E301, if the file is missing; E338, if it is not a table; or as `read_raw`.
    """
    if isinstance(table, str | Path):
        return _of_file(str(table), wanted), str(table)
    frame = as_pandas(table)
    if not isinstance(frame, pd.DataFrame):
        fix = "give a file, or a DataFrame of pandas, Polars or Arrow"
        raise DataError(f"{what} is {type(table).__name__}", "", fix, code=338)
    return frame[[name for name in frame.columns if _is_needed(str(name), wanted)]], f"the table of {what}"


def _of_file(path: str, wanted: Collection[str]) -> pd.DataFrame:
    files = matching_files([path])
    if len(files) > 1:
        raise DataError(f"{len(files)} files, not one", f"{path}: {first_names(list(map(str, files)))}", "", code=301)
    raw = read_raw(files[0], TextForm(known=frozenset(wanted)), lambda header: range(len(header)))
    needed = [place for place, name in enumerate(raw.header) if _is_needed(name, wanted)]
    header: Sequence[str] = [raw.header[place] for place in needed]
    return raw.cells[needed].set_axis(list(header), axis=1).reset_index(drop=True)


def _is_needed(name: str, wanted: Collection[str]) -> bool:
    return name in wanted or our_name(name) in KEYS


def kept_frame(table: object, folder: Path) -> Path:
    """Writes a frame to a Parquet file that is named after its content, with its index as columns.

    Args:
        table: A frame of pandas, Polars or Arrow.
        folder: Where to write; it is made if it does not exist.

    Raises:
        DataError: E338, it is not a table.
        ResourceError: If it cannot be written.
    """
    frame = as_pandas(table)
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"a table is {type(table).__name__}", "", "give a DataFrame of pandas, Polars or Arrow", code=338
        )
    plain = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
    return write_frame(plain, folder)
