"""What a person sees while a fit runs: a bar, and one line per epoch that also reads well in a log file."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from datetime import datetime
from statistics import median
from typing import Any, TypedDict

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from tqdm import tqdm

from cnn_lstm.hints import counted
from cnn_lstm.training.peak_memory import peak_memory_mib

CELLS = 16  # of the bar between its ends
BarMetrics = dict[str, int | str | float | dict[str, float]]


class Totals(TypedDict, total=False):
    """What all epochs of a run took; empty if no epoch has ended.

    `seconds` is a sum, `windows_per_s` a median, `peak_memory_mib` the highest value, which is absent on a system that
    does not say it; times are in ISO form.
    """

    epochs: int
    seconds: float
    windows_per_s: float
    peak_memory_mib: float
    started: str
    ended: str


class ConsoleLogger(Logger):
    """Prints one line per epoch, and keeps the newest value of every metric for the bar.

    As a logger it sees what every other logger sees, in the same order.

    Args:
        max_epochs: Epochs of the fit, for the line; None or -1 if unbounded.
        monitor: Metric whose best value so far is marked.
        mode: `min` or `max`.
    """

    def __init__(self, max_epochs: int | None, monitor: str = "val_loss", mode: str = "min") -> None:
        super().__init__()
        self.max_epochs, self.monitor, self.sign = max_epochs, monitor, 1.0 if mode == "min" else -1.0
        self.newest: dict[str, float] = {}
        self.best = float("inf")

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "console"

    @property
    def version(self) -> int:
        """There is one version."""
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Prints nothing: the console shows metrics only."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keeps metrics; those of a training epoch complete the line of that epoch."""
        self.newest |= {"lr" if name.startswith("lr-") else name: float(value) for name, value in metrics.items()}
        if "train_loss" in metrics:
            tqdm.write(self._line(), file=sys.stdout)

    def _line(self) -> str:
        newest = self.newest
        epoch = f"epoch {int(newest.get('epoch', 0))}" + (
            f"/{self.max_epochs - 1}" if self.max_epochs and self.max_epochs > 0 else ""
        )
        cells = [f"{epoch:<13}", *(self._cell(name) for name in ("train_loss", "val_loss", "lr", "grad_norm"))]
        if "windows_per_s" in newest:
            cells.append(f"{newest['windows_per_s']:,.0f} windows/s  {newest['epoch_s']:.1f} s")
        if self.monitor in newest and self.sign * newest[self.monitor] < self.best:
            self.best = self.sign * newest[self.monitor]
            cells.append("best")
        return "  ".join(cell for cell in cells if cell).rstrip()

    def _cell(self, name: str) -> str:
        return f"{name} {self.newest[name]:.3g}" if name in self.newest else ""


class ProgressBar(TQDMProgressBar):
    """A bar with loss, validation loss, learning rate, gradient norm and windows per second.

    A narrow terminal shows the first of them only, so that the bar itself has `CELLS` cells at least.

    Args:
        console: It holds the newest metrics.
        refresh_rate: Batches between two refreshes.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}"

    def __init__(self, console: ConsoleLogger, refresh_rate: int) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.console = console

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> BarMetrics:
        """The metrics next to the bar."""
        names = {"loss": "train_loss_step", "val_loss": "val_loss", "lr": "lr", "grad_norm": "grad_norm"}
        values: BarMetrics = {
            label: f"{self.console.newest[name]:.3g}" for label, name in names.items() if name in self.console.newest
        }
        if "windows_per_s" in self.console.newest:
            values["windows/s"] = f"{self.console.newest['windows_per_s']:,.0f}"
        batches = trainer.num_training_batches
        around = f"Epoch {trainer.current_epoch}: 100%|| {batches}/{batches} 00:00"
        return fitting(values, (_columns() or 10**9) - len(around) - CELLS)


def fitting(values: BarMetrics, room: int) -> BarMetrics:
    """The first of some metrics, as many as fit into the room behind a bar.

    Args:
        values: Metrics by name, the most important one first.
        room: Letters that there are for them.

    Example:
        >>> fitting({"loss": "0.928", "val_loss": "0.864", "lr": "0.001"}, 30)
        {'loss': '0.928', 'val_loss': '0.864'}
    """
    kept: BarMetrics = {}
    for name, value in values.items():
        room -= len(f", {name}={value}")
        if room < 0:
            break
        kept[name] = value
    return kept


def _columns() -> int | None:
    """Width of the terminal; None where the output is none, as in a notebook."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return None


class Resources(Callback):
    """Logs what an epoch took: seconds, windows per second, peak memory.

    Seconds and windows count training batches only, so that a validation of another size changes neither; memory is
    the process's high-water mark, on a CUDA device that of its allocator. The checkpoint keeps the metrics of all
    epochs before it, so that the totals of a resumed run are those of the whole run.
    """

    def __init__(self) -> None:
        self._seconds, self._windows, self._since = 0.0, 0, 0.0
        self.started = _now()
        self._epochs: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """When the run began, and what its epochs took."""
        return {"started": self.started, "epochs": list(self._epochs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the run that is resumed."""
        self.started, self._epochs = state_dict["started"], list(state_dict["epochs"])

    def totals(self) -> Totals:
        """What the epochs so far took."""
        if not self._epochs:
            return {}
        totals: Totals = {
            "epochs": len(self._epochs),
            "seconds": sum(epoch["epoch_s"] for epoch in self._epochs),
            "windows_per_s": median(epoch["windows_per_s"] for epoch in self._epochs),
        }
        if peaks := [epoch["peak_memory_mib"] for epoch in self._epochs if "peak_memory_mib" in epoch]:
            totals["peak_memory_mib"] = max(peaks)
        return {**totals, "started": self.started, "ended": _now()}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._seconds, self._windows = 0.0, 0
        self._since = time.perf_counter()

    on_train_start = on_train_epoch_start  # a fit that goes on within an epoch does not begin one

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts windows."""
        self._windows += len(batch.row) * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts it again."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the epoch."""
        self._stop()
        metrics = {"epoch_s": self._seconds, "windows_per_s": self._windows / self._seconds}
        if (peak := peak_memory_mib(pl_module.device)) is not None:
            metrics["peak_memory_mib"] = peak
        self._epochs.append(metrics)
        pl_module.log_dict(metrics, rank_zero_only=True)

    def _stop(self) -> None:
        self._seconds += time.perf_counter() - self._since


def totals_line(totals: Totals) -> str:
    """What a run took, for people to read.

    Args:
        totals: What its epochs took; not empty.

    Example:
        >>> totals_line({"epochs": 12, "seconds": 65.2, "windows_per_s": 12300.4, "peak_memory_mib": 612.3})
        '12 epochs took 65.2 s of training, 12,300 windows/s, peak memory 612 MiB'
    """
    peak = f", peak memory {totals['peak_memory_mib']:,.0f} MiB" if "peak_memory_mib" in totals else ""
    return (
        f"{counted(totals['epochs'], 'epoch')} took {totals['seconds']:,.1f} s of training, "
        f"{totals['windows_per_s']:,.0f} windows/s{peak}"
    )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
