"""Parquet files of ours: written with checksums, and read with them, so that a flipped bit is never a number."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnn_lstm.data.sources.arrow_files import require_modest
from cnn_lstm.errors import DataError
from cnn_lstm.files import write_whole

DIGEST = b"cnn_lstm.sha256"
BLOCK_ROWS = 65_536


def write_table(path: Path, table: pd.DataFrame, texts: Mapping[str, str] | None = None) -> None:
    """Writes a table without its index by `write_whole`, each page with a checksum; see `write_blocks`.

    Args:
        path: The file.
        table: The table.
        texts: Content, by name, of files that are about to be written next to it: it holds their digests too, since
            a form that others read has no place for one.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written; the old file stays.
    """
    write_blocks(path, _pieces(table), len(table), texts)


def write_blocks(path: Path, blocks: Iterable[pd.DataFrame], rows: int, texts: Mapping[str, str] | None = None) -> None:
    """Writes a table that comes in blocks, each as a group of rows, so that no more than a block has to be in memory.

    The checksums of Parquet do not cover its footer, where names, types and the places of the pages stand. So the file
    holds a digest of the whole table too.

    Args:
        path: The file; it is whole or as it was.
        blocks: Tables with the same columns, at least one. The index does not count, and `attrs` are those of the
            first.
        rows: Rows of all blocks together.
        texts: As for `write_table`.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written; the old file stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_blocks(Path(folder, "x.parquet"), (pd.DataFrame({"x": [k]}) for k in range(3)), rows=3)
        ...     read_table(Path(folder, "x.parquet"))["x"].tolist()
        [0, 1, 2]
    """
    known = {_key_of(name).decode(): hashlib.sha256(text.encode()).hexdigest() for name, text in (texts or {}).items()}
    write_whole(path, lambda partial: _write(partial, iter(blocks), rows, known))


def _write(partial: Path, blocks: Iterator[pd.DataFrame], rows: int, known: Mapping[str, str]) -> None:
    content = _arrow(next(blocks))
    digest = _Digest(content.to_pandas(), rows)
    with pq.ParquetWriter(partial, content.schema, write_page_checksum=True) as writer:
        writer.write_table(content)
        for block in blocks:
            block.attrs = {}  # pandas copies them with every piece of the table
            content = _arrow(block).cast(writer.schema)
            digest.add(content.to_pandas())
            writer.write_table(content)
        writer.add_key_value_metadata({DIGEST.decode(): digest.text(), **known})


def _arrow(table: pd.DataFrame) -> pa.Table:
    with warnings.catch_warnings():
        # pyarrow reads dates with a time zone as pandas (3.1) does not want it
        warnings.filterwarnings("ignore", "Series.values returning an ndarray that drops timezone")
        return pa.Table.from_pandas(table, preserve_index=False)


def _pieces(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table in pieces, so that its form in Arrow never lies next to it as a whole."""
    bare = table.copy(deep=False)
    bare.attrs = {}  # pandas copies them with every piece of the table
    for begin in range(0, max(1, len(table)), BLOCK_ROWS):
        piece = bare.iloc[begin : begin + BLOCK_ROWS]
        if not begin:
            piece.attrs = table.attrs
        yield piece


def read_table(path: str | Path) -> pd.DataFrame:
    """Reads a table that `write_table` has written, or an older one, which has no checksums.

    Args:
        path: The file.

    Raises:
        DataError: E339, if the file is damaged; E301, if there is none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(Path(folder, "table.parquet"), pd.DataFrame({"x": [1.5, 2.5]}))
        ...     read_table(Path(folder, "table.parquet"))["x"].tolist()
        [1.5, 2.5]
    """
    fix = "run the command that wrote it again"
    if not Path(path).is_file():
        raise DataError("no such file", str(path), fix, code=301)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            require_modest(file.metadata, Path(path).stat().st_size)  # the table may be a stranger's
            table: pd.DataFrame = file.read().to_pandas()
            digest = (file.metadata.metadata or {}).get(DIGEST)
        intact = digest is None or digest.decode() == digest_of_table(table)
    except Exception as error:  # a damaged footer can make Arrow and pandas stumble in any way
        reason = " ".join(str(error).split())
        raise DataError(f"no intact Parquet file: {reason}", str(path), fix, code=339) from error
    if not intact:
        raise DataError("no intact Parquet file: its content does not have its digest", str(path), fix, code=339)
    return table


def read_text_of(path: Path, name: str) -> str:
    """Reads a text that was written next to a table of `write_table`, and compares it with the digest there.

    Args:
        path: The table. Without it, or one of an older version, the text is taken as it is.
        name: Name of the text's file in the same folder.

    Raises:
        OSError: If the text cannot be read.
        ValueError: If it is damaged, or does not belong to the table.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table, text = Path(folder, "table.parquet"), "a text about it"
        ...     write_table(table, pd.DataFrame({"x": [1.5, 2.5]}), {"about.txt": text})
        ...     _ = Path(folder, "about.txt").write_text(text)
        ...     read_text_of(table, "about.txt")
        'a text about it'
    """
    text = path.with_name(name).read_text(encoding="utf-8")
    if path.is_file():
        try:
            digest = (pq.read_metadata(path).metadata or {}).get(_key_of(name))
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} is damaged") from error
        if digest not in (None, hashlib.sha256(text.encode()).hexdigest().encode()):
            raise ValueError("it does not have the digest that the table next to it says")
    return text


def _key_of(name: str) -> bytes:
    return f"cnn_lstm.sha256:{name}".encode()


def digest_of_table(table: pd.DataFrame) -> str:
    """SHA-256 of the names, types and values of a table.

    Args:
        table: A table of plain columns; its index does not count.

    Example:
        >>> one, other = pd.DataFrame({"x": [1.5]}), pd.DataFrame({"x": [1.25]})
        >>> digest_of_table(one) == digest_of_table(other)
        False
    """
    digest = _Digest(table, len(table))
    return digest.text()


class _Digest:
    """The digest of a table that comes in blocks.

    Args:
        first: The first block.
        rows: Rows of all blocks together.
    """

    def __init__(self, first: pd.DataFrame, rows: int) -> None:
        described = [(str(name), str(kind)) for name, kind in first.dtypes.items()]
        self._hash, self._missing = hashlib.sha256(repr((described, rows)).encode()), rows
        self.add(first)

    def add(self, table: pd.DataFrame) -> None:
        """Takes the rows of the next block."""
        for name, kind in table.dtypes.items():
            if isinstance(kind, pd.DatetimeTZDtype):  # pandas (3.1) warns of hashing these
                table = table.assign(**{str(name): table[name].dt.tz_convert(None)})
        values = pd.util.hash_pandas_object(table, index=False).to_numpy()
        self._hash.update(np.ascontiguousarray(values).tobytes())
        self._missing -= len(table)

    def text(self) -> str:
        """The digest; of a table with another number of rows there is none."""
        assert not self._missing, f"{self._missing} rows are missing"
        return self._hash.hexdigest()
