"""Memory and speed of reading a table in blocks: `python tests/benchmarks/sources.py`.

A synthetic table of symbols x rows is written as a folder of Parquet files, sorted by symbol, and as a table of SQLite
and, where it is installed, of DuckDB. Each is then read in blocks of symbols, and the folder also as one table. Each
reading has a fresh process. Memory is the most that it holds outside of the page cache (RssAnon), without what it held
before, over the bytes of the whole table as pandas holds it. Linux only: it reads /proc/self/status.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from cnn_lstm.data.sources import ParquetDataset, PriceFiles, PriceSource, SqlBars
from tests.benchmarks.outputs import anonymous, watched

COLUMNS = ["open", "high", "low", "close", "volume"]


def bars(symbols: range, rows: int) -> pd.DataFrame:
    """Bars of some symbols, one after the other."""
    draw = np.random.default_rng(symbols.start)
    days = pd.date_range("1990-01-01", periods=rows).as_unit("us")
    names = [f"S{number:05d}" for number in symbols]
    table = pd.DataFrame({"symbol": np.repeat(names, rows), "timestamp": np.tile(days, len(names))})
    return table.assign(**{name: draw.normal(100, 5, len(table)) for name in COLUMNS})


def write(folder: Path, symbols: int, rows: int) -> dict[str, PriceSource]:
    """Writes the table in each form."""
    sources: dict[str, PriceSource] = {
        "PriceFiles, whole": PriceFiles(str(folder / "parquet" / "*.parquet")),
        "ParquetDataset": ParquetDataset(str(folder / "parquet")),
        "SqlBars, SQLite": SqlBars(f"sqlite:///{folder / 'bars.db'}", table="bars"),
    }
    (folder / "parquet").mkdir()
    for begin in range(0, symbols, 100):
        table = bars(range(begin, min(begin + 100, symbols)), rows)
        table.to_parquet(folder / "parquet" / f"{begin:05d}.parquet", row_group_size=100_000)
        with closing(sqlite3.connect(folder / "bars.db")) as connection, connection:
            days = table["timestamp"].dt.strftime("%Y-%m-%d")
            table.assign(timestamp=days).to_sql("bars", connection, index=False, if_exists="append")
    with closing(sqlite3.connect(folder / "bars.db")) as connection, connection:
        connection.execute("CREATE INDEX of_symbol ON bars (symbol)")
    if importlib.util.find_spec("duckdb_engine"):
        import duckdb  # type: ignore[import-not-found,unused-ignore]  # an extra

        with duckdb.connect(str(folder / "bars.duckdb")) as connection:
            connection.execute(f"CREATE TABLE bars AS SELECT * FROM '{folder / 'parquet'}/*.parquet'")
        sources["SqlBars, DuckDB"] = SqlBars(f"duckdb:///{folder / 'bars.duckdb'}", table="bars")
    return sources


def read(source: PriceSource, max_rows: int) -> tuple[float, float, int]:
    """Peak in MiB, seconds and rows."""
    before, peak, start, rows = anonymous(), [0], time.perf_counter(), 0
    with watched(peak):
        for block in source.blocks(None, None, None, max_rows):
            rows += len(block)
            del block
    return (peak[0] - before) / 2**20, time.perf_counter() - start, rows


def main() -> int:
    """Writes the table and reads it in each form; 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=5000, help="rows of a symbol")
    parser.add_argument("--max_rows", type=int, default=500_000, help="rows of a block")
    options = parser.parse_args()
    spawn, every = multiprocessing.get_context("spawn"), options.symbols * options.rows
    size = bars(range(1), options.rows).memory_usage(index=False).sum() * options.symbols / 2**20
    print(f"{every:,} rows, {size:.0f} MiB in pandas, blocks of {options.max_rows:,} rows", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, source in write(Path(folder), options.symbols, options.rows).items():
            with spawn.Pool(1) as pool:
                mib, seconds, rows = pool.apply(read, (source, options.max_rows))
            if rows != every:
                print(f"{name}: {rows:,} rows")
                return 1
            print(
                f"{name:<18} peak/table {mib / size:5.2f}  {mib:6.0f} MiB  {every / seconds:>11,.0f} rows/s", flush=True
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
