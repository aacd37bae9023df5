"""A Ctrl-C while batches run."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from cnn_lstm.training.interrupts import InterruptBetweenBatches

BATCHES = 3


class Presses(Callback):
    """Presses Ctrl-C in the middle of a batch, and counts those that end."""

    def __init__(self, batch: int, times: int = 1, swallowed: bool = False) -> None:
        self.batch, self.times, self.swallowed = batch, times, swallowed
        self.ended = 0

    def on_before_backward(self, *_: Any) -> None:
        if self.ended != self.batch:
            return
        try:
            for _k in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            if not self.swallowed:
                raise

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended += 1


class Breaks(Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        raise ValueError("broken")


@pytest.fixture(autouse=True)
def python_s_own() -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fit(*callbacks: Callback) -> None:
    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=BATCHES,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[InterruptBetweenBatches(), *callbacks],
    )
    trainer.fit(BoringModel())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
class TestFit:
    @pytest.mark.parametrize("batch", range(BATCHES))
    def test_the_batch_ends_before_the_run(self, batch: int) -> None:
        presses = Presses(batch)
        with pytest.raises(SystemExit):
            fit(presses)
        assert presses.ended == batch + 1

    def test_the_second_one_does_not_wait(self) -> None:
        presses = Presses(1, times=2)
        with pytest.raises(SystemExit):
            fit(presses)
        assert presses.ended == 1

    def test_one_that_a_destructor_swallows_counts(self) -> None:
        presses = Presses(1, times=2, swallowed=True)
        with pytest.raises(SystemExit):
            fit(presses)
        assert presses.ended == 2

    def test_the_signal_is_given_back(self) -> None:
        fit()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(ValueError, match="broken"):
            fit(Breaks())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_handler_of_the_caller_stays(self) -> None:
        def handler(number: int, frame: object) -> None:
            pass

        signal.signal(signal.SIGINT, handler)
        fit()
        assert signal.getsignal(signal.SIGINT) is handler
