"""What Ctrl-C and SIGTERM do: between batches, and where no batch runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException


class InterruptBetweenBatches(Callback):
    """Lets a Ctrl-C wait for the end of the batch, so that no file is cut off; a second one ends the run at once.

    Lightning leaves the signal to Python, which raises it wherever it is: in the middle of a row of metrics.csv, while
    a lock is taken, or in a destructor, which swallows it. With several processes it stays Python's, since each process
    would end at another batch.
    """

    def __init__(self) -> None:
        self.asked = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves Ctrl-C to Python until batches run."""
        self.asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal over where nobody else has; Lightning gives it back."""
        ours = trainer.world_size == 1 and threading.current_thread() is threading.main_thread()
        if ours and not self.asked and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._ask)

    on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Ends the run if it was asked to end; Lightning's loops do not always notice a SIGTERM."""
        if self.asked:
            raise KeyboardInterrupt
        if trainer.world_size == 1 and trainer.received_sigterm:
            raise SIGTERMException

    on_validation_batch_start = on_test_batch_start = on_predict_batch_start = on_train_batch_start

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A signal in the last batch counts too."""
        self.on_train_batch_start(trainer)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def ended_by_sigterm(handled: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Makes SIGTERM an orderly end with exit code 143; only the main thread can.

    Args:
        handled: Whether somebody else has handled the signal already, such as Lightning's loops.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if not handled():
            raise SIGTERMException

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
