"""Does `rl sweep` find a better agent than the default? `python -m tests.validity.rl_sweep_planted`, half an hour.

Each seed has a market with a planted signal of its own (see `rl_planted`), a forecaster of it, and a sweep over
configs/rl/sweep/ppo.yaml on the forecaster's embeddings, with agents that learn for few steps. The best configuration
is then trained as it is by `rl train`, next to two agents of configs/rl/ppo.yaml: one that learns for as many steps,
and one that learns for as many steps as all trials of the sweep together. All three are judged on the test dates,
which the sweep never sees. The goal: a higher Sharpe ratio after costs than the first in at least 8 of 10 seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tests.experiments import experiment, fit, network, run, spec
from tests.validity.rl_planted import FEATURES, NETWORK, planted

ROOT = Path(__file__).parents[2]
CONFIG, SPACE = ROOT / "configs/rl/ppo.yaml", ROOT / "configs/rl/sweep/ppo.yaml"
GOAL = 0.8


def forecaster(folder: Path, options: argparse.Namespace, seed: int) -> Path:
    """The run of a forecaster of the market of a seed."""
    prices, _ = planted(options, seed)
    data = {
        "features": FEATURES,
        "window": 16,
        "batch_size": 64,
        "targets": [spec("cnn_lstm.data.targets.ForwardReturn", horizon=1, delay=1)],
    }
    file = experiment(folder, prices, data, model={"network": network(**NETWORK)})
    return fit(file, folder / "run", "--trainer.max_epochs", options.epochs, "--quiet", "true")


def sharpe(run_dir: Path, name: str, *options: object) -> float:
    """Sharpe ratio on the test dates of agents that are trained with these options."""
    assert run("rl", "train", *options, "--folder", name, "--agent.progress_bar", "false") == 0
    assert run("rl", "evaluate", run_dir / "rl" / name) == 0
    report = json.loads((run_dir / "rl" / name / "evaluation.json").read_text())
    return float(report["together"]["sharpe"] or 0.0)


def one_seed(folder: Path, options: argparse.Namespace, seed: int) -> tuple[float, float, float]:
    """Sharpe ratios of the sweep's best, of the default, and of the default after all steps of the sweep."""
    run_dir = forecaster(folder, options, seed)
    given = ["--config", CONFIG, "--ckpt_path", run_dir / "checkpoints" / "best.ckpt", "--agent.seeds", f"[{seed}]"]
    steps = ["--agent.steps", options.steps]
    sweep = folder / "sweep"
    argv = ["--space", SPACE, "--n_trials", options.trials, "--folder", sweep, *given, *steps]
    assert run("rl", "sweep", *argv) == 0
    best = sharpe(run_dir, "best", "--config", sweep / "best.yaml")
    default = sharpe(run_dir, "default", *given, *steps)
    longer = sharpe(run_dir, "longer", *given, "--agent.steps", options.steps * options.trials)
    return best, default, longer


def main() -> int:
    """Prints the Sharpe ratios of each seed; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=3000)
    parser.add_argument("--phi", type=float, default=0.7)
    parser.add_argument("--signal", choices=["volume", "plain"], default="volume", help="what its sign depends on")
    parser.add_argument("--epochs", type=int, default=15, help="of the forecaster")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--steps", type=int, default=4_000, help="of each agent")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: list[tuple[float, float, float]] = []
    for seed in range(options.first, options.first + options.seeds):
        started, cpu = time.monotonic(), time.process_time()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            results.append(one_seed(Path(folder), options, seed))
        best, default, longer = results[-1]
        text = (
            f"seed {seed}: Sharpe on test dates {best:.2f} of the sweep, {default:.2f} of the default, {longer:.2f} of "
        )
        seconds = f"{time.monotonic() - started:.0f} s, {time.process_time() - cpu:.0f} s of them not in the worker"
        print(f"{text}the default after {options.trials} times the steps; {seconds}", flush=True)
    better = [best > default for best, default, _ in results]
    longer_too = [best > longer for best, _, longer in results]
    medians = ", ".join(f"{statistics.median(values):.2f}" for values in zip(*results, strict=True))
    print(f"better than the default in {sum(better)} of {len(better)} seeds, than the longer one in {sum(longer_too)}")
    print(f"medians {medians}")
    return int(sum(better) < GOAL * len(better))


if __name__ == "__main__":
    raise SystemExit(main())
