"""What a person sees while a fit runs: a bar, and one line an epoch that also reads well in a log file."""

from __future__ import annotations

import resource
import sys
import time
from argparse import Namespace
from datetime import datetime
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from tqdm import tqdm

Figures = dict[str, int | str | float | dict[str, float]]


class ConsoleLogger(Logger):
    """Prints one line an epoch, and keeps the newest value of every figure for the bar.

    Being a logger, it sees what every tracker sees, in the same order.

    Args:
        max_epochs: Epochs of the fit, for the line; null if unbounded.
        monitor: Figure whose best value so far is starred.
        mode: `min` or `max`.
    """

    def __init__(self, max_epochs: int | None, monitor: str = "val_loss", mode: str = "min") -> None:
        super().__init__()
        self.max_epochs, self.monitor, self.sign = max_epochs, monitor, 1.0 if mode == "min" else -1.0
        self.newest: dict[str, float] = {}
        self.best = float("inf")

    @property
    def name(self) -> str:
        """Of the tracker."""
        return "console"

    @property
    def version(self) -> int:
        """There is one."""
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """A console shows figures only."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keeps figures; those of a training epoch end the line of that epoch."""
        self.newest |= {"lr" if name.startswith("lr-") else name: float(value) for name, value in metrics.items()}
        if "train_loss" in metrics:
            tqdm.write(self._line(), file=sys.stdout)

    def _line(self) -> str:
        newest = self.newest
        epoch = f"epoch {int(newest.get('epoch', 0))}" + (f"/{self.max_epochs - 1}" if self.max_epochs else "")
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
    """A bar with loss, validation loss, learning rate, gradient norm and windows a second.

    Args:
        console: Where the newest figures are.
        refresh_rate: Batches between two refreshes.
    """

    def __init__(self, console: ConsoleLogger, refresh_rate: int) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.console = console

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Figures:
        """The figures beside the bar."""
        shown = {"loss": "train_loss_step", "val_loss": "val_loss", "lr": "lr", "grad_norm": "grad_norm"}
        values: Figures = {
            label: f"{self.console.newest[name]:.3g}" for label, name in shown.items() if name in self.console.newest
        }
        if "windows_per_s" in self.console.newest:
            values["windows/s"] = f"{self.console.newest['windows_per_s']:,.0f}"
        return values


class Resources(Callback):
    """Logs what an epoch took: seconds, windows a second, peak memory.

    Seconds and windows count training batches only, so that a validation of another size changes neither; memory is
    the process's high-water mark, on a CUDA device that of its allocator. The checkpoint keeps the figures of all
    epochs before it, so that the totals of a resumed run are those of the whole run.
    """

    def __init__(self) -> None:
        self._seconds, self._windows, self._since = 0.0, 0, 0.0
        self.started = _now()
        self._epochs: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """When the run began, and the figures of its epochs."""
        return {"started": self.started, "epochs": list(self._epochs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the run that is resumed."""
        self.started, self._epochs = state_dict["started"], list(state_dict["epochs"])

    def totals(self) -> dict[str, Any]:
        """Of all epochs: their number, sum of seconds, median of windows a second, highest memory; times in ISO form.

        Nothing if no epoch has ended.
        """
        if not self._epochs:
            return {}
        columns = {name: [epoch[name] for epoch in self._epochs] for name in self._epochs[0]}
        return {
            "epochs": len(self._epochs),
            "seconds": sum(columns["epoch_s"]),
            "windows_per_s": median(columns["windows_per_s"]),
            "peak_memory_mib": max(columns["peak_memory_mib"]),
            "started": self.started,
            "ended": _now(),
        }

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._seconds, self._windows = 0.0, 0
        self._since = time.perf_counter()

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
        figures = {
            "epoch_s": self._seconds,
            "windows_per_s": self._windows / self._seconds,
            "peak_memory_mib": _peak_memory(pl_module.device),
        }
        self._epochs.append(figures)
        pl_module.log_dict(figures, rank_zero_only=True)

    def _stop(self) -> None:
        self._seconds += time.perf_counter() - self._since


def totals_line(totals: dict[str, Any]) -> str:
    """What a run took, for people to read.

    Example:
        >>> totals_line({"epochs": 12, "seconds": 65.2, "windows_per_s": 12300.4, "peak_memory_mib": 612.3})
        '12 epochs took 65.2 s of training, 12,300 windows/s, peak memory 612 MiB'
    """
    return (
        f"{totals['epochs']} epoch{'s' * (totals['epochs'] != 1)} took {totals['seconds']:,.1f} s of training, "
        f"{totals['windows_per_s']:,.0f} windows/s, peak memory {totals['peak_memory_mib']:,.0f} MiB"
    )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _peak_memory(device: torch.device) -> float:
    """High-water mark in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
