"""Checksums of the rows of metrics.csv, in a file next to it: the table itself stays as any reader of CSV expects it.

A checksum is of the cells with their columns, and not of the text of a row, so that it holds when a later metric adds a
column. It is written before its row: after a kill between the two, a row is missing, and none is there unchecked.

Nothing heavy is imported here, so that `cnn-lstm plot` starts fast.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_lstm.files import flush_file, replace_file
from cnn_lstm.hints import first_names

log = logging.getLogger(__name__)
Row = Mapping[Any, Any]  # cells by column, as `csv.DictReader` gives them


def checksum_of(row: Row) -> str:
    """CRC-32 of the cells of a row that are not empty, as hexadecimal digits.

    Example:
        >>> checksum_of({"step": "4", "x": "1.5"}) == checksum_of({"x": "1.5", "step": "4", "y": ""})
        True
    """
    cells = sorted((str(name), cell) for name, cell in row.items() if cell)
    return f"{zlib.crc32(json.dumps(cells).encode()):08x}"


class RowChecksums:
    """The checksums of a table.

    Args:
        table: The CSV file.
    """

    def __init__(self, table: Path) -> None:
        self.table, self.file = table, table.with_name(f".{table.name}.crc32")

    def add(self, rows: Iterable[Row], begin: bool) -> None:
        """Adds those of new rows. A table that has none, of an earlier version, gets none.

        Args:
            rows: The rows.
            begin: Whether they are the first ones of a new table.

        Raises:
            OSError: If the disk refuses them.
        """
        if begin or self.file.is_file():
            with self.file.open("w" if begin else "a", encoding="ascii") as lines:
                # a write that was refused may have left a part of a line
                lines.write("".join(f"\n{checksum_of(row)}" for row in rows))

    def replace(self, rows: Iterable[Row]) -> None:
        """Replaces them all, in one step.

        Raises:
            OSError: If the disk refuses it.
        """
        if self.file.is_file():
            text = "".join(f"\n{checksum_of(row)}" for row in rows)
            replace_file(self.file, lambda partial: partial.write_text(text, encoding="ascii"))

    def flush(self) -> None:
        """Waits until they are on the disk.

        Raises:
            OSError: If they cannot be written there.
        """
        if self.file.is_file():
            flush_file(self.file)

    def changed(self, rows: Iterable[Row]) -> list[int]:
        """Numbers of the lines whose row does not have its checksum.

        Args:
            rows: The rows of the table, the first of which is line 2.
        """
        known = self._known()
        return [] if known is None else [at for at, row in enumerate(rows, 2) if checksum_of(row) not in known]

    def missing(self, rows: Sequence[Row]) -> int:
        """How many rows are not there, as far as they were not changed."""
        lacking = (self._known() or set()) - {checksum_of(row) for row in rows}
        return max(0, len(lacking) - len(self.changed(rows)))

    def warn_of_damage(self, rows: Sequence[Row], all_rows: bool = True) -> None:
        """Warns of rows that were changed after the run wrote them, or that are missing.

        Args:
            rows: The rows of the table.
            all_rows: Whether those are all that it has.
        """
        lines, lacking = self.changed(rows), self.missing(rows) if all_rows else 0
        parts = [f"line {first_names([str(line) for line in lines])}"] if lines else []
        parts += [f"{lacking} rows are missing"] if lacking else []
        if parts:
            what, meaning = "the metrics were changed after the run wrote them", "the checkpoints are not concerned"
            log.warning("[W384] %s — %s: %s — %s", what, self.table, "; ".join(parts), meaning)

    def _known(self) -> set[str] | None:
        try:
            return set(self.file.read_text(encoding="ascii", errors="replace").split())
        except OSError:
            return None
