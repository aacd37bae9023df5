"""Speed of a whole fit next to a bare PyTorch loop: `python tests/benchmarks/throughput.py`.

The fit is the one that `cnn-lstm fit` builds, with all default callbacks, progress bar, TensorBoard, CSV and MLflow
(SQLite, in a temporary folder). The bare loop trains a copy of the network with the same loss, fused AdamW and
clipping on the very same batches, and keeps no metrics. Both run on one thread, in one process, and take turns: before
each epoch of the fit stands one bare epoch.

Timed are whole training epochs but the first: batches, steps, logging, and everything at an epoch's end (metrics,
schedulers, checkpoints, trackers). Only the validation loop is left out, from its start to its end. The goals are
judged by the clock; where other processes keep the machine busy, only the columns of CPU time say something.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from cnn_lstm.data.batches import WindowDataset
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.runs.yaml_guard import guard_parser

SHARE_GOAL = 0.97
OVERHEAD_GOAL = 700
TINY = [
    "--model.network.channels=[4]",
    "--model.network.kernel_sizes=[3]",
    "--model.network.lstm_hidden=4",
    "--model.network.attention_heads=0",
    "--data.window=10",
]


class Seconds(NamedTuple):
    """Time of an epoch.

    Attributes:
        wall: Seconds on the clock.
        cpu: Seconds of the process on the CPU, which other processes of a busy machine change less.
    """

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Seconds) -> Seconds:
        return Seconds(self.wall - start.wall, self.cpu - start.cpu)


class Rivals(Callback):
    """Runs a bare epoch before each epoch of the fit, and times both.

    Args:
        model: Copy of the forecaster, for the bare loop.
    """

    def __init__(self, model: Forecaster) -> None:
        self.model = model
        self.bare: list[Seconds] = []
        self.fit: list[Seconds] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: MarketDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
        self.model.learn_statistics(data.statistics)
        self.optimizer = self.model.optimizer(self.model.parameters())
        assert trainer.train_dataloader is not None
        self.steps, self.batch_size = len(trainer.train_dataloader), data.batch_size

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close(trainer)
        loader: Any = trainer.train_dataloader
        start = Seconds.now()
        bare_epoch(self.model, self.optimizer, loader.dataset, loader.sampler)
        self.bare.append(Seconds.now().since(start))
        self._start, self._validation = Seconds.now(), Seconds(0, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_start = Seconds.now()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation = Seconds.now().since(self._validation_start)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        if len(self.fit) < len(self.bare):
            self.fit.append(Seconds.now().since(self._start).since(self._validation))


class TimedCLI(ForecastCLI):
    """The command line, with the clock in front of all other callbacks."""

    def before_fit(self) -> None:
        self.rivals = Rivals(copy.deepcopy(self.model))
        self.trainer.callbacks.insert(0, self.rivals)  # type: ignore[attr-defined]  # set by Lightning's connectors


def bare_epoch(
    model: Forecaster, optimizer: torch.optim.Optimizer, dataset: WindowDataset, batches: Iterable[torch.Tensor]
) -> None:
    """Trains on each batch once, without anything around it."""
    for rows in batches:
        x, y, _ = dataset[rows]
        raw = model.head(model.network(x)).view(len(x), model.n_targets, -1)
        loss = model.objective.loss(raw, (y - model.y_loc) / model.y_scale)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def race(name: str, batch: int, rounds: int, options: Sequence[str], runs_dir: str) -> bool:
    """Prints one row of the table; whether the row's goal is reached."""
    words = ["fit", f"--runs_dir={runs_dir}", "--trainer.accelerator=cpu", f"--trainer.max_epochs={rounds + 1}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cli = TimedCLI([*words, f"--early_stopping.patience={rounds + 1}", f"--data.batch_size={batch}", *options])
    bare, fit = cli.rivals.bare[1:], cli.rivals.fit[1:]  # the first epoch warms up
    pairs = list(zip(bare, fit, strict=True))
    steps = cli.rivals.steps
    share = statistics.median(b.wall / f.wall for b, f in pairs)
    share_cpu = statistics.median(b.cpu / f.cpu for b, f in pairs)
    overhead = statistics.median((f.wall - b.wall) / steps for b, f in pairs) * 1e6
    overhead_cpu = statistics.median((f.cpu - b.cpu) / steps for b, f in pairs) * 1e6
    rates = [steps * batch / statistics.median(seconds.wall for seconds in part) for part in (bare, fit)]
    tiny = name == "tiny"
    reached = overhead <= OVERHEAD_GOAL if tiny else share >= SHARE_GOAL
    goal = f"overhead <= {OVERHEAD_GOAL} us" if tiny else f"share >= {SHARE_GOAL:.0%}"
    print(
        f"{name:<8} {batch:>5} {steps:>6} {rates[0]:>10,.0f} {rates[1]:>10,.0f} {share:>7.1%} {share_cpu:>8.1%}"
        f" {overhead:>7,.0f} {overhead_cpu:>7,.0f}  {goal}: {'yes' if reached else 'NO'}",
        flush=True,
    )
    return reached


def main() -> int:
    """Races each network at each batch size; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="*", default=[64, 256], help="batch sizes of the default network")
    parser.add_argument("--tiny_batch", type=int, default=32, help="batch size of the tiny network; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each")
    parser.add_argument("--option", nargs="*", default=[], help="more options of `fit`, such as model.samples=0")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the SQLite file of the runs folder
    set_up_messages()
    guard_parser()
    options = [f"--{option}" for option in arguments.option]
    print("                            windows/s         fit / bare   us a step over")
    print("network  batch  steps       bare        fit    wall      CPU    wall     CPU", flush=True)
    with tempfile.TemporaryDirectory() as runs_dir:
        races = [("default", batch, options) for batch in arguments.batch]
        races += [("tiny", arguments.tiny_batch, [*TINY, *options])] * bool(arguments.tiny_batch)
        reached = [race(name, batch, arguments.rounds, words, runs_dir) for name, batch, words in races]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    raise SystemExit(main())
