"""Checkpoint files of a fit: they survive a kill, a full disk and a power cut, and old ones still load.

Lightning's save copies from a temporary folder over the live file when the two lie on different file systems, so
that a kill or a full disk in that moment destroys the last good checkpoint (its `_atomic_save`, 2.6).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from cnn_lstm.errors import ResourceError
from cnn_lstm.model.checkpoints import write_checkpoint

log = logging.getLogger(__name__)
MOST_FAILURES = 3
# of a ModelCheckpoint (2.6): what says which files there are
FILES = (
    *("best_model_score", "best_model_path", "current_score", "best_k_models", "kth_best_model_path", "kth_value"),
    *("last_model_path", "_last_global_step_saved", "_last_checkpoint_saved"),
)

# Callbacks that have another name now than in checkpoints written before; Lightning finds their state by it
RENAMED_STATES = {"BoardPictures": "TensorBoardPlots"}


class DurableCheckpointIO(TorchCheckpointIO):
    """Lets the Trainer write as `write_checkpoint` does, and resume from checkpoints written before."""

    def __init__(self) -> None:
        super().__init__()
        self._refused: list[ResourceError] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replaces the file at `path` in one step.

        Raises:
            ResourceError: If the disk is full or the folder cannot be written; the old file stays.
        """
        try:
            write_checkpoint(checkpoint, path)
        except ResourceError as error:
            if self._refused is None:
                raise
            self._refused.append(error)

    @contextmanager
    def refusals(self) -> Iterator[list[ResourceError]]:
        """Collects the errors of saves instead of raising them: other processes wait for one that saves."""
        refused: list[ResourceError] = []
        self._refused = refused
        try:
            yield refused
        finally:
            self._refused = None

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a checkpoint; the states of renamed callbacks get the new name."""
        checkpoint: dict[str, Any] = super().load_checkpoint(*args, **kwargs)
        states = checkpoint.get("callbacks", {})
        for old, new in RENAMED_STATES.items():
            if old in states:
                states[new] = states.pop(old)
        return checkpoint


class _NotWrittenError(ResourceError):
    """A checkpoint was not written; in every process."""


class SavesAgain(Callback):
    """Lets a fit go on where a checkpoint cannot be written: a warning, and the next save tries again.

    Lightning's `ModelCheckpoint` notes a file as written before it is, so that best.ckpt would count as that of an
    epoch whose weights are lost. It is set back to the files that there are.

    Args:
        checkpoints: Folder of the checkpoints.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints
        self._failures, self._step, self._failed = 0, -1, False
        self._error: ResourceError | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes over what saves checkpoints."""
        if stage != "fit" or not isinstance(trainer.strategy.checkpoint_io, DurableCheckpointIO):
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                for name in ("_save_topk_checkpoint", "_save_last_checkpoint"):
                    setattr(callback, name, partial(self._save, callback, name))
                vars(callback)["_save_checkpoint"] = partial(self._write, callback)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A fit whose last checkpoint is missing has not ended well.

        Raises:
            ResourceError: E612.
        """
        if self._failed and self._error is not None:
            raise self._ending(self._error, "the last checkpoint of the fit could not be written", code=612)

    def _save(self, callback: ModelCheckpoint, name: str, trainer: Trainer, candidates: dict[str, Tensor]) -> None:
        """Lightning's method, which may fail."""
        before = {key: vars(callback)[key] for key in FILES}
        before["best_k_models"] = dict(callback.best_k_models)
        self._begin(trainer.global_step)
        try:
            getattr(type(callback), name)(callback, trainer, candidates)
        except _NotWrittenError as error:
            vars(callback).update(before)
            self._fail(error)

    def _write(self, callback: ModelCheckpoint, trainer: Trainer, path: str) -> None:
        """Lightning's method, which raises in all processes where one could not write."""
        files: Any = trainer.strategy.checkpoint_io
        with files.refusals() as refused:
            type(callback)._save_checkpoint(callback, trainer, path)
        if trainer.strategy.reduce_boolean_decision(bool(refused), all=False):
            where = refused[0].where if refused else path
            raise _NotWrittenError("cannot write the checkpoint", where, "free disk space", code=604)

    def _begin(self, step: int) -> None:
        """Best and last checkpoint of one step are one attempt."""
        if step != self._step:
            self._failures = self._failures if self._failed else 0
            self._step, self._failed = step, False

    def _fail(self, error: ResourceError) -> None:
        self._failures += not self._failed
        self._failed, self._error = True, error
        if self._failures >= MOST_FAILURES:
            raise self._ending(
                error, f"no checkpoint could be written {MOST_FAILURES} times in a row", code=611
            ) from error
        what, fix = "the checkpoint cannot be written, training goes on", "free disk space; the next one is tried again"
        log.warning("[W372] %s — %s — %s", what, error.where, fix)

    def _ending(self, error: ResourceError, what: str, code: int) -> ResourceError:
        there = (self.checkpoints / "last.ckpt").is_file()
        fix = "free disk space, then go on with --ckpt_path last" if there else "free disk space, then train again"
        if code == 612 and "last.ckpt" not in error.where:  # the newest weights were written, under that name alone
            fix = "the file that is there is of an earlier epoch; last.ckpt holds the newest"
        return ResourceError(what, error.where, fix, code=code)
