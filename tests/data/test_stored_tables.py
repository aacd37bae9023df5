"""A Parquet file of ours with a flipped bit is refused, and never a table of other numbers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.stored_tables import read_table, write_table
from cnn_lstm.errors import DataError

FLIPS = 400


def table(rows: int = 200) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=rows)
    values[3] = np.nan
    return pd.DataFrame(
        {
            "symbol": ["AAA", "BBB"] * (rows // 2),
            "as_of": pd.date_range("2020-01-01", periods=rows, tz="UTC"),
            "horizon": np.arange(rows),
            "known": [True, False] * (rows // 2),
            "y_pred": values.astype(np.float32),
            "y_true": values,
        }
    )


@pytest.mark.parametrize("rows", [0, 2, 200])
def test_a_table_comes_back_as_pandas_writes_and_reads_it(tmp_path: Path, rows: int) -> None:
    write_table(tmp_path / "ours.parquet", table(200).head(rows))
    table(200).head(rows).to_parquet(tmp_path / "theirs.parquet", index=False)
    theirs = pd.read_parquet(tmp_path / "theirs.parquet")
    for name in ("ours", "theirs"):  # those of older versions have no checksums
        pd.testing.assert_frame_equal(read_table(tmp_path / f"{name}.parquet"), theirs)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ours.parquet"), theirs)


def test_no_flip_and_no_cut_is_silent(tmp_path: Path) -> None:
    file, damaged = tmp_path / "table.parquet", tmp_path / "damaged.parquet"
    write_table(file, table())
    whole, before, draw, refused = file.read_bytes(), read_table(file), random.Random(7), 0
    for number in range(FLIPS):
        content = bytearray(whole)
        at = draw.randrange(len(content))
        if number % 8:
            content[at] ^= 1 << draw.randrange(8)
        else:
            del content[at:]
        damaged.write_bytes(content)
        try:
            pd.testing.assert_frame_equal(read_table(damaged), before)  # a flip in what nobody reads
        except DataError as error:
            refused += error.code == 339 and len(str(error).splitlines()) == 1
    assert refused > FLIPS * 0.8
