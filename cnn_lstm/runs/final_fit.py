"""A final fit: on the rows of train and validation, for a stated number of epochs, without a validation.

Settings, number of epochs and calibration come from a fit before it, which had a validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning_utilities.core.rank_zero import rank_zero_info
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cnn_lstm.errors import require
from cnn_lstm.hints import counted
from cnn_lstm.model.checkpoints import read_checkpoint, require_single
from cnn_lstm.model.contract import Contract, refuse_differences, refuse_other_scales
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.scheduling import monitor_of
from cnn_lstm.training.run_folder import require_same_model

FIT_ON, CALIBRATION_FROM = "data.fit_on", "calibration_from"


def is_final(config: Namespace) -> bool:
    """Whether a configuration is that of a final fit."""
    return bool(config.data.fit_on == "train_and_validation")


def leave_validation_out(config: Namespace, command: str) -> None:
    """Sets what a final fit needs in a configuration: no validation, and the newest epoch as best.ckpt.

    Args:
        config: Configuration of a command.
        command: The command, such as `fit`.
    """
    if not is_final(config):
        return
    config.checkpoint.monitor = None
    if command == "fit":
        config.trainer.limit_val_batches = 0


def check_final(config: Namespace, defaults: Mapping[str, dict[str, Any]]) -> None:
    """Refuses a final fit without a calibration or with that of another model, and a calibration for another fit.

    Args:
        config: The configuration of `fit`.
        defaults: Spec of each class that a configuration may leave out, by its key.

    Raises:
        ConfigError: If one of the two is missing.
        CheckpointError: If the checkpoint cannot be read, or is that of another network or objective.
    """
    path = config.get(CALIBRATION_FROM)
    if not is_final(config):
        what, fix = "only a final fit takes the calibration of another one", f"set {FIT_ON} to train_and_validation"
        require(path is None, what, CALIBRATION_FROM, fix)
        return
    what = "a final fit has no validation rows to calibrate its intervals on"
    fix = "first fit on train, then name the checkpoint of that fit: RUN/checkpoints/best.ckpt"
    require(path is not None, what, CALIBRATION_FROM, fix)
    trainer = config.trainer
    ends = (trainer.max_epochs or 0) >= 0 or trainer.max_steps >= 0 or trainer.max_time
    what, fix = "a final fit does not stop early, and has no other end", "give the number of epochs"
    require(bool(ends), what, "trainer.max_epochs=-1", fix, code=280)
    checkpoint = read_checkpoint(path)
    require_single(checkpoint, path)
    require_same_model(checkpoint, config.model, dict(defaults))


def require_rate_without_validation(configured: Any) -> None:
    """Refuses a learning rate that waits for a metric which a final fit does not have.

    Args:
        configured: What `configure_optimizers` returns.

    Raises:
        ConfigError: If the scheduler waits for a metric of the validation.
    """
    scheduler = configured["lr_scheduler"]["scheduler"] if isinstance(configured, dict) else None
    waits = isinstance(scheduler, ReduceLROnPlateau) and monitor_of(scheduler).startswith("val_")
    what = "the learning rate waits for a metric of the validation, which a final fit does not have"
    require(not waits, what, "model.scheduler", "set it to null or to cnn_lstm.model.optimisation.WarmupCosine")


def without_validation(callbacks: list[Callback]) -> list[Callback]:
    """The callbacks of a final fit: all but early stopping.

    Args:
        callbacks: Those of any fit.
    """
    return [callback for callback in callbacks if not isinstance(callback, EarlyStopping)]


class CalibrationOfFit(Callback):
    """Gives a final model the calibration of the fit that its settings come from.

    The scores are errors of a model that had not seen the validation rows. A model that has seen more data errs a
    little less on new rows, so its intervals begin a little wide; they adapt in the test part as those of any model.

    Args:
        checkpoint: Checkpoint of that fit.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the calibration, once the data is read.

        Raises:
            CheckpointError: If the checkpoint is of another recipe, of other dates or of other prices.
            ConfigError: If it has no calibration.
        """
        assert isinstance(pl_module, Forecaster)
        content = read_checkpoint(self.checkpoint)
        saved, own = Contract.of(content), pl_module.contract
        refuse_differences(_data_of(saved), _data_of(own))
        refuse_other_scales(saved, own.scaling, own.per_symbol)
        usable = saved.calibration is not None and not saved.fitted_on
        fix = "name a checkpoint of a fit on train"
        require(usable, "the checkpoint has no calibration of its own", f"{CALIBRATION_FROM}={self.checkpoint}", fix)
        pl_module.contract = replace(own, calibration=saved.calibration)
        before = int(content["epoch"]) + 1
        rank_zero_info(
            f"final fit: {counted(trainer.max_epochs or 0, 'epoch')}; the checkpoint of its calibration took {before}"
        )


def _data_of(contract: Contract) -> dict[str, Any]:
    """What the data of two fits must have in common."""
    dates = {f"data.split.{part}": day for part, day in asdict(contract.boundaries).items()}
    return {**contract.recipe, **dates, "data SHA-256": contract.fingerprint}
