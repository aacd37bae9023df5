"""Draws the plot of a run's history while the run goes on."""

from __future__ import annotations

import logging
import struct
import time
import warnings
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from cnn_lstm.errors import CnnLstmError, ConfigError
from cnn_lstm.training.history import METRICS_FILE, PLOT_FILE
from cnn_lstm.training.history_plot import draw_history
from cnn_lstm.training.tensorboard import last_step, never_fatal, tensorboard_loggers

log = logging.getLogger(__name__)
PAUSE = 20.0  # between two drawings, in durations of the last one: drawing takes at most 5 % of the training
FIRST_DRAWING = 1.0  # seconds that the first drawing of a fit is expected to take


class HistoryPlot(Callback):
    """Draws history.png in the run folder: loss, metrics, learning rate, gradient norm; at the end for TensorBoard too.

    The fit waits for a drawing. So that it does not wait long, a plot is drawn only if the last one is old enough; the
    plot at the end, also of a run that failed or was interrupted, has all epochs. What goes wrong while drawing is one
    warning per fit and never stops it.

    Args:
        enabled: Whether to draw.
        every_n_epochs: Epochs between two plots, at least.
    """

    def __init__(self, enabled: bool = True, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"every_n_epochs={every_n_epochs}", "history_plot", "give at least 1", code=224)
        self.enabled = enabled
        self.every_n_epochs = every_n_epochs
        self._first, self._next, self._warned = 0, 0.0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a fit."""
        self._first, self._warned = trainer.current_epoch, False
        self._next = self._now() + PAUSE * FIRST_DRAWING

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the epochs before this one; Lightning logs the training metrics after `on_train_epoch_end`."""
        epoch = trainer.current_epoch
        if epoch > self._first and epoch % self.every_n_epochs == 0 and self._now() >= self._next:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the whole run."""
        self._finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draws what there is of a run that failed or was interrupted."""
        self._finish(trainer)

    @rank_zero_only
    def _finish(self, trainer: Trainer) -> None:
        plot = self._draw(trainer)
        if plot is not None:
            for logger in tensorboard_loggers(trainer):
                with never_fatal(f"the plot {PLOT_FILE}"):
                    _add_png(logger, "history", plot.read_bytes(), last_step(trainer))

    @rank_zero_only
    def _draw(self, trainer: Trainer) -> Path | None:
        """Draws metrics.csv, brought up to date; returns the plot, None if there is nothing to draw or it failed."""
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        if not self.enabled or logger is None:
            return None
        begin, folder = self._now(), Path(logger.log_dir)
        try:
            logger.save()
            if not (folder / METRICS_FILE).is_file():
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of matplotlib, about fonts and layout
                draw_history([folder], folder / PLOT_FILE)
        except Exception as error:  # hours of training are worth more than a plot
            self._warn(error)
            return None
        finally:
            end = self._now()
            self._next = end + PAUSE * (end - begin)
        return folder / PLOT_FILE

    def _now(self) -> float:
        return time.monotonic()

    def _warn(self, error: Exception) -> None:
        """Warns once per fit."""
        if not self._warned:
            reason = str(error) if isinstance(error, CnnLstmError) else f"{type(error).__name__}: {error}"
            log.warning("%s was not drawn: %s", PLOT_FILE, " ".join(reason.split()))
        self._warned = True


def _add_png(logger: TensorBoardLogger, tag: str, png: bytes, step: int) -> None:
    """Adds a plot as it is; `add_image` would decode it and encode it again."""
    width, height = struct.unpack(">II", png[16:24])  # the first chunk of a PNG
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)  # 4: RGBA
    logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
