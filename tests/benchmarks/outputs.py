"""Memory of the output of `predict`: `python tests/benchmarks/outputs.py`.

Measured is the way from forecasts of a network to forecasts.parquet with its intervals, on a synthetic panel of 500
symbols x 2,000 rows with three quantiles: as one table in memory, and block by block as the command does it. Each has a
fresh process. Memory is the most that a process holds outside of the page cache (RssAnon), without what it held before,
over the bytes of the predictions table; it hardly grows with the rows where the table is written in blocks. Linux only:
it reads /proc/self/status.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.predictions import collected_columns, collected_table, predictions_blocks
from cnn_lstm.data.stored_tables import digest_of_table, read_table, write_table
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.data.windows import Panel
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.inference.outputs import with_intervals, write_table_of
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.outputs import EpochOutputs

BATCH = 4096
QUANTILES = ("q5", "q50", "q95")


def panel_of(symbols: int, rows: int) -> Panel:
    """A panel of labels and dates alone; nothing here reads features."""
    count = symbols * rows
    draw = torch.Generator().manual_seed(0)
    labels = torch.randn(count, 1, generator=draw)
    days = np.datetime64("2000-01-03", "D") + np.arange(rows)
    return Panel(
        values=torch.empty(count, 1),
        labels=labels,
        present=labels,
        volatility=labels.abs() + 0.1,
        bar_return=labels,
        symbols=tuple(f"S{number:05d}" for number in range(symbols)),
        symbol=np.repeat(np.arange(symbols, dtype=np.int32), rows),
        time=np.tile(days.astype("datetime64[us]"), symbols),
        segment=np.repeat(np.arange(symbols, dtype=np.int32), rows),
    )


def anonymous() -> int:
    """Bytes of this process that no file stands behind."""
    match = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


@contextmanager
def watched(peak: list[int]) -> Iterator[None]:
    """Keeps the most memory that was seen in here, every 10 ms."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def measure(in_blocks: bool, symbols: int, rows: int) -> tuple[float, float, float, str]:
    """Peak over the bytes of the table, peak in MiB, seconds, and the digest of what was written."""
    torch.set_num_threads(1)
    panel, targets = panel_of(symbols, rows), [ForwardReturn()]
    scores = np.sort(np.random.default_rng(0).normal(size=2000)).tolist()
    calibration, boundary = Calibration([scores], [1.0]), "2003-01-01"
    before, peak, start = anonymous(), [0], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, watched(peak):
        outputs = EpochOutputs(Path(folder) if in_blocks else None)
        for part in torch.arange(len(panel)).split(BATCH):
            forecasts = {name: panel.labels[part] + k for k, name in enumerate(("y_pred", *QUANTILES))}
            outputs.add(row=part, y_true=panel.labels[part], **forecasts)
        collected, path = outputs.gather(), Path(folder, "forecasts.parquet")
        if in_blocks:
            columns, every = collected_columns(collected), collected["row"].numpy()
            blocks = predictions_blocks(panel, targets, every, columns, [0.0])
            write_table_of(path, with_intervals(blocks, calibration, boundary), len(every))
        else:
            write_table(path, add_intervals(collected_table(panel, targets, collected, [0.0]), calibration, boundary))
        most, seconds = peak[0] - before, time.perf_counter() - start
        table: pd.DataFrame = read_table(path)
    size = int(table.memory_usage(index=False).sum())
    return most / size, most / 2**20, seconds, digest_of_table(table)


def main() -> int:
    """Measures both ways; 1 if their tables differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, nargs="+", default=[125, 500])
    parser.add_argument("--rows", type=int, default=2000, help="rows of a symbol")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    same = True
    print("symbols  rows       way      peak/table  peak MiB  seconds")
    for symbols in options.symbols:
        digests = set()
        for in_blocks in (False, True):
            with spawn.Pool(1) as pool:
                ratio, mib, seconds, digest = pool.apply(measure, (in_blocks, symbols, options.rows))
            way = "blocks" if in_blocks else "whole"
            print(f"{symbols:>7}  {symbols * options.rows:>9,}  {way:<7}  {ratio:>10.2f}  {mib:>8.0f}  {seconds:>7.1f}")
            digests.add(digest)
        same = same and len(digests) == 1
    print("the tables are equal" if same else "the tables differ")
    return int(not same)


if __name__ == "__main__":
    raise SystemExit(main())
