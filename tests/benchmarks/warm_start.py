"""What a warm start saves, and what two trials on two cores take: python -m tests.benchmarks.warm_start [--epochs N].

It prints the seconds from the start of a command that fits nothing to its end, as a new process and as a fork of the
server; and the time of the same trials by one worker and by two. The goal is a ratio of at least 1.8 for trials that
take longer than the command that starts them; a machine with other work, or with one core, cannot show it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from cnn_lstm.runs.fork_server import AVAILABLE
from cnn_lstm.runs.processes import PROGRAM, Command, LocalProcesses, Running

ROOT = Path(__file__).parents[2]
STARTS = 5
SPACE = {
    "sampler": {"name": "grid"},
    "pruner": {"name": "none"},
    "space": {"model.optimizer.init_args.lr": {"categorical": [0.001, 0.0011, 0.0012, 0.0013]}},
}


def main() -> None:
    """Prints the seconds and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--config", default=str(ROOT / "configs" / "quickstart.yaml"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _starts(options.config, folder)
        (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
        argv = ["--config", options.config, "--mlflow", "false", "--trainer.max_epochs", str(options.epochs)]
        argv += ["--early_stopping.patience", str(options.epochs), "--history_plot.enabled", "false"]
        swept = [
            _seconds("sweep", *argv, "--space", folder / "space.yaml", "--n_trials", 4, "--n_jobs", jobs, folder=folder)
            for jobs in (1, 2)
        ]
        repeated = [_seconds("repeat", *argv, "--seeds", 4, "--n_jobs", jobs, folder=folder) for jobs in (1, 2)]
        for what, (one, two) in {"trials": swept, "seeds": repeated}.items():
            print(f"four {what}: one at a time {one:.1f} s, two {two:.1f} s, ratio {one / two:.2f}")


def _starts(config: str, folder: Path) -> None:
    """The start of a fit up to an error in its configuration, which comes behind the imports."""
    argv = ["fit", "--config", config, "--data.window", "0"]
    cold = [_timed(lambda: subprocess.run([*PROGRAM, *argv], capture_output=True, check=False)) for _ in range(STARTS)]
    print(f"a new process: {median(cold):.2f} s")
    if not AVAILABLE:
        return
    with LocalProcesses() as engine:
        warm = [_timed(lambda: _waited(engine.start(Command(argv, folder / "log")))) for _ in range(STARTS + 1)]
    print(f"a fork of the server: {median(warm[1:]):.2f} s; the first one, which waits for it, {warm[0]:.2f} s")


def _waited(running: Running) -> None:
    while running.ended() is None:
        time.sleep(0.005)


def _timed(call: object) -> float:
    assert callable(call)
    since = time.perf_counter()
    call()
    return time.perf_counter() - since


def _seconds(*argv: object, folder: Path) -> float:
    """Seconds of a command in a folder of its own."""
    command = [sys.executable, "-m", "cnn_lstm", *map(str, argv), "--folder", tempfile.mkdtemp(dir=folder) + "/new"]
    return _timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True))


if __name__ == "__main__":
    main()
