"""Row numbers in chunks, so that a panel of many millions of rows is never looked at as a whole.

Shapes: N panel rows, n row numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.times import Times

Rows = NDArray[np.int64]
CHUNK_ROWS = 1 << 18
_NONE: Rows = np.empty(0, dtype=np.int64)


class RowCollector:
    """Collects row numbers chunk by chunk.

    Args:
        folder: Where they are kept meanwhile and afterwards, in a file without a name that is mapped into memory and
            ends with the process; None keeps them in memory.

    Example:
        >>> collector = RowCollector()
        >>> collector.add(np.array([1, 2]))
        >>> collector.add(np.array([5]))
        >>> collector.rows().tolist()
        [1, 2, 5]
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._chunks: list[Rows] = []
        self._file: IO[bytes] | None = None
        if folder is not None:
            self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `rows`
        self._count = 0

    def add(self, rows: Rows) -> None:
        """Takes the next row numbers, (n,)."""
        self._count += len(rows)
        if self._file is None:
            self._chunks.append(rows)
        else:
            self._file.write(np.ascontiguousarray(rows, dtype=np.int64).data)

    def rows(self) -> Rows:
        """All row numbers in the order in which they came, (n,)."""
        if self._file is None:
            return np.concatenate([_NONE, *self._chunks])
        with self._file as file:  # its map outlives it
            file.flush()
            return np.memmap(file, dtype=np.int64, mode="c", shape=(self._count,)) if self._count else _NONE


def in_chunks(rows: Rows, size: int = CHUNK_ROWS) -> Iterator[Rows]:
    """Row numbers, (n,), in chunks; one empty chunk if there is none."""
    for start in range(0, max(len(rows), 1), size):
        yield rows[start : start + size]


def distinct(times: NDArray[Any]) -> NDArray[Any]:
    """Distinct ascending timestamps of many, (N,), without a copy of them all."""
    known = np.empty(0, dtype=times.dtype)
    for start in range(0, len(times), CHUNK_ROWS):
        part = times[start : start + CHUNK_ROWS]
        places = np.searchsorted(known, part)
        found = known[np.minimum(places, len(known) - 1)] == part if len(known) else np.zeros(len(part), dtype=bool)
        if not found.all():
            known = np.union1d(known, part[~found])
    return known


def thinned(rows: Rows, most: int) -> Rows:
    """At most so many of the row numbers, (n,), spread evenly."""
    return rows[evenly_spread(len(rows), most)] if len(rows) > most else rows


def span_of_rows(times: Times, rows: Rows) -> tuple[np.datetime64, np.datetime64]:
    """The first and the last timestamp of some rows, (n,), of all, (N,)."""
    spans = [(times[part].min(), times[part].max()) for part in in_chunks(rows)]
    return min(first for first, _ in spans), max(last for _, last in spans)


def stretches(symbol: NDArray[np.int32], size: int = CHUNK_ROWS) -> Iterator[slice]:
    """Stretches of a panel of about so many rows; the rows of a symbol are never parted.

    Args:
        symbol: Ascending number of the symbol of each panel row, (N,).
        size: Rows of a stretch, at most, if no symbol has more.

    Example:
        >>> [(part.start, part.stop) for part in stretches(np.array([0, 0, 0, 1, 1, 2], dtype=np.int32), size=5)]
        [(0, 5), (5, 6)]
    """
    start = 0
    while start < len(symbol):
        stop = min(start + size, len(symbol))
        if stop < len(symbol):
            begins = int(np.searchsorted(symbol, symbol[stop]))  # of the symbol that the cut would part
            stop = begins if begins > start else int(np.searchsorted(symbol, symbol[stop], side="right"))
        yield slice(start, stop)
        start = stop
