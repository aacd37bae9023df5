"""What a trainer's settings come to on this data: refused or said before the training, validated at its end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import require
from cnn_lstm.hints import counted, nearest
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.metrics import metric_names

log = logging.getLogger(__name__)
WHERE = "trainer"
# what is logged next to the metrics of the forecasts, and how the names of more of it begin
OTHER_METRICS = {"train_loss_step", "clipped_share", "epoch_s", "windows_per_s", "peak_memory_mib"}
LOGGED = ("lr-", "grad_norm")


@dataclass(frozen=True)
class Lengths:
    """How long a training is.

    Attributes:
        batches: Batches of an epoch.
        epoch: Steps of an epoch, each of which may take several batches.
        epochs: Epochs at most; may be infinite.
        steps: Steps at most, of all epochs; may be infinite.
    """

    batches: int
    epoch: int
    epochs: float
    steps: float

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """Those of a trainer that has its loaders."""
        batches = int(trainer.num_training_batches)
        epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        limit = trainer.max_steps if trainer.max_steps >= 0 else math.inf
        given = math.inf if trainer.max_epochs is None or trainer.max_epochs < 0 else trainer.max_epochs
        epochs = min(float(given), -(-limit // epoch))  # rounded up
        return cls(batches, epoch, epochs, min(limit, given * epoch))


class TrainingPlan(Callback):
    """Compares the lengths in a trainer's settings with those of the data, and validates where `max_steps` ends a fit.

    Lightning (2.6) ends at `max_steps` within an epoch without a validation, so that there is neither a best checkpoint
    nor a value for early stopping.

    Args:
        monitor: Metric of the best checkpoint; None for the newest epoch.
    """

    def __init__(self, monitor: str | None = None) -> None:
        self.monitor = monitor

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning calls this when the data is read, and before the optimiser is built.

        Raises:
            ConfigError: E280, if a setting cannot be used with so many batches.
        """
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by Lightning's connectors
            return
        _require_a_whole_batch(trainer)
        refused: ValueError | None = None
        try:
            trainer.fit_loop.setup_data()
        except ValueError as error:  # Lightning's words for what is checked below
            refused = error
        # of nothing, the end of the fit says that nothing was trained
        if trainer.limit_train_batches and trainer.num_training_batches and trainer.max_epochs and trainer.max_steps:
            self._check(trainer, Lengths.of(trainer))
        if refused is not None:
            raise refused

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning calls this when the optimiser is built, too.

        Raises:
            ConfigError: E224, if something waits for a metric that no part of the training logs.
        """
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
        ours = all(type(one).__module__.split(".")[0] in ("cnn_lstm", "lightning") for one in (pl_module, *callbacks))
        if not ours or not isinstance(pl_module, Forecaster) or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by Lightning
            return  # what a class of the user's own logs, nobody knows before
        classes, names = pl_module.objective.classes, pl_module.contract.target_names
        known = metric_names("train", classes, names) | metric_names("val", classes, names) | OTHER_METRICS
        for where, monitor in _monitors(trainer):
            fix = nearest(monitor, known) or "name a metric of metrics.csv, see docs/training.md"
            require(monitor in known or monitor.startswith(LOGGED), f"no metric is named {monitor!r}", where, fix)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Stops as early stopping does, which validates first."""
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def _check(self, trainer: Trainer, lengths: Lengths) -> None:
        accumulated, batches = trainer.accumulate_grad_batches, lengths.batches
        what = f"trainer.accumulate_grad_batches={accumulated}, but an epoch has {counted(batches, 'batch')}"
        require(accumulated <= batches, what, WHERE, f"give at most {batches}", code=280)
        _require_validations_that_fit(trainer, lengths)
        data: object = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        if isinstance(data, MarketDataModule) and data.fit_on == "train_and_validation":
            return  # a final fit, which has no validation
        reason = _unvalidated(trainer, lengths)
        timed = any(isinstance(one, Timer) for one in trainer.callbacks)  # type: ignore[attr-defined]  # set by Lightning
        endless = math.isinf(lengths.steps) and not timed
        what, fix = "the training has no end", "set trainer.max_epochs, max_steps or max_time, or let it validate"
        require(not (endless and (reason or not trainer.early_stopping_callbacks)), what, WHERE, fix, code=280)
        if reason:
            self._say_unvalidated(trainer, reason)
        elif lengths.steps == trainer.max_steps and (left := trainer.max_steps % lengths.epoch):
            last = f"its last {counted(left, 'step')} of {lengths.epoch} are an unfinished epoch"
            _say(trainer, f"the training ends at trainer.max_steps={trainer.max_steps}: {last}")

    def _say_unvalidated(self, trainer: Trainer, reason: str) -> None:
        waits = self.monitor is not None and self.monitor.startswith("val_")
        so = "there will be no best.ckpt, only last.ckpt" if waits else "there will be no intervals"
        _say(trainer, f"nothing is validated: {reason} — {so}")
        for callback in trainer.early_stopping_callbacks:
            if callback.monitor.startswith("val_"):
                callback.strict = False  # it waits for a metric that does not come


def _monitors(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Key of the configuration, and metric, of everything that waits for one."""
    for stopping in trainer.early_stopping_callbacks:
        yield "early_stopping.monitor", str(stopping.monitor)
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor is not None:
            yield "checkpoint.monitor", checkpoint.monitor
    for config in trainer.lr_scheduler_configs:
        if config.monitor is not None:
            yield "model.scheduler.monitor", config.monitor


def _require_a_whole_batch(trainer: Trainer) -> None:
    """Refuses a share of the batches that is less than one, before Lightning names a setting that nobody gave.

    Raises:
        ConfigError: E280.
    """
    share = trainer.overfit_batches  # type: ignore[attr-defined]  # set by Lightning
    data: object = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    if not isinstance(share, float) or not 0 < share < 1 or not isinstance(data, MarketDataModule):
        return
    for loader in (data.train_dataloader(), data.val_dataloader()):
        what = f"trainer.overfit_batches={share} of {counted(len(loader), 'batch')} is less than one"
        require(not len(loader) or int(share * len(loader)) > 0, what, WHERE, "give a number, such as 1", code=280)


def _require_validations_that_fit(trainer: Trainer, lengths: Lengths) -> None:
    """Refuses validations that lie further apart than an epoch is long.

    Raises:
        ConfigError: E280.
    """
    interval = trainer.val_check_interval
    if not isinstance(interval, int) or trainer.limit_val_batches == 0:
        return
    what, batches = f"trainer.val_check_interval={interval}", lengths.batches
    require(interval > 0, what, WHERE, "give at least 1 batch, or a share of the epoch", code=280)
    fits = interval <= batches or trainer.check_val_every_n_epoch is None
    fix = f"give at most {batches}, or set check_val_every_n_epoch to null to count over epochs"
    require(fits, f"{what}, but an epoch has {counted(batches, 'batch')}", WHERE, fix, code=280)


def _unvalidated(trainer: Trainer, lengths: Lengths) -> str:
    """Why a training never comes to a validation; empty if it does."""
    interval, every = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches=0"
    if every is not None and every > lengths.epochs:
        return f"trainer.check_val_every_n_epoch={every}, but the training has {counted(lengths.epochs, 'epoch')}"
    total = lengths.steps * trainer.accumulate_grad_batches  # an epoch may end with fewer
    if every is None and isinstance(interval, int) and interval > total and lengths.steps != trainer.max_steps:
        return f"trainer.val_check_interval={interval}, but the training has {counted(total, 'batch')}"
    return ""


def require_processes_that_stay(trainer: Trainer) -> None:
    """Refuses processes that a fit starts and ends by itself: forecasts and scores would end with them.

    Args:
        trainer: The trainer.

    Raises:
        ConfigError: E280.
    """
    ending = isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
    what = "processes that are forked or spawned take their results with them"
    require(not ending, what, "trainer.strategy", "use ddp", code=280)


def _say(trainer: Trainer, sentence: str) -> None:
    if trainer.is_global_zero:
        log.warning("%s", sentence)
