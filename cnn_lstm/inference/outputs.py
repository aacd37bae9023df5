"""Forecasts and embeddings that are written as they come: memory holds a block of them, not the whole table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from cnn_lstm.data.stored_tables import write_blocks
from cnn_lstm.files import write_whole
from cnn_lstm.hints import counted
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.model.calibration import Calibration


@dataclass
class Written:
    """What was written.

    Attributes:
        rows: Number of rows.
        symbols: Their symbols.
        first: First decision; None before there is any.
        last: Last decision.
    """

    rows: int = 0
    symbols: set[str] = field(default_factory=set)
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None

    def add(self, block: pd.DataFrame) -> None:
        """Takes a block into account."""
        self.rows += len(block)
        if len(block):
            self.symbols |= set(block["symbol"].unique())
            days = block["as_of"]
            self.first = min(days.min(), self.first or days.min())
            self.last = max(days.max(), self.last or days.max())

    def summary(self, noun: str) -> str:
        """For people, such as `12 forecasts of 3 symbols, 2010-01-04..2010-02-01`."""
        span = "" if self.first is None else f", {self.first:%Y-%m-%d}..{self.last:%Y-%m-%d}"
        return f"{counted(self.rows, noun)} of {counted(len(self.symbols), 'symbol')}{span}"


def with_intervals(
    blocks: Iterable[pd.DataFrame], calibration: Calibration | None, boundary: str
) -> Iterator[pd.DataFrame]:
    """`add_intervals` of blocks that hold whole symbols; the result is that of the whole table.

    Args:
        blocks: Blocks of `predictions_blocks`.
        calibration: As for `add_intervals`; that there is none is said once.
        boundary: As for `add_intervals`.
    """
    for number, block in enumerate(blocks):
        yield block if calibration is None and number else add_intervals(block, calibration, boundary)


def write_table_of(path: Path, blocks: Iterable[pd.DataFrame], rows: int) -> Written:
    """Writes a table with `symbol` and `as_of` by `write_blocks`, and says what it holds.

    Args:
        path: The file.
        blocks: As for `write_blocks`.
        rows: Rows of all blocks together.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written; the old file stays.
    """
    written = Written()

    def watched() -> Iterator[pd.DataFrame]:
        for block in blocks:
            written.add(block)
            yield block

    write_blocks(path, watched(), rows)
    return written


def write_csv_of(table: Path, path: Path) -> None:
    """Writes a Parquet file as CSV, group of rows by group of rows.

    Args:
        table: The Parquet file.
        path: The file to write.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written; the old file stays.
    """

    def write(partial: Path) -> None:
        with pq.ParquetFile(table) as file, partial.open("w", encoding="utf-8", newline="") as text:
            for number in range(file.num_row_groups):
                block: pd.DataFrame = file.read_row_group(number).to_pandas()
                block.to_csv(text, index=False, header=number == 0)

    write_whole(path, write)
