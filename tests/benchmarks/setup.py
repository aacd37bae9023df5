"""What the set-up of a data module costs: `python tests/benchmarks/setup.py [--symbols 50 500 2000] [--rows 10000000]`.

For panels of equal rows and different numbers of symbols it prints the CPU seconds of `setup` and the microseconds per
row, and the peak memory over the bytes of the panel (features, labels and what belongs to each row): cold, where the
prices are read, checked and made into a panel, and warm, where `data.cache` has the panel. Peak memory is the
high-water mark of the resident set minus the resident set once everything is imported. Each measurement has a fresh
process and one thread. Linux only: it reads /proc/self/status.

The prices are random walks in one Parquet file. The script ends with 1 if the cost per row at the most symbols is more
than 1.3 times that at the fewest, if a peak is above 3 panels cold or 1.2 warm, or if 10 million rows take more than 45
CPU seconds cold or 5 warm, which leaves five for the start of a fit. Of fewer rows, a panel is not much larger than
what the process needs anyway.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources.files import PriceFiles
from tests.benchmarks.data_path import resident

FLAT, PEAK = 1.3, {"cold": 3.0, "warm": 1.2}
MICROSECONDS = {"cold": 4.5, "warm": 0.5}  # a row


def write_prices(path: Path, symbols: int, rows: int) -> None:
    """Random walks of so many symbols, each of so many hours, symbol by symbol, to spare memory."""
    when = pd.date_range("2000-01-01", periods=rows, freq="h", tz="UTC").as_unit("us")
    writer = None
    for number in range(symbols):
        random = np.random.default_rng(number)
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.015, rows)))
        opened = close * np.exp(random.normal(0, 0.005, rows))
        bars = {
            "symbol": pd.array([f"S{number:05d}"] * rows, dtype="str"),
            "timestamp": when,
            "open": opened,
            "high": np.maximum(opened, close) * (1 + 0.01 * random.random(rows)),
            "low": np.minimum(opened, close) * (1 - 0.01 * random.random(rows)),
            "close": close,
            "volume": random.integers(10_000, 100_000, rows).astype(np.float64),
        }
        table = pa.Table.from_pandas(pd.DataFrame(bars), preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(prices: str, cache: str) -> tuple[float, float, int]:
    """CPU seconds of `setup`, peak memory over the panel's bytes, and rows of the panel."""
    torch.set_num_threads(1)
    data = MarketDataModule(PriceFiles(prices), cache=cache)
    before, since = resident("VmRSS"), time.process_time()
    data.setup()
    seconds = time.process_time() - since
    size = sum(array.nbytes for array in data.panel.arrays().values())
    return seconds, (resident("VmHWM") - before) / size, len(data.panel)


def main() -> int:
    """Measures each number of symbols, cold and warm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, nargs="+", default=[50, 500, 2000])
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of all symbols together")
    options = parser.parse_args()
    spawn, cost, sound = multiprocessing.get_context("spawn"), {}, True
    print("symbols        rows  panel     CPU s  us per row  peak / panel")
    with tempfile.TemporaryDirectory() as scratch:
        for symbols in sorted(options.symbols):
            prices = Path(scratch, f"{symbols}.parquet")
            write_prices(prices, symbols, options.rows // symbols)
            for state, limit in PEAK.items():
                with spawn.Pool(1) as fresh:
                    seconds, peak, rows = fresh.apply(measure, (str(prices), str(Path(scratch, f"cache{symbols}"))))
                cost[symbols, state] = seconds / rows
                sound &= peak <= limit and seconds / rows <= MICROSECONDS[state] / 1e6
                line = (
                    f"{symbols:>7,} {rows:>11,}  {state}  {seconds:>8.2f} {1e6 * seconds / rows:>11.2f} {peak:>13.2f}"
                )
                print(line, flush=True)
            prices.unlink()
    fewest, most = min(options.symbols), max(options.symbols)
    for state, limit in PEAK.items():
        ratio = cost[most, state] / cost[fewest, state]
        times = f"{most:,} symbols cost {ratio:.2f} times what {fewest:,} do per row (goal {FLAT})"
        print(f"{state}: {times}; the goals are a peak of {limit} and {MICROSECONDS[state]} us per row")
        sound &= ratio <= FLAT
    print(f"all goals are reached: {'yes' if sound else 'NO'}")
    return 0 if sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
