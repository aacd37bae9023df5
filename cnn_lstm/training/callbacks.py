"""Callbacks that guard a fit and its resume: gradients, finite losses, random state, checkpoints."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor, nn
from torch.optim import Optimizer

from cnn_lstm.data.batches import Batch
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ConfigError, DivergedError
from cnn_lstm.files import make_folder, replace_file
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.trial_step import SCHEDULER, with_current_length
from cnn_lstm.specs import class_path, plain
from cnn_lstm.training.durable import SavesAgain
from cnn_lstm.training.epoch_record import EpochRecord
from cnn_lstm.training.loggers import AppendingCSVLogger
from cnn_lstm.training.requeue import GoOnWithinEpoch
from cnn_lstm.training.run_folder import OneWriter

log = logging.getLogger(__name__)
OPTIMIZER_KEY = "cnn_lstm_optimizer"


def guards(checkpoints: Path) -> list[Callback]:
    """The callbacks that every command needs and that have no settings.

    Args:
        checkpoints: Folder of the checkpoints.
    """
    relocate = RelocateCheckpoints(checkpoints)
    record = EpochRecord(checkpoints)
    return [
        SavesAgain(checkpoints),
        ForgetRepeatedSteps(),
        record,
        FiniteGuard(),
        RandomState(),
        OptimizerSettings(),
        relocate,
        GoOnWithinEpoch(),
    ]


class FolderStays(Callback):
    """Ends a command whose run folder was moved or removed, before it writes where the folder was.

    Args:
        writer: Holds the folder.
    """

    def __init__(self, writer: OneWriter) -> None:
        self.writer = writer

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Before what is logged of a step; it takes some microseconds."""
        self.writer.require_in_place()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before a checkpoint."""
        self.writer.require_in_place()


class GradientNorm(Callback):
    """Logs the total gradient norm, unscaled and before clipping, by one fused call.

    The last step of each epoch is measured too, so that the shortest training has a norm.

    Args:
        every_n_steps: Steps between two measurements.
        per_module: Whether to log the norm of each part of the model too, for example `grad_norm/network.lstm`.
    """

    def __init__(self, every_n_steps: int = 50, per_module: bool = False) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"every_n_steps={every_n_steps}", "grad_norm", "give at least 1", code=224)
        self.every_n_steps, self.per_module = every_n_steps, per_module

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Lightning calls this after unscaling and before clipping."""
        step = trainer.global_step + 1
        regular = step % self.every_n_steps == 0
        if not regular and not trainer.is_last_batch and step != trainer.max_steps:
            return
        gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
        norms = gradient_norms(gradients) if self.per_module else {"": nn.utils.get_total_norm(gradients.values())}
        metrics = {f"grad_norm/{part}" if part else "grad_norm": norm for part, norm in norms.items()}
        if regular and self.every_n_steps == trainer.log_every_n_steps:  # type: ignore[attr-defined]  # set by Lightning
            pl_module.log_dict(metrics)  # one write together with the loss of the step
            return
        for logger in trainer.loggers:
            logger.log_metrics({name: float(norm) for name, norm in metrics.items()}, step=trainer.global_step)


def gradient_norms(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Norms of the parts of a model, and the total under the empty name; each gradient is read once.

    A part is the module that holds the parameters, down to two levels: `head`, `network.lstm`.

    Args:
        gradients: Gradients by the name of their parameter.

    Example:
        >>> gradients = {"head.bias": torch.tensor([3.0]), "network.lstm.weight": torch.tensor([4.0])}
        >>> {part: norm.item() for part, norm in gradient_norms(gradients).items()}
        {'': 5.0, 'head': 3.0, 'network.lstm': 4.0}
    """
    if not gradients:
        return {}
    norms = torch.stack(torch._foreach_norm(list(gradients.values())))
    owners = [".".join(name.split(".")[:-1][:2]) for name in gradients]
    positions: dict[str, list[int]] = {}
    for position, owner in enumerate(owners):
        positions.setdefault(owner, []).append(position)
    total = {"": torch.linalg.vector_norm(norms)}
    return total | {owner: torch.linalg.vector_norm(norms[chosen]) for owner, chosen in positions.items()}


class FiniteGuard(Callback):
    """Stops a run whose loss is not finite, before the optimiser spoils the weights.

    Each step is checked on the CPU; on an accelerator every `log_every_n_steps`, since each check waits for it.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Remembers the batch for the message."""
        self._rows = batch.row

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Checks the training loss."""
        if loss.device.type == "cpu" or (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # set by Lightning
            self._require_finite("training", loss.detach(), trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the validation loss."""
        loss = trainer.callback_metrics.get("val_loss")
        if loss is not None and not trainer.sanity_checking:
            self._require_finite("validation", loss, trainer)

    def _require_finite(self, stage: str, loss: Tensor, trainer: Trainer) -> None:
        if math.isfinite(loss.item()):
            return
        where = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        if stage == "training" and isinstance(data, MarketDataModule):
            rows = self._rows.cpu().numpy()
            symbols = sorted({data.panel.symbols[code] for code in data.panel.symbol[rows]})
            days = data.panel.time[rows]
            where += f", batch of {', '.join(symbols[:5])} @ {str(days.min())[:10]}..{str(days.max())[:10]}"
        raise DivergedError(
            f"the {stage} loss is {float(loss)}",
            where,
            "lower model.optimizer.lr or clip harder; checkpoints of finite epochs are kept",
            code=507,
        )


class RandomState(Callback):
    """Keeps torch's random state in the checkpoint: a resumed run drops out what an uninterrupted one would."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Random states of the CPU and of each CUDA device."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the states until training starts."""
        self._restored = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the states of a resumed run."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["cpu"].cpu())
        if torch.cuda.is_available() and len(self._restored["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._restored["cuda"]])
        self._restored = None


class ForgetRepeatedSteps(Callback):
    """Removes the points of the steps that are trained again, from metrics.csv and TensorBoard.

    A run that was killed within an epoch, or goes on from an earlier checkpoint, has logged steps after those of the
    checkpoint. Lightning would log them a second time (2.6). They are removed when training starts, not earlier: a
    resume that is refused leaves everything as it is.
    """

    def __init__(self) -> None:
        self._resumed = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Only a fit that goes on has such points."""
        self._resumed = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drops a row that a kill has cut off where nothing is left to train, so that no training starts."""
        if self._resumed:
            self.on_train_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A point of step s belongs to the training that starts at s, since steps are counted from 0."""
        self._resumed = False
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger):
                logger.experiment.forget_from(step)
            elif isinstance(logger, TensorBoardLogger):
                start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
                logger.experiment.file_writer.add_event(start)  # as the `purge_step` of a SummaryWriter


class RelocateCheckpoints(Callback):
    """Makes a run that was moved or copied, or that goes on in a new folder, go on where it lies now.

    Lightning forgets the best score when the folder of a `ModelCheckpoint` has changed, and then overwrites best.ckpt
    (2.6). A new folder gets a copy of the best checkpoint so far; where there is none any more, its score is forgotten.

    Args:
        checkpoints: Folder of the checkpoints now.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints.resolve()  # as Lightning writes it, which compares the two texts

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Edits the paths before Lightning restores the callbacks."""
        for state in checkpoint["callbacks"].values():
            before = state.get("dirpath") if isinstance(state, dict) else None
            if before is not None and Path(before).name == self.checkpoints.name:
                state["dirpath"] = str(self.checkpoints)
                for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                    state[key] = self._moved(state[key])
                state["best_k_models"] = {self._moved(path): score for path, score in state["best_k_models"].items()}
                best = Path(state["best_model_path"])
                if trainer.training and state["best_model_score"] is not None and not self._brought(best, trainer):
                    state |= {"best_model_path": "", "best_model_score": None, "best_k_models": {}}
                    state |= {"kth_best_model_path": ""}

    def _moved(self, path: str) -> str:
        return str(self.checkpoints / Path(path).name) if path else path

    def _brought(self, best: Path, trainer: Trainer) -> bool:
        """Whether the best checkpoint lies here, or is copied from next to the one that the fit goes on from."""
        origin = Path(str(trainer.ckpt_path)).with_name(best.name)
        if best.is_file() or not origin.is_file():
            return best.is_file()
        if trainer.is_global_zero:
            make_folder(best.parent)
            replace_file(best, lambda partial: shutil.copyfile(origin, partial))
        return True


class LastCheckpoint(ModelCheckpoint):
    """Writes last.ckpt at the end of each epoch; a separate class keeps its state apart from that of best.ckpt.

    Args:
        checkpoints: Folder of the checkpoints.
    """

    def __init__(self, checkpoints: Path) -> None:
        super().__init__(
            dirpath=checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        )


class OptimizerSettings(Callback):
    """On resume, the optimiser settings of the configuration win over those of the checkpoint; each change is logged.

    A value that the configuration did not change since the checkpoint was written keeps its trained state, for
    example a learning rate that the scheduler has lowered.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves the settings in force."""
        if trainer.optimizers:
            checkpoint[OPTIMIZER_KEY] = _settings(trainer.optimizers[0])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Edits the optimiser's state before Lightning restores it."""
        if not trainer.training or not isinstance(pl_module, Forecaster) or OPTIMIZER_KEY not in checkpoint:
            return
        configured = pl_module.configure_optimizers()  # with what a scheduler keeps in the groups
        asked = configured["optimizer"] if isinstance(configured, dict) else configured
        saved, wanted = checkpoint[OPTIMIZER_KEY], _settings(asked)
        changed = {key: value for key, value in wanted.items() if saved.get(key) != value}
        for key, value in changed.items():
            log.warning("resume: optimizer.%s: %s -> %s, as the configuration says", key, saved.get(key), value)
        if "class" in changed:
            checkpoint["optimizer_states"] = [asked.state_dict()]
        else:
            for group in checkpoint["optimizer_states"][0]["param_groups"]:
                group |= {key: asked.defaults[key] for key in changed}
        for state in checkpoint["lr_schedulers"] if isinstance(configured, dict) else ():
            for difference in with_current_length(state, configured["lr_scheduler"]["scheduler"]):
                log.warning("resume: %s.%s, as the configuration says", SCHEDULER, difference)
        if "lr" in changed:
            for state in checkpoint["lr_schedulers"]:
                if "base_lrs" in state:
                    state["base_lrs"] = [asked.defaults["lr"]] * len(state["base_lrs"])


def _settings(optimizer: Optimizer) -> dict[str, Any]:
    values = {key: value for key, value in optimizer.defaults.items() if not isinstance(value, Tensor)}
    return {"class": class_path(type(optimizer)), **plain(values)}
