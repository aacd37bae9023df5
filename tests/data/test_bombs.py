"""Small files that stand for gigabytes are refused at once, and tables as real writers write them are read."""

from __future__ import annotations

import gzip
import resource
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from cnn_lstm.data.sources import PriceFiles
from cnn_lstm.data.sources.cells import read_arrow
from cnn_lstm.errors import CnnLstmError, DataError
from tests.markets import walk

ROWS = 10_000_000
LONG = "x" * 3_000_000


def naive(rows: int) -> pd.DataFrame:
    """Bars without a time zone, which pandas cannot write to Feather without a warning."""
    return walk(rows, "ACME").assign(timestamp=lambda bars: bars["timestamp"].dt.tz_localize(None))


def zeros() -> pa.Table:
    column = pa.array(np.zeros(ROWS))
    return pa.table({"close": column, "open": column})


def shared() -> pa.Table:
    """One long text that every row points to."""
    return pa.table({"symbol": pa.DictionaryArray.from_arrays(np.zeros(100_000, dtype="i4"), pa.array([LONG]))})


def gzipped(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        for _ in range(100):
            file.write(b"1,2,3\n" * 200_000)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"1,2,3\n" * 20_000_000)


BOMBS: dict[str, Callable[[Path], object]] = {
    "zeros.parquet": lambda path: pq.write_table(zeros(), path, compression="zstd"),
    "shared.parquet": lambda path: pq.write_table(shared(), path),
    "texts.parquet": lambda path: pq.write_table(
        pa.table({"symbol": pa.array([LONG] * 30)}), path, compression="zstd", use_dictionary=False
    ),
    "list.parquet": lambda path: pq.write_table(pa.table({"a": pa.array([np.zeros(ROWS)])}), path, compression="zstd"),
    "nulls.parquet": lambda path: pq.write_table(pa.table({"a": pa.nulls(ROWS)}), path),
    "zeros.feather": lambda path: feather.write_feather(zeros(), path, compression="zstd"),
    "shared.feather": lambda path: feather.write_feather(shared(), path, compression="lz4"),
    "nulls.feather": lambda path: feather.write_feather(
        pa.table({"a": pa.nulls(100 * ROWS)}), path, chunksize=100 * ROWS
    ),
    "folded.feather": lambda path: feather.write_feather(
        pa.table({"a": pa.RunEndEncodedArray.from_arrays(pa.array([2**30], pa.int32()), pa.array([1.0]))}),
        path,
        compression="uncompressed",
    ),
    "zeros.csv.gz": gzipped,
    "zeros.zip": zipped,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    BOMBS[name](path)
    before, since = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError, match=r"E330.*(expands to|folded)") as refused:
        PriceFiles(str(path)).load(None, None, None)
    assert len(str(refused.value)) <= 400
    assert time.monotonic() - since < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10  # KiB


@pytest.mark.parametrize("kind", ["parquet", "feather", "packed", "parts", "category", "views"])
def test_tables_of_real_writers_are_read(kind: str, tmp_path: Path) -> None:
    bars = naive(400).assign(note=pd.Series(["a", None] * 200))
    path = tmp_path / f"bars.{'parquet' if kind in ('parquet', 'category') else 'feather'}"
    if kind in ("parquet", "category"):
        bars.astype({"symbol": "category"} if kind == "category" else {}).to_parquet(path)
    elif kind == "views":
        table = pa.Table.from_pandas(bars)
        position = table.schema.get_field_index("symbol")
        views = table.column("symbol").cast(pa.string_view())
        feather.write_feather(table.set_column(position, "symbol", views), path, compression="uncompressed")
    else:
        compression = {"packed": "zstd", "parts": "lz4"}.get(kind, "uncompressed")
        feather.write_feather(bars, path, compression=compression, chunksize=50 if kind == "parts" else None)
    found = read_arrow(path)
    pd.testing.assert_frame_equal(
        found[["symbol", "close"]].astype({"symbol": "str"}), bars[["symbol", "close"]].astype({"symbol": "str"})
    )
    assert found["note"].isna().sum() == 200


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_a_cut_or_changed_file_is_refused_in_one_line_or_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"bars.{kind}"
    getattr(naive(60), f"to_{kind}")(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for number in range(150):
        content = bytearray(whole)
        if number % 3:
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        else:
            content = content[: random.integers(len(content))]
        path.write_bytes(content)
        with suppress(CnnLstmError):
            PriceFiles(str(path)).load(None, None, None)
