"""The plot of a run, drawn again after each epoch, beside the training."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from cnn_lstm.errors import ConfigError
from cnn_lstm.training.history import METRICS, PICTURE
from cnn_lstm.training.tensorboard import boards, last_step, never_fatal

log = logging.getLogger(__name__)
PATIENCE = 20.0  # seconds for the last plot
LOWEST = 19
# `cnn-lstm plot` with the import path of this process, at a priority
DRAW = """
import os, sys
sys.path[:] = sys.argv.pop(1).split(os.pathsep)
priority = int(sys.argv.pop(1))
if hasattr(os, "nice"):
    os.nice(priority)
from cnn_lstm.cli import script
script()
"""


class HistoryPlot(Callback):
    """Draws history.png in the run folder: loss, figures, learning rate, gradient norm; at the end for TensorBoard too.

    The plot is drawn in a process of its own at the lowest priority, since a thread would hold Python's lock, for
    which the training would wait. An epoch that ends while the last plot is still drawn is left out; the last
    plot has them all. What goes wrong is a warning and never stops a fit.

    Args:
        enabled: Whether to draw.
        every_n_epochs: Epochs between two plots.
    """

    def __init__(self, enabled: bool = True, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"every_n_epochs={every_n_epochs}", "history_plot", "give at least 1", code=224)
        self.enabled = enabled
        self.every_n_epochs = every_n_epochs
        self._process: subprocess.Popen[bytes] | None = None
        self._told: IO[bytes] | None = None
        self._warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a fit."""
        self._first, self._warned = trainer.current_epoch, False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the epochs before this one; Lightning logs the training figures after `on_train_epoch_end`."""
        done = trainer.current_epoch - self._first
        if done and trainer.current_epoch % self.every_n_epochs == 0:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the whole run."""
        self._finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draws what there is of a run that failed or was interrupted."""
        self._finish(trainer)

    @rank_zero_only
    def _finish(self, trainer: Trainer) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()
        self._draw(trainer, priority=0)
        folder = self._folder(trainer)
        if self._wait() and folder is not None:
            for logger in boards(trainer):
                with never_fatal(f"the plot {PICTURE}"):
                    _add_png(logger, "history", (folder / PICTURE).read_bytes(), last_step(trainer))

    @rank_zero_only
    def _draw(self, trainer: Trainer, priority: int = LOWEST) -> None:
        """Starts a drawing, unless one is under way."""
        folder = self._folder(trainer)
        if folder is None or not self._is_free():
            return
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 read when the drawing has ended
        try:
            self._process = subprocess.Popen(
                self._command(folder, priority),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._told,
                process_group=0,  # Ctrl-C is for the training; in a new session Linux would not heed the priority
            )
        except OSError as error:
            self._forget()
            self._warn(str(error))

    def _folder(self, trainer: Trainer) -> Path | None:
        """The folder of metrics.csv, brought up to date."""
        if not self.enabled:
            return None
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                try:
                    logger.save()
                except OSError as error:
                    self._warn(str(error))
                folder = Path(logger.log_dir)
                return folder if (folder / METRICS).is_file() else None
        return None

    def _command(self, folder: Path, priority: int) -> list[str]:
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        words = ["plot", "--output", str(folder / PICTURE), "--", str(folder)]
        return [sys.executable, "-c", DRAW, paths, str(priority), *words]

    def _is_free(self) -> bool:
        """Whether nothing is being drawn; tells how the last drawing went."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            return False
        code, told = self._process.returncode, self._forget()
        if code:
            self._warn(told[-1] if told else f"exit code {code}")
        return True

    def _wait(self) -> bool:
        """Whether the drawing under way has succeeded."""
        process = self._process
        if process is None:
            return False
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._is_free()
        return process.returncode == 0

    def _forget(self) -> list[str]:
        """Lets go of a drawing that has ended, and returns what it said."""
        self._process = None
        if self._told is None:
            return []
        with self._told as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").strip().splitlines()
        self._told = None
        return lines

    def _warn(self, reason: str) -> None:
        """Says it once a fit."""
        if not self._warned:
            log.warning("%s was not drawn: %s", PICTURE, reason)
        self._warned = True


def _add_png(logger: TensorBoardLogger, tag: str, png: bytes, step: int) -> None:
    """Adds a plot as it is; `add_image` would decode it and encode it again."""
    width, height = struct.unpack(">II", png[16:24])  # the first chunk of a PNG
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)  # 4: RGBA
    logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
