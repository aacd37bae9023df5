"""Parquet files of ours: written with checksums, and read with them, so that a flipped bit is never a number."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnn_lstm.errors import DataError
from cnn_lstm.files import write_whole

DIGEST = b"cnn_lstm.sha256"


def write_table(path: Path, table: pd.DataFrame, texts: Mapping[str, str] | None = None) -> None:
    """Writes a table without its index by `write_whole`, each page with a checksum.

    The checksums of Parquet do not cover its footer, where names, types and the places of the pages stand. So the file
    holds a digest of the whole table too.

    Args:
        path: The file.
        table: The table.
        texts: Content, by name, of files that are about to be written next to it: it holds their digests too, since
            a form that others read has no place for one.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written; the old file stays.
    """
    with warnings.catch_warnings():
        # pyarrow reads dates with a time zone as pandas (3.1) does not want it
        warnings.filterwarnings("ignore", "Series.values returning an ndarray that drops timezone")
        content = pa.Table.from_pandas(table, preserve_index=False)
    metadata = (content.schema.metadata or {}) | {DIGEST: digest_of_table(content.to_pandas()).encode()}
    metadata |= {
        _key_of(name): hashlib.sha256(text.encode()).hexdigest().encode() for name, text in (texts or {}).items()
    }
    content = content.replace_schema_metadata(metadata)
    write_whole(path, lambda partial: pq.write_table(content, partial, write_page_checksum=True))


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
        content = pq.read_table(path, page_checksum_verification=True)
        table: pd.DataFrame = content.to_pandas()
        digest = (content.schema.metadata or {}).get(DIGEST)
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
            digest = (pq.read_schema(path).metadata or {}).get(_key_of(name))
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
    described = [(str(name), str(kind)) for name, kind in table.dtypes.items()]
    for name, kind in table.dtypes.items():
        if isinstance(kind, pd.DatetimeTZDtype):  # pandas (3.1) warns of hashing these
            table = table.assign(**{str(name): table[name].dt.tz_convert(None)})
    rows = np.ascontiguousarray(pd.util.hash_pandas_object(table, index=False).to_numpy())
    return hashlib.sha256(repr((described, len(table))).encode() + rows.tobytes()).hexdigest()
