"""Runs that stop within an epoch and go on there: what SLURM does before it takes a job's machine away."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cnn_lstm.data.batches import RowBatches
from cnn_lstm.model.clipping import Clipping
from cnn_lstm.model.forecaster import Forecaster

log = logging.getLogger(__name__)
SIGNAL = getattr(signal, "SIGUSR1", None)  # Windows has none
AGREE = 10  # batches between two questions to the other processes


class GoOnWithinEpoch(Callback):
    """Lets a fit that goes on within an epoch take the batches that are left of it, in the order that they had.

    Lightning (2.6) trains the rest of the epoch with its first batches again.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning calls this when the state of the checkpoint is restored, and before the first batch."""
        loops, sampler = trainer.fit_loop, getattr(trainer.train_dataloader, "sampler", None)
        if isinstance(sampler, RowBatches) and loops.restarted_mid_epoch:
            done = loops.epoch_loop.batch_progress.current.ready
            sampler.skipped = done if done < trainer.num_training_batches else 0


class RequeueBetweenBatches(Callback):
    """Under SLURM, lets SIGUSR1 wait for the end of the batch, then writes last.ckpt and requeues the job.

    Lightning's handler saves wherever the signal comes, as in the middle of a step or of a file, and dies of it
    (https://github.com/Lightning-AI/pytorch-lightning/issues/21406). With several processes, all of them stop behind
    the same batch, whichever of them got the signal. The checkpoint keeps the forecasts of the epoch so far, which its
    metrics and intervals are made of. This has to be the last callback: what others do behind a batch is saved, too.

    Args:
        checkpoints: Folder of the checkpoints.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints
        self._asked = self._listening = False
        self._so_far: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The forecasts of the epoch so far, in a checkpoint of this callback's."""
        return self._so_far

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps them until training starts."""
        self._so_far = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on with the epoch so far, and takes the signal over from Lightning, which gives it back at its end."""
        so_far, self._so_far, self._asked = self._so_far, {}, False
        if so_far and isinstance(pl_module, Forecaster) and trainer.fit_loop.restarted_mid_epoch:
            pl_module.clipping = Clipping(*so_far["clipping"])
            if trainer.is_global_zero:
                pl_module.outputs.add(**{name: part.to(pl_module.device) for name, part in so_far["outputs"].items()})
        under_slurm = SLURMEnvironment.detect() and "SLURM_JOB_ID" in os.environ
        self._listening = under_slurm and threading.current_thread() is threading.main_thread() and SIGNAL is not None
        if self._listening and SIGNAL is not None:
            signal.signal(SIGNAL, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops, once somebody has asked and no gradient waits for its step.

        Raises:
            SIGTERMException: After the checkpoint, which ends the command as SLURM's own signal would.
        """
        accumulated = (batch_idx + 1) % trainer.accumulate_grad_batches
        if not self._listening or accumulated or not self._agreed(trainer, batch_idx):
            return
        if isinstance(pl_module, Forecaster) and not trainer.is_last_batch:
            outputs = pl_module.outputs.gather(trainer.world_size)
            self._so_far = {"outputs": outputs, "clipping": pl_module.clipping.counts}
        trainer.save_checkpoint(self.checkpoints / "last.ckpt")
        if trainer.is_global_zero:
            _requeue()
        raise SIGTERMException

    def _agreed(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether any process was asked; a question to the others costs time, so it is not put after each batch."""
        if trainer.world_size == 1:
            return self._asked
        last = batch_idx + 1 == trainer.num_training_batches
        asks = last or (batch_idx // trainer.accumulate_grad_batches) % AGREE == 0
        return asks and bool(trainer.strategy.reduce_boolean_decision(self._asked, all=False))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def _requeue() -> None:
    """Puts the job back in the queue; one that SLURM does not take is a warning, since the checkpoint is written."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        why = done.stderr.strip() if done.returncode else ""
        failed = bool(done.returncode)
    except (OSError, subprocess.TimeoutExpired) as error:
        why, failed = str(error), True
    if failed:
        log.warning("job %s was not put back in the queue: %s", job, why)
    else:
        log.warning("job %s was put back in the queue, last.ckpt is written", job)
