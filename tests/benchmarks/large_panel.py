"""A panel in files that is larger than memory: `python -m tests.benchmarks.large_panel [--symbols 10000]`.

Simulated five-minute bars are written as a folder of Parquet files, or into DuckDB. Then the commands of a user run,
each in a process of its own: `data build`, `fit` for some steps, `predict` for some batches. Printed are CPU seconds
and the most anonymous memory. The page cache does not count: a system that is short of memory drops it.

At last a part that fits in memory, by default a tenth, is made from the same source in files and in memory: the batches
have to be equal in every bit, and the loader's windows/s are compared.
Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from torch import Tensor

from cnn_lstm.data import sources
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.mapped import MappedPanel

GOAL_BYTES = 2**30
GOAL_SHARE = 0.9
SYMBOLS_OF_A_FILE = 100
BATCHES = 2000
ORDERS = ("in order", "global", "blocks")


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


def source_of(folder: Path, kind: str) -> tuple[str, dict[str, str]]:
    """Name of the source's class, and its arguments."""
    if kind == "duckdb":
        return "SqlBars", {"url": f"duckdb:///{folder}/prices.duckdb", "table": "bars"}
    return "ParquetDataset", {"path": str(folder / "prices")}


def configuration(folder: Path, options: argparse.Namespace) -> Path:
    """A small network on the panel."""
    name, arguments = source_of(folder, options.source)
    source = {"class_path": name, "init_args": arguments}
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


def both_ways(folder: Path, options: argparse.Namespace) -> dict[bool, MarketDataModule]:
    """A part of the symbols, set up in files (True) and in memory (False)."""
    some, modules = [f"S{number:06d}" for number in range(max(1, options.symbols // options.part))], {}
    for storage in (MappedPanel(str(folder / "part"), options.max_memory), None):
        name, arguments = source_of(folder, options.source)
        source = getattr(sources, name)(**arguments)
        modules[storage is not None] = MarketDataModule(source, some, storage=storage, batch_size=256, cache=None)
        modules[storage is not None].setup()
    return modules


def equal_batches(modules: dict[bool, MarketDataModule]) -> bool:
    """Whether the batches of both ways are equal in every bit, in each order."""
    for order in ORDERS:
        pairs = zip(*(islice(batches(data, order), BATCHES) for data in modules.values()), strict=True)
        if not all(same_bits(one, other) for pair in pairs for one, other in zip(*pair, strict=True)):
            print(f"{order:24} the batches DIFFER")
            return False
    print(f"{len(modules[True].panel):,} rows: the first {BATCHES} batches of each order are equal in every bit")
    return True


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal in every bit, unknown values among them."""
    return one.numpy().tobytes() == other.numpy().tobytes()


def speeds(modules: dict[bool, MarketDataModule], rounds: int) -> float:
    """Windows/s of the loader from files, over that from memory, in the worst order; both take turns."""
    worst = np.inf
    for order in ORDERS:
        best = {True: 0.0, False: 0.0}
        for _ in range(rounds):
            for mapped, data in modules.items():
                best[mapped] = max(best[mapped], rate(data, order))
        worst = min(worst, best[True] / best[False])
        print(
            f"{order:24} {best[True]:11,.0f} windows/s from files, {best[True] / best[False]:.2f} of those from memory"
        )
    return float(worst)


def batches(data: MarketDataModule, order: str) -> Iterator[Sequence[Tensor]]:
    """The loader's batches."""
    data.order = "blocks" if order == "blocks" else "global"
    return iter(data.predict_dataloader() if order == "in order" else data.train_dataloader())


def rate(data: MarketDataModule, order: str) -> float:
    """Windows/s of the loader."""
    start = time.perf_counter()
    count = sum(len(batch[0]) for batch in islice(batches(data, order), BATCHES))
    return count / (time.perf_counter() - start)


def main() -> int:
    """Runs all; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000, help="of each symbol")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path("runs/large_panel"), help="keeps the bars and the panel")
    parser.add_argument("--rounds", type=int, default=7, help="of the loader's windows/s, the best of which counts")
    parser.add_argument("--part", type=int, default=10, help="one in so many symbols is compared with memory")
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
    modules = both_ways(folder, options)
    equal, share = equal_batches(modules), speeds(modules, options.rounds)
    reached = equal and most <= GOAL_BYTES and share >= GOAL_SHARE
    print(f"goals: anonymous memory {GOAL_BYTES / 2**20:.0f} MiB, equal batches, {GOAL_SHARE} of the windows/s: "
          f"{'reached' if reached else 'MISSED'}")  # fmt: skip
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
