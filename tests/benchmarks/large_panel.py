"""A panel in files that is larger than memory: `python -m tests.benchmarks.large_panel [--symbols 10000]`.

Simulated five-minute bars are written as a folder of Parquet files, or into DuckDB. Then the commands of a user run,
each in a process of its own: `data build`, `fit` for some steps, `predict` for some batches. Printed are CPU seconds
and the most anonymous memory. The page cache does not count: a system that is short of memory drops it.

At last the windows/s of the loader are compared with those of the same panel in memory, on a part that fits there.
Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.sources import ParquetDataset

GOAL_BYTES = 2**30
GOAL_SHARE = 0.9
SYMBOLS_OF_A_FILE = 100
BATCHES = 2000


def bars(number: int, rows: int) -> pd.DataFrame:
    """A random walk of one symbol."""
    random = np.random.default_rng(number)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.001, rows)))
    opened = np.concatenate([close[:1], close[:-1]]) * np.exp(random.normal(0, 1e-4, rows))
    when = pd.date_range("2005-01-03", periods=rows, freq="5min", tz="UTC").as_unit("us")
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.0005,
        "low": np.minimum(opened, close) * 0.9995,
        "close": close,
        "volume": np.round(np.exp(random.normal(12, 0.4, rows))),
    }
    return pd.DataFrame({"symbol": f"S{number:06d}", "timestamp": when, **columns})


def write_bars(folder: Path, options: argparse.Namespace) -> None:
    """Writes the bars, unless they are there."""
    done = folder / f"{options.symbols}x{options.rows}.done"
    if done.exists():
        return
    prices = folder / "prices"
    prices.mkdir(parents=True, exist_ok=True)
    for first in range(0, options.symbols, SYMBOLS_OF_A_FILE):
        last = min(first + SYMBOLS_OF_A_FILE, options.symbols)
        table = pd.concat([bars(number, options.rows) for number in range(first, last)], ignore_index=True)
        table.to_parquet(prices / f"{first:06d}.parquet")
    if options.source == "duckdb":
        duckdb = import_module("duckdb")  # of the extra `sql`
        with duckdb.connect(str(folder / "prices.duckdb")) as base:
            base.execute(f"create table bars as select * from read_parquet('{prices}/*.parquet')")
    done.touch()


def configuration(folder: Path, options: argparse.Namespace) -> Path:
    """A small network on the panel."""
    source = {"class_path": "ParquetDataset", "init_args": {"path": str(folder / "prices")}}
    if options.source == "duckdb":
        source = {"class_path": "SqlBars", "init_args": {"url": f"duckdb:///{folder}/prices.duckdb", "table": "bars"}}
    storage = {
        "class_path": "cnn_lstm.data.mapped.MappedPanel",
        "init_args": {"folder": str(folder / "panel"), "max_memory": options.max_memory},
    }
    path = folder / "large.yaml"
    network = {"channels": [8], "kernel_sizes": [3], "lstm_hidden": 8, "attention_heads": 0}
    path.write_text(
        yaml.safe_dump(
            {
                "seed_everything": 42,
                "trainer": {"max_steps": options.steps, "limit_val_batches": 50, "accelerator": "cpu"},
                "model": {"network": network},
                "data": {"source": source, "storage": storage, "order": "blocks", "batch_size": 256, "window": 60},
            }
        )
    )
    return path


def watched(name: str, argv: Sequence[str], folder: Path) -> int:
    """Runs a command; prints its CPU seconds and its most anonymous memory, and returns the latter in bytes."""
    start, before, most = time.perf_counter(), children(), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("a") as log:
        process = subprocess.Popen([sys.executable, "-m", "cnn_lstm", *argv], cwd=folder, env=environment, stdout=log,
                                   stderr=log)  # fmt: skip
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.05)
    seconds = children() - before
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}: see {folder / 'log'}")
    wall = time.perf_counter() - start
    print(f"{name:24} {seconds:9.1f} CPU s {wall:9.1f} s   anonymous memory {most / 2**20:7.0f} MiB", flush=True)
    return most


def children() -> float:
    """CPU seconds of all processes that were started from here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def anonymous(process: int) -> int:
    """Bytes of a process's memory that no file stands behind."""
    with suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


def speeds(folder: Path, options: argparse.Namespace) -> float:
    """Windows/s of the loader from files, over that from memory, in the worst order; both take turns."""
    some = [f"S{number:06d}" for number in range(min(options.symbols, SYMBOLS_OF_A_FILE))]
    modules = {}
    for storage in (MappedPanel(str(folder / "part"), options.max_memory), None):
        source = ParquetDataset(str(folder / "prices"))
        modules[storage is not None] = MarketDataModule(source, some, storage=storage, batch_size=256, cache=None)
        modules[storage is not None].setup()
    worst = np.inf
    for order in ("in order", "global", "blocks"):
        best = {True: 0.0, False: 0.0}
        for _ in range(options.rounds):
            for mapped, data in modules.items():
                best[mapped] = max(best[mapped], rate(data, order))
        worst = min(worst, best[True] / best[False])
        print(
            f"{order:24} {best[True]:11,.0f} windows/s from files, {best[True] / best[False]:.2f} of those from memory"
        )
    return float(worst)


def rate(data: MarketDataModule, order: str) -> float:
    """Windows/s of the loader."""
    data.order = "blocks" if order == "blocks" else "global"
    loader = data.predict_dataloader() if order == "in order" else data.train_dataloader()
    start = time.perf_counter()
    count = sum(len(batch.row) for batch in islice(loader, BATCHES))
    return count / (time.perf_counter() - start)


def main() -> int:
    """Runs all; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000, help="of each symbol")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path("runs/large_panel"), help="keeps the bars and the panel")
    parser.add_argument("--rounds", type=int, default=7, help="of the loader's windows/s, the best of which counts")
    parser.add_argument("--source", choices=["parquet", "duckdb"], default="parquet")
    parser.add_argument("--max_memory", default="256MiB", help="of a build, beyond Python and its packages")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    write_bars(folder, options)
    config, run = str(configuration(folder, options)), str(folder / f"run-{time.time_ns()}")
    print(f"{options.symbols * options.rows:,} rows, {options.source}")
    limited = ["--trainer.limit_predict_batches", str(options.steps)]
    most = max(
        watched("data build", ["data", "build", "--config", config], folder),
        watched(f"fit, {options.steps} steps", ["fit", "--config", config, "--run_dir", run], folder),
        watched(
            f"predict, {options.steps} batches",
            ["predict", "--config", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/last.ckpt", *limited],
            folder,
        ),
    )
    share = speeds(folder, options)
    reached = most <= GOAL_BYTES and share >= GOAL_SHARE
    print(f"goals: anonymous memory {GOAL_BYTES / 2**20:.0f} MiB, {GOAL_SHARE} of the windows/s: "
          f"{'reached' if reached else 'MISSED'}")  # fmt: skip
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
