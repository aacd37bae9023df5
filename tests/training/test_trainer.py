"""Our Trainer: the precision that fits the device, and no time for empty hooks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from lightning.pytorch.profilers import SimpleProfiler

from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training import trainer as module
from cnn_lstm.training.trainer import STEP_HOOKS, ForecastTrainer, NoProfiler, automatic_precision, skip_empty_hooks
from tests.fits import small_data, small_network


@pytest.mark.parametrize("accelerator", ["cpu", "auto", CPUAccelerator()])
@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_with_bf16_instructions_uses_them(
    accelerator: Any, native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(module, "native_on_cpu", lambda: native)
    assert automatic_precision(accelerator) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_decides_where_it_is_used(native: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(module, "native_on_cpu", lambda: not native)
    for accelerator in ("auto", "gpu", "cuda"):
        assert automatic_precision(accelerator) == expected
    assert automatic_precision("cpu") == ("32-true" if native else "bf16-mixed")


@pytest.mark.parametrize("accelerator", ["mps", "tpu", object()])
def test_other_devices_keep_single_precision(accelerator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "native_on_cpu", lambda: True)
    assert automatic_precision(accelerator) == "32-true"


def test_it_says_what_it_chose(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "native_on_cpu", lambda: True)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        trainer = ForecastTrainer(precision="auto", accelerator="cpu", logger=False)
        assert trainer.precision == "bf16-mixed"
        assert "trainer.precision auto: bf16-mixed" in caplog.messages
        caplog.clear()
        assert ForecastTrainer(precision="64-true", accelerator="cpu", logger=False).precision == "64-true"
        assert ForecastTrainer(accelerator="cpu", logger=False).precision == "32-true"
        assert "precision auto" not in caplog.text


class Own(Callback):
    def on_train_batch_end(self, *_: Any, **__: Any) -> None: ...


class Heir(Own):
    def on_before_backward(self, *_: Any) -> None: ...


def test_what_a_callback_does_is_called_and_nothing_else() -> None:
    called = LambdaCallback(on_after_backward=lambda *_: None)
    callbacks = [Own(), Heir(), called, ModelCheckpoint(), EarlyStopping("val_loss")]
    skip_empty_hooks(callbacks)
    skip_empty_hooks(callbacks)  # a second fit of the same trainer
    kept = [{name for name in STEP_HOOKS if callable(getattr(callback, name))} for callback in callbacks]
    assert kept[:3] == [{"on_train_batch_end"}, {"on_train_batch_end", "on_before_backward"}, {"on_after_backward"}]
    assert kept[3:] == [{"on_train_batch_end"}, set()]


def test_the_hooks_are_those_that_lightning_has() -> None:
    assert all(hasattr(Callback, name) for name in STEP_HOOKS)
    assert issubclass(ForecastTrainer, Trainer)
    assert all(hasattr(LightningModule, name) for name in STEP_HOOKS)


class Counting(Forecaster):
    """One of a user, with two hooks of a step."""

    began = ended = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.began += 1

    def on_after_backward(self) -> None:
        self.ended += 1


def test_hooks_of_a_module_are_called_in_a_fit(tmp_path: Path) -> None:
    model, trainer = Counting(small_network()), ForecastTrainer(max_steps=3, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(model, datamodule=small_data(tmp_path))
    assert (model.began, model.ended) == (3, 3)
    kept = {name for name in STEP_HOOKS if callable(getattr(model, name))}
    assert kept == {"on_train_batch_start", "on_after_backward"}


def test_a_profiler_is_one_that_was_asked_for() -> None:
    assert isinstance(ForecastTrainer(accelerator="cpu", logger=False).profiler, NoProfiler)
    assert isinstance(ForecastTrainer(accelerator="cpu", logger=False, profiler="simple").profiler, SimpleProfiler)


def test_texts_and_none_are_set_as_a_module_sets_them() -> None:
    """The short way is for what is an attribute already, not for what is a parameter, a buffer or a module."""
    model = Forecaster(small_network())
    model._current_fx_name = "training_step"
    assert model._current_fx_name == "training_step"
    model.register_parameter("own", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(TypeError, match="own"):
        model.own = "text"
    model.own = None
    assert model._parameters["own"] is None
