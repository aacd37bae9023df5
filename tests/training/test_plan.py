"""What a trainer's lengths come to: refused or said before the first step, for each of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.plan import TrainingPlan
from tests.fits import small_data, small_network, small_trainer

BATCHES = 9  # of an epoch of `small_data`


def fitted(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    """A fit of at most two epochs that watches `val_loss`."""
    plan = TrainingPlan("val_loss")
    best = ModelCheckpoint(dirpath=folder / "best", monitor="val_loss")
    values: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True, **arguments}
    trainer = small_trainer(callbacks=[plan, best, EarlyStopping("val_loss", patience=9), *callbacks], **values)
    trainer.fit(Forecaster(small_network()), datamodule=small_data(folder))
    return trainer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"val_check_interval": 10}, "val_check_interval=10, but an epoch has 9 batches"),
        ({"val_check_interval": 0}, "val_check_interval=0"),
        ({"accumulate_grad_batches": 10}, "accumulate_grad_batches=10, but an epoch has 9 batches"),
        ({"limit_train_batches": 1, "accumulate_grad_batches": 2}, "=2, but an epoch has 1 batch —"),
        ({"overfit_batches": 0.1}, "overfit_batches=0.1 of 9 batches is less than one"),
        ({"overfit_batches": 0.2}, "overfit_batches=0.2 of 2 batches is less than one"),  # of the validation
    ],
)
def test_a_length_that_does_not_fit_the_data_is_refused(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fitted(tmp_path, **arguments)
    assert (caught.value.code, caught.value.where) == (280, "trainer")
    assert words in str(caught.value)


@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned")  # Lightning's; the command line hides it
@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")  # Lightning's own way to say it
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"check_val_every_n_epoch": 3}, "check_val_every_n_epoch=3, but the training has 2 epochs"),
        ({"check_val_every_n_epoch": 2, "max_steps": 7}, "check_val_every_n_epoch=2, but the training has 1 epoch "),
        ({"limit_val_batches": 0}, "limit_val_batches=0"),
        ({"check_val_every_n_epoch": None, "val_check_interval": 19}, "=19, but the training has 18 batches"),
    ],
)
def test_a_training_without_a_validation_says_so_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], words: str
) -> None:
    said: list[str] = []

    class FirstStep(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            said.extend(record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        trainer = fitted(tmp_path, FirstStep(), **arguments)
    assert any("nothing is validated" in line and words in line and "no best.ckpt" in line for line in said)
    assert trainer.global_step > 0
    assert not list((tmp_path / "best").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "steps", "validations"),
    [
        ({"max_steps": 5}, 5, 1),
        ({"max_steps": 1}, 1, 1),
        ({"max_steps": 9}, 9, 1),
        ({"max_steps": 12}, 12, 2),
        ({"max_steps": 3, "accumulate_grad_batches": 2}, 3, 1),
        ({"max_steps": 18}, 18, 2),
        ({"max_steps": 100}, 18, 2),
        ({"max_steps": 5, "check_val_every_n_epoch": None, "val_check_interval": 2}, 5, 3),
    ],
)
def test_the_last_step_is_validated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], steps: int, validations: int
) -> None:
    at: list[int] = []

    class Validations(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            at.append(trainer.global_step)

    trainer = fitted(tmp_path, Validations(), num_sanity_val_steps=0, **arguments)
    assert trainer.global_step == steps
    assert at[-1] == steps
    assert len(at) == validations
    assert list((tmp_path / "best").glob("*.ckpt"))
    unfinished = arguments["max_steps"] in (1, 3, 5, 12)
    assert any("unfinished epoch" in record.getMessage() for record in caplog.records) == unfinished


def test_what_was_fine_before_is_fine(tmp_path: Path) -> None:
    trainer = fitted(tmp_path, val_check_interval=BATCHES, accumulate_grad_batches=BATCHES, limit_val_batches=0.5)
    assert trainer.global_step == 2


@pytest.mark.parametrize("monitor", ["val_los", "vall_loss", "train_rmsee"])
def test_a_metric_that_nobody_logs_is_refused_before_the_first_step(tmp_path: Path, monitor: str) -> None:
    trainer = small_trainer(callbacks=[TrainingPlan(), EarlyStopping(monitor)])
    with pytest.raises(ConfigError, match=rf"no metric is named '{monitor}' — early_stopping.monitor — did you mean"):
        trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert trainer.global_step == 0


@pytest.mark.parametrize("monitor", ["val_rmse", "train_loss", "clipped_share"])
def test_every_metric_of_a_fit_can_be_waited_for(tmp_path: Path, monitor: str) -> None:
    best = ModelCheckpoint(dirpath=tmp_path / "best", monitor=monitor, save_on_train_epoch_end=True)
    callbacks: list[Callback] = [TrainingPlan(), best]
    trainer = small_trainer(callbacks=callbacks, enable_checkpointing=True, gradient_clip_val=1.0)
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert best.best_model_score is not None
