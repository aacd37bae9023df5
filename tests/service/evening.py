"""Evenings of the past, in processes of their own.

`python -m tests.service.evening "2010-09-06 22:30" update RUN` is the command line at that time.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

import pandas as pd

from cnn_lstm import cli
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.service import update


def set_clock(now: str) -> None:
    """Sets the clock of updates in this process."""
    moment = pd.Timestamp(now, tz="UTC").as_unit("us")
    update.utc_now = lambda: moment


def evening(run: Path, prices: Path, now: str, moment: str | None = None) -> None:
    """An update; the process is killed when it calls a function, as `module:name`."""
    set_clock(now)
    if moment is not None:
        module, _, name = moment.partition(":")
        setattr(importlib.import_module(module), name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    update.update_run(run, Predictor.from_checkpoint(run / "checkpoints" / "best.ckpt"), pd.read_parquet(prices))


if __name__ == "__main__":
    set_clock(sys.argv.pop(1))
    cli.script()
