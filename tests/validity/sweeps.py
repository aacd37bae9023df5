"""What a sweep is worth where there is something to find: python -m tests.validity.sweeps --folder sweeps.

On markets with a planted signal, for each seed: one fit of the default settings, a sweep with pruning, and the same
sweep without. Trials are drawn at random with one seed, so that both sweeps propose the same ones and pruning alone
makes the difference (`--sampler tpe`: what is pruned changes what is proposed). It prints a line a seed and counts.
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
NO_PRUNER = {"name": "none"}


@dataclass(frozen=True)
class Found:
    """What was found on one market.

    Attributes:
        default: Best validation loss of the default settings.
        pruned: The same of the sweep with pruning.
        whole: The same of the sweep without.
        epochs_pruned: Epochs that all trials took with pruning.
        epochs_whole: The same without.
    """

    default: float
    pruned: float
    whole: float
    epochs_pruned: int
    epochs_whole: int


def search(folder: Path, seed: int, sampler: str, pruner: dict[str, Any] | None = None) -> Found:
    """Fits the default settings, and sweeps with and without pruning.

    Args:
        folder: Where to work.
        seed: Of market, fits and sampler.
        sampler: Its name.
        pruner: Section of the sweep's file; null for the default.
    """
    words = ["--config", str(configured(folder, planted(seed, rows=ROWS), seed, window=WINDOW))]
    words += ["--trainer.max_epochs", str(EPOCHS)]
    command("fit", *words, "--run_dir", str(folder / "default"))
    default = json.loads((folder / "default" / "summary.json").read_text())["best"]
    pruned = sweep(folder / "pruned", words, sampler, pruner)
    whole = sweep(folder / "whole", words, sampler, NO_PRUNER)
    return Found(default, pruned.best_value, whole.best_value, epochs(pruned), epochs(whole))


def sweep(folder: Path, words: Sequence[str], sampler: str, pruner: dict[str, Any] | None) -> optuna.Study:
    """A sweep with one worker, so that it is the same each time."""
    file = folder.with_suffix(".yaml")
    searched = {"space": SPACE, "sampler": {"name": sampler}} | ({"pruner": pruner} if pruner else {})
    file.write_text(yaml.safe_dump(searched))
    given = ["--space", str(file), "--n_trials", str(TRIALS), "--folder", str(folder)]
    command("sweep", *words, *given)
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


def epochs(study: optuna.Study) -> int:
    """Epochs of all trials."""
    return sum(trial.user_attrs["epochs"] for trial in study.trials)


def command(*words: str) -> None:
    """A command in a process of its own, with one thread."""
    done = subprocess.run(
        [sys.executable, "-m", "cnn_lstm", *words],
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
    parser.add_argument("--sampler", default="random", help="who proposes trials")
    parser.add_argument("--jobs", type=int, default=2, help="markets at a time")
    parser.add_argument("--folder", type=Path, default=Path("sweeps"))
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    with ThreadPoolExecutor(given.jobs) as pool:
        one = partial(search, sampler=given.sampler, pruner=given.pruner)
        found = list(pool.map(one, [given.folder / str(seed) for seed in seeds], seeds))
    for seed, line in zip(seeds, found, strict=True):
        print(f"{seed}: {line}")
    better = sum(line.pruned < line.default for line in found)
    saved = 1 - sum(line.epochs_pruned for line in found) / sum(line.epochs_whole for line in found)
    print(f"better than the default settings on {better} of {len(found)} markets")
    print(f"pruning saved {saved:.0%} of the epochs")
    print(f"median best loss {median(line.pruned for line in found):.4f} with pruning, ", end="")
    print(f"{median(line.whole for line in found):.4f} without")


if __name__ == "__main__":
    main()
