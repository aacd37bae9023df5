"""What a fit costs next to another version of this package: `python -m tests.benchmarks.fit_cost FOLDER`.

FOLDER holds the other version, as `git worktree add FOLDER COMMIT` makes it. Both train the default network on the
shipped bars with all default callbacks and trackers, on one thread, in processes of their own that take turns. The
processes begin one after the other, in an order that changes from pair to pair.

Compared are the time on the CPU of a whole fit without the imports, and of the median training step with what stands
around it. The clock is shown too, and says something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
# the loop of Lightning 2.6 calls `advance` once a batch, with all callbacks and loggers inside
CHILD = """
import json, sys, time
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
import cnn_lstm.runs.forecast_cli
from cnn_lstm.cli import main
torch.set_num_threads(1)
steps, advance = [], _TrainingEpochLoop.advance
def timed(*args):
    wall, cpu = time.perf_counter(), time.process_time()
    advance(*args)
    steps.append((time.perf_counter() - wall, time.process_time() - cpu))
_TrainingEpochLoop.advance = timed
wall, cpu = time.perf_counter(), time.process_time()
code = main(sys.argv[2:])
whole = time.perf_counter() - wall, time.process_time() - cpu
open(sys.argv[1], "w").write(json.dumps({"steps": steps, "whole": whole}))
sys.exit(code)
"""
CLOCKS = ("wall", "CPU")


def fit(version: Path, epochs: int, options: Sequence[str], folder: Path) -> dict[str, list[float]]:
    """Fits once; seconds on both clocks of the whole and of the median step."""
    argv = ["fit", "--config", str(version / "configs/quickstart.yaml"), "--runs_dir", str(folder / "runs")]
    argv += [f"--trainer.max_epochs={epochs}", f"--early_stopping.patience={epochs}", "--trainer.accelerator=cpu"]
    argv += [f"--{option}" for option in options]
    outside = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(folder / "times.json"), *argv],
        cwd=version,
        env=outside | {"PYTHONPATH": str(version), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    times = json.loads((folder / "times.json").read_text())
    step = [statistics.median(step[clock] for step in times["steps"]) for clock in range(len(CLOCKS))]
    return {"fit": times["whole"], "step": step}


def ratio_text(now: Sequence[float], before: Sequence[float]) -> str:
    """Median of the ratios of pairs, with that of half of the pairs, in per cent above the other version."""
    ratios = sorted(100 * (a / b - 1) for a, b in zip(now, before, strict=True))
    quarter = len(ratios) // 4
    return f"{statistics.median(ratios):+.1f} % ({ratios[quarter]:+.1f} to {ratios[-1 - quarter]:+.1f})"


def main() -> int:
    """Prints both versions and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=Path, help="folder of the other version")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--option", nargs="*", default=[], help="more options of `fit`, such as data.batch_size=64")
    options = parser.parse_args()
    versions = {"now": HERE, "before": options.version.resolve()}
    times: dict[str, list[dict[str, list[float]]]] = {name: [] for name in versions}
    for pair in range(options.pairs):
        for name in sorted(versions, reverse=pair % 2 == 1):
            with tempfile.TemporaryDirectory() as folder:
                times[name].append(fit(versions[name], options.epochs, options.option, Path(folder)))
        print(".", end="", flush=True)
    print()
    for part in ("fit", "step"):
        for clock, name in enumerate(CLOCKS):
            now, before = ([one[part][clock] for one in times[version]] for version in ("now", "before"))
            medians = ", ".join(f"{statistics.median(values) * 1e3:,.2f} ms" for values in (now, before))
            print(f"{part:<5} {name:<5} now and before: {medians}; {ratio_text(now, before)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
