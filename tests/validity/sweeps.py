"""What a sweep is worth if there is a signal: python -m tests.validity.sweeps --folder sweeps.

On markets with a planted signal it runs for each seed a sweep with the default sampler and pruner, whose first trial
has the default settings, and two sweeps with random trials, one with pruning and one without. These two propose the
same trials, so that only pruning makes the difference; other samplers propose other trials once one is pruned. It
prints a line per seed, and counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import yaml

from tests.validity.controls import configured, planted

ROWS, WINDOW, EPOCHS, TRIALS = 1200, 20, 30, 20
NETWORK, OPTIMIZER = "model.network", "model.optimizer.init_args"
SPACE: dict[str, Any] = {
    "architecture": {
        "choose": {
            name: {f"{NETWORK}.channels": channels, f"{NETWORK}.kernel_sizes": kernels}
            for name, channels, kernels in (
                ("16/3", [16], [3]),
                ("32/3", [32], [3]),
                ("16-32/3-3", [16, 32], [3, 3]),
                ("32-64/3-3", [32, 64], [3, 3]),
                ("16-32/5-3", [16, 32], [5, 3]),
            )
        }
    },
    f"{NETWORK}.norm": {"categorical": ["batch", "layer", "none"]},
    f"{NETWORK}.lstm_hidden": {"categorical": [16, 32, 64]},
    f"{NETWORK}.pooling": {"categorical": ["last", "mean", "attention"]},
    f"{NETWORK}.lstm_dropout": {"float": [0.0, 0.5]},
    f"{OPTIMIZER}.lr": {"float": [1e-4, 1e-2], "log": True},
    f"{OPTIMIZER}.weight_decay": {"float": [1e-6, 1e-1], "log": True},
    "data.batch_size": {"categorical": [32, 64, 128]},
}
RANDOM: dict[str, Any] = {"sampler": {"name": "random"}}


@dataclass(frozen=True)
class MarketResult:
    """Best validation losses on one market, and epochs that all trials took.

    Attributes:
        default: Loss of the default settings, the first trial of each sweep.
        best: The best of a sweep with the default sampler and pruner.
        pruned: The best of one with random trials.
        whole: The same without pruning.
        epochs_pruned: Epochs of the sweep with random trials.
        epochs_whole: The same without pruning.
    """

    default: float
    best: float
    pruned: float
    whole: float
    epochs_pruned: int
    epochs_whole: int


def search(folder: Path, seed: int, pruner: dict[str, Any] | None = None) -> MarketResult:
    """Sweeps with the defaults, and with random trials with and without pruning.

    Args:
        folder: Where to work.
        seed: Of market, fits and sampler.
        pruner: Section of the sweep's file; None for the default.
    """
    argv = ["--config", str(configured(folder, planted(seed, rows=ROWS), seed, window=WINDOW))]
    argv += ["--trainer.max_epochs", str(EPOCHS)]
    pruning = {"pruner": pruner} if pruner else {}
    default = sweep(folder / "default", argv, pruning)
    pruned = sweep(folder / "pruned", argv, {**RANDOM, **pruning})
    whole = sweep(folder / "whole", argv, {**RANDOM, "pruner": {"name": "none"}})
    first = whole.trials[0].value
    assert first is not None
    return MarketResult(first, default.best_value, pruned.best_value, whole.best_value, epochs(pruned), epochs(whole))


def sweep(folder: Path, argv: Sequence[str], sections: dict[str, Any]) -> optuna.Study:
    """A sweep with one worker, so that it is the same each time."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({"space": SPACE, **sections}))
    command("sweep", *argv, "--space", str(file), "--n_trials", str(TRIALS), "--folder", str(folder))
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


def epochs(study: optuna.Study) -> int:
    """Epochs of all trials."""
    return sum(trial.user_attrs["epochs"] for trial in study.trials)


def command(*argv: str) -> None:
    """A command in a process of its own, with one thread."""
    done = subprocess.run(
        [sys.executable, "-m", "cnn_lstm", *argv],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def main() -> None:
    """Searches on many markets and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="number of markets")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--pruner", type=json.loads, help="section of the sweep's file as JSON; the default by default")
    parser.add_argument("--jobs", type=int, default=2, help="markets at a time")
    parser.add_argument("--folder", type=Path, default=Path("sweeps"))
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    with ThreadPoolExecutor(options.jobs) as pool:
        one = partial(search, pruner=options.pruner)
        results = list(pool.map(one, [options.folder / str(seed) for seed in seeds], seeds))
    for seed, result in zip(seeds, results, strict=True):
        print(f"{seed}: {result}")
    better = sum(result.best < result.default for result in results)
    saved = 1 - sum(result.epochs_pruned for result in results) / sum(result.epochs_whole for result in results)
    same = sum(result.pruned == result.whole for result in results)
    print(f"a sweep found better settings than the default ones on {better} of {len(results)} markets")
    print(
        f"of equal random trials pruning saved {saved:.0%} of the epochs; the best was kept on {same} markets: ", end=""
    )
    print(f"median loss {median(result.pruned for result in results):.4f}, ", end="")
    print(f"{median(result.whole for result in results):.4f} without pruning")


if __name__ == "__main__":
    main()
