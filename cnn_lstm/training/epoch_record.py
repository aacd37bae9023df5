"""What an epoch has logged: on the disk at its end, and in the checkpoint, so that a resume has all of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_lstm.training.loggers import AppendingCSVLogger, MLflowTracker
from cnn_lstm.training.metric_names import grouped

KEY = "cnn_lstm_epoch_record"


class EpochRecord(Callback):
    """Keeps the metrics of each epoch through a kill and a power cut.

    metrics.csv and the MLflow journal are flushed to the disk at the end of each epoch and of the run. Lightning (2.6)
    writes the checkpoint of an epoch before it logs the epoch's training metrics: a kill between the two would lose
    them, since a resume begins with the next epoch. So the checkpoint holds them, and a resume of the same run adds
    what its files lack. A checkpoint within an epoch holds none.

    Args:
        checkpoints: Folder of the run's checkpoints; one of another folder belongs to another run's files.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints
        self._saved: Mapping[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning is about to log: `step`, and the `metrics` by name."""
        loop = trainer.fit_loop.epoch_loop
        if (not trainer.training and not trainer.validating) or not loop.batch_progress.is_last_batch:
            return
        values = loop._results.metrics(on_step=False)["log"]  # what `update_train_epoch_metrics` logs
        metrics = {name: float(value) for name, value in values.items()}
        if metrics:
            metrics["epoch"] = trainer.current_epoch
            checkpoint[KEY] = {"step": max(0, trainer.global_step - 1), "metrics": metrics}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps what the checkpoint holds until the training starts."""
        same_run = Path(str(trainer.ckpt_path)).resolve().parent == self.checkpoints.resolve()
        self._saved = checkpoint.get(KEY) if same_run else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what the files of the run lack, after the steps that are trained again are forgotten."""
        self._restore(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same where nothing is left to train: the kill came after the last epoch."""
        self._restore(trainer)

    @rank_zero_only
    def _restore(self, trainer: Trainer) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            return
        step, metrics, missing = int(saved["step"]), saved["metrics"], {}
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger):
                missing = logger.experiment.missing(metrics, step)
        if not missing:
            return
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger | MLflowTracker):  # the record adds no point twice
                logger.log_metrics(missing, step)
                logger.save()
            elif isinstance(logger, TensorBoardLogger):
                there = points_at(Path(logger.log_dir), step)
                lacking = {name: value for name, value in missing.items() if not {name, grouped(name)} & there}
                logger.log_metrics(lacking, step)
                logger.save()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Flushes before the epoch's checkpoint is written, which comes last."""
        self._flush(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Flushes what there is of a run that failed or was interrupted."""
        self._flush(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Flushes the whole run; the metrics of the last epoch are logged after its end."""
        self._flush(trainer)

    @rank_zero_only
    def _flush(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            with suppress(OSError):  # a disk that is full; the rows are written as soon as there is room
                if isinstance(logger, AppendingCSVLogger):
                    logger.experiment.flush()
                elif isinstance(logger, MLflowTracker):
                    logger.record.journal.flush()


def points_at(folder: Path, step: int) -> set[str]:
    """The curves of TensorBoard's event files that have a point at a step.

    Args:
        folder: Folder of the event files.
        step: The step.
    """
    none = {"images": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, **none}).Reload()
    return {tag for tag in events.Tags()["scalars"] if any(point.step == step for point in events.Scalars(tag))}
