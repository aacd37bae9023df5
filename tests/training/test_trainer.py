"""Our Trainer: the precision that fits the device, and no time for empty hooks."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint

from cnn_lstm.training import trainer as module
from cnn_lstm.training.trainer import STEP_HOOKS, ForecastTrainer, automatic_precision, skip_empty_hooks


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
