"""Parquet and Feather files, whose headers are looked at before their content takes memory.

A file of some kilobytes can stand for terabytes: a column of one value, a text that each row points to, a buffer of
zeros. What a real table never does is to expand more than `MAX_RATIO` times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

MIB = 2**20
MAX_COLUMNS = 10_000
MAX_EXPANDED = 4 * 2**30
# real bars compress 3 to 10 times; a bomb reaches 1000
MAX_RATIO = 200
CELL = 8  # bytes
MAGIC = 8  # bytes of a Feather file before its first message
VIEWS = ("string_view", "binary_view")
# one value stands for many rows, or many rows share a range of another column; no table of prices is written so
FOLDED = ("run_end_encoded", "list_view", "large_list_view")


class TooLargeError(ValueError):
    """A file that would take more memory than a table of prices of its size."""


def most_bytes(size: int) -> int:
    """Bytes that the content of a file may take.

    Args:
        size: Bytes of the file.

    Example:
        >>> most_bytes(1000) // MIB
        64
    """
    return min(MAX_EXPANDED, max(64 * MIB, MAX_RATIO * size))


def read_parquet(path: Path) -> pa.Table:
    """All columns of a Parquet file.

    Raises:
        TooLargeError: Before anything is read that would not fit.
        pa.ArrowException: If the file is damaged.
    """
    limit = most_bytes(path.stat().st_size)
    with pq.ParquetFile(path) as file:
        _require_columns(file.metadata.num_columns)
        _require(file.metadata.num_rows * file.metadata.num_columns * CELL, limit)
        _require(sum(_bytes_of_chunks(file.metadata)), limit)
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
    # the texts that rows share are read once; checksums are compared where the file has them
    with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
        table = file.read()
    for position, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type):
            _require(_length_of_texts(column), limit)
            if field.name in texts:
                table = table.set_column(position, field.name, column.cast(column.type.value_type))
    return table


def require_modest(metadata: pq.FileMetaData, size: int) -> None:
    """Refuses a Parquet file that expands like no table of prices; one that is read by groups of rows may be large.

    Args:
        metadata: Its footer.
        size: Bytes of the file.

    Raises:
        TooLargeError: If the whole file expands more than `MAX_RATIO` times, or one group of rows to more than
            `MAX_EXPANDED`.
    """
    _require_columns(metadata.num_columns)
    limit = max(64 * MIB, MAX_RATIO * size)
    _require(metadata.num_rows * metadata.num_columns * CELL, limit)
    _require(sum(_bytes_of_chunks(metadata)), limit)
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    _require(max((group.total_byte_size for group in groups), default=0), MAX_EXPANDED)


def _bytes_of_chunks(metadata: pq.FileMetaData) -> Iterator[int]:
    """What the columns of each group of rows take, unpacked; the values of a list count too."""
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for position in range(row_group.num_columns):
            chunk = row_group.column(position)
            yield max(chunk.total_uncompressed_size, chunk.num_values * CELL, 0)


def read_feather(path: Path) -> pa.Table:
    """All columns of a Feather file, read as the stream of messages that it holds: they are what was looked at.

    Raises:
        TooLargeError: Before anything is unpacked that would not fit.
        pa.ArrowException: If the file is damaged.
    """
    limit = most_bytes(path.stat().st_size)
    with pa.memory_map(str(path)) as file:
        content = file.read_buffer().slice(MAGIC)
        with pa.ipc.open_stream(content) as reader:
            columns = len(reader.schema)
            _require_columns(columns)
            if folded := [field.name for field in reader.schema if str(field.type).startswith(FOLDED)]:
                raise TooLargeError(f"the column {folded[0]} is folded")
        try:
            _require(sum(_bytes_of_messages(content, columns)), limit)
        except (struct.error, IndexError) as error:
            raise pa.ArrowInvalid("a damaged header of a message") from error
        with pa.ipc.open_stream(content) as reader:
            table = reader.read_all()
    for column in table.itercolumns():
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if _is_text(kind) or str(kind) in VIEWS:
            _require(_length_of_texts(column), limit)
    return table


def _bytes_of_messages(content: pa.Buffer, columns: int) -> Iterator[int]:
    messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(content))
    for message in messages:
        if message.type in ("record batch", "dictionary batch"):
            body = memoryview(message.body) if message.body is not None else memoryview(b"")
            yield _bytes_of_batch(memoryview(message.metadata), body, message.type, columns)


def _bytes_of_batch(metadata: memoryview, body: memoryview, kind: str, columns: int) -> int:
    """What a batch takes, unpacked: its flatbuffer names the buffers, and a packed one begins with its true length.

    Source:
        https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message and format/Message.fbs.
    """
    root = struct.unpack_from("<I", metadata)[0]
    batch = _child(metadata, root, 2)
    if kind == "dictionary batch":
        batch = _child(metadata, batch, 1)
    at = _field(metadata, batch, 0)
    rows = struct.unpack_from("<q", metadata, at)[0] if at else 0
    buffers, packed = _child(metadata, batch, 2), _field(metadata, batch, 3) != 0
    total = 0
    for number in range(struct.unpack_from("<I", metadata, buffers)[0] if buffers else 0):
        offset, length = struct.unpack_from("<qq", metadata, buffers + 4 + 16 * number)
        unpacked = struct.unpack_from("<q", body, offset)[0] if packed and length >= 8 else -1
        total += unpacked if unpacked >= 0 else length
    return max(total, rows * CELL * (columns if kind == "record batch" else 1))


def _field(data: memoryview, table: int, number: int) -> int:
    """Where a field of a table of a flatbuffer lies; 0 if it is not there."""
    places = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", data, places)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, places + entry)[0]
    return table + offset if offset else 0


def _child(data: memoryview, table: int, number: int) -> int:
    """The table or vector that a field refers to; 0 if it is not there."""
    at = _field(data, table, number)
    return at + int(struct.unpack_from("<I", data, at)[0]) if at else 0


def _is_text(kind: pa.DataType) -> bool:
    tests: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _length_of_texts(column: pa.ChunkedArray) -> int:
    """Bytes of all texts of a column, each written out."""
    total = 0
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pa.array(_lengths(chunk.dictionary))
            total += int(pc.sum(lengths.take(chunk.indices)).as_py() or 0)
        else:
            total += int(_lengths(chunk).sum())
    return total


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    if str(texts.type) in VIEWS:  # each view begins with the length of its text
        views = np.frombuffer(texts.buffers()[1], dtype="<i4")[4 * texts.offset : 4 * (texts.offset + len(texts)) : 4]
        return np.where(texts.is_valid(), views, 0).astype(np.int64)
    lengths: NDArray[np.int64] = (
        pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return lengths


def _require_columns(number: int) -> None:
    if number > MAX_COLUMNS:
        raise TooLargeError(f"{number} columns")


def _require(size: int, limit: int) -> None:
    if size > limit:
        raise TooLargeError(f"it expands to {size // MIB} MiB")
