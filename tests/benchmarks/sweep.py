"""What a sweep costs beside its fits: python -m tests.benchmarks.sweep [--trials N] [--config FILE].

A sweep with one worker, and the same configurations fitted one after another in one process, which imports once too.
The goal is a ratio below 1.02 for 30 trials of 20 s; the start, and the test of the choice at the end, are paid once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import optuna

ROOT = Path(__file__).parents[2]
SPACE = """
sampler: {name: random}
pruner: {name: none}
space:
  model.optimizer.init_args.lr: {float: [1.0e-4, 1.0e-2], log: true}
"""
FITS = """
import sys, json
from cnn_lstm.cli import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0
"""


def main() -> None:
    """Prints both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--config", default=str(ROOT / "configs" / "quickstart.yaml"))
    parser.add_argument("words", nargs="*", help="further words of fit, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "space.yaml").write_text(SPACE)
        shared = ["--config", given.config, "--mlflow", "false", "--history_plot.enabled", "false", *given.words]
        sweep = ["sweep", *shared, "--space", str(folder / "space.yaml"), "--folder", str(folder / "sweep")]
        swept = _seconds([sys.executable, "-m", "cnn_lstm", *sweep, "--n_trials", str(given.trials)])
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'sweep' / 'study.db'}")
        fits = []
        for trial in study.trials:
            drawn = [f"--{name}={value}" for name, value in trial.params.items()]
            fits.append(["fit", *shared, *drawn, "--run_dir", str(folder / f"fit_{trial.number}")])
        fitted = _seconds([sys.executable, "-c", FITS, json.dumps(fits)])
    for name, (one, other) in zip(("wall clock", "processor"), zip(swept, fitted, strict=True), strict=True):
        print(f"{name}: sweep {one:.1f} s, fits alone {other:.1f} s, ratio {one / other:.4f}")
    print(f"beside the fits, a trial: {_beside(study):.3f} s")


def _seconds(command: list[str]) -> tuple[float, float]:
    """Wall clock, and time of the processor, which other programs on the machine change less."""
    since, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - since, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _beside(study: optuna.Study) -> float:
    """Median of the seconds from the end of a trial to the end of the next that are not those of its fit."""
    ends = [trial.datetime_complete for trial in study.trials]
    fits = [trial.user_attrs["seconds"] for trial in study.trials[1:]]
    pairs = zip(ends, ends[1:], fits, strict=False)
    return median((end - start).total_seconds() - fit for start, end, fit in pairs if start and end)


if __name__ == "__main__":
    main()
