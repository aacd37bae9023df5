"""What a sweep costs in addition to its fits: python -m tests.benchmarks.sweep [--trials N] [--config FILE].

It compares a sweep with one worker to the same configurations fitted one after another in one process, which also
imports once. Both run at the same time, each on a core, so that other work of the machine slows both. The goal is a
ratio below 1.02 for 30 trials of 20 s; the start, and the test of the choice at the end, are paid once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import optuna
import yaml

ROOT = Path(__file__).parents[2]
KEY, STEP = "model.optimizer.init_args.lr", 0.0001
FITS = """
import sys, json
from cnn_lstm.cli import main
for argv in json.loads(sys.argv[1]):
    assert main(argv) == 0
"""


def main() -> None:
    """Prints both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--config", default=str(ROOT / "configs" / "quickstart.yaml"))
    parser.add_argument("argv", nargs="*", help="further arguments of fit, after --")
    options = parser.parse_args()
    rates = [round(0.001 + STEP * number, 4) for number in range(options.trials)]
    searched = {
        "sampler": {"name": "grid"},
        "pruner": {"name": "none"},
        "space": {KEY: {"float": [rates[0], rates[-1]], "step": STEP}},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "space.yaml").write_text(yaml.safe_dump(searched))
        shared = ["--config", options.config, "--mlflow", "false", "--history_plot.enabled", "false", *options.argv]
        sweep = ["sweep", *shared, "--space", str(folder / "space.yaml"), "--folder", str(folder / "sweep")]
        fits = [["fit", *shared, f"--{KEY}={rate}", "--run_dir", str(folder / f"fit_{rate}")] for rate in rates]
        both = (
            [sys.executable, "-m", "cnn_lstm", *sweep, "--n_trials", str(options.trials)],
            [sys.executable, "-c", FITS, json.dumps(fits)],
        )
        with ThreadPoolExecutor(2) as pool:
            swept, fitted = pool.map(_seconds, both)
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'sweep' / 'study.db'}")
    for name, one, other in zip(("wall clock", "processor"), swept, fitted, strict=True):
        print(f"{name}: sweep {one:.1f} s, fits alone {other:.1f} s, ratio {one / other:.4f}")
    print(f"in addition to its fit, a trial takes {_overhead(study):.3f} s")


def _seconds(command: list[str]) -> tuple[float, float]:
    """Wall clock and processor time of a command with one thread, and of the processes that it starts."""
    since = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - since, used.ru_utime + used.ru_stime


def _overhead(study: optuna.Study) -> float:
    """Median of the seconds from the end of a trial to the end of the next that are not those of its fit."""
    ends = [trial.datetime_complete for trial in study.trials]
    fits = [trial.user_attrs["seconds"] for trial in study.trials[1:]]
    pairs = zip(ends, ends[1:], fits, strict=False)
    overhead: float = median((end - start).total_seconds() - fit for start, end, fit in pairs if start and end)
    return overhead


if __name__ == "__main__":
    main()
