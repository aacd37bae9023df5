"""Memory and speed of the data path: `python tests/benchmarks/data_path.py`.

Measured is one panel of one symbol (values, labels), its row numbers, and epochs of the loader, in training order and
in the panel's. Each measurement has a fresh process and one thread. Peak memory is the high-water mark of the resident
set minus the resident set once everything is imported, over the bytes of the panel's values. Linux only: it reads
/proc/self/status.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from cnn_lstm.data.batches import RowBatches, WindowDataset, make_loader

PEAK_GOAL = 1.5


def resident(field: str) -> int:
    """Bytes in memory: `VmRSS` now, `VmHWM` at most so far."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def measure(windows: int, shuffle: bool, options: argparse.Namespace) -> tuple[float, float]:
    """Median windows/s of the loader's epochs, and peak memory over the panel's bytes."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    bars = windows + options.window - 1
    values, labels = torch.empty(bars, options.features).uniform_(), torch.empty(bars, 1).uniform_()
    rows = np.arange(options.window - 1, bars)
    batches = RowBatches(rows, options.batch, shuffle)
    loader = make_loader(WindowDataset(values, labels, options.window), batches)
    rates = []
    for epoch in range(options.rounds):
        batches.set_epoch(epoch)
        start = time.perf_counter()
        count = sum(len(batch.row) for batch in loader)
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates), (resident("VmHWM") - before) / values.nbytes


def main() -> int:
    """Measures each size in both orders; 1 if the largest takes more memory than the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each measurement")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    print("   windows  order      windows/s  peak / panel")
    for windows in sorted(options.windows):
        for shuffle in (False, True):
            with spawn.Pool(1) as fresh:
                rate, peak = fresh.apply(measure, (windows, shuffle, options))
            print(f"{windows:>10,}  {'train' if shuffle else 'panel'} {rate:>14,.0f} {peak:>13.2f}", flush=True)
    reached = peak <= PEAK_GOAL
    print(f"peak of {windows:,} windows in training order <= {PEAK_GOAL} panels: {'yes' if reached else 'NO'}")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
