"""The kinds of files, how each is made and read, and what a reader may make of a damaged one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.stored_tables import read_table, write_table
from cnn_lstm.evaluation.ledger import count_use, uses
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.runs.forecast_cli import parsed
from cnn_lstm.training.history import read_history
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.journal import Journal
from tests import experiments
from tests.markets import market

Read = Callable[[Path], str]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Its name.
        file: The file of a run, relative to the folder.
        read: What is read of the folder, as text that compares.
        grows: Whether lines are added to it: cut at the end of a line, it is the file of an earlier time.
        silent: Whether a flip can pass without a word: plain text whose every letter is a value.
    """

    name: str
    file: str
    read: Read
    silent: bool = False
    grows: bool = False


def make(folder: Path) -> None:
    """A run with all that it writes, and the files around it."""
    config = experiments.experiment(folder, market(110, gaps=False))
    run = experiments.fit(config, folder / "run", "--mlflow", "true")
    experiments.predict(run)
    table = read_table(run / "forecasts.parquet")
    write_table(folder / "ours.parquet", table)
    for number in range(8):
        count_use(run, "rows", f"model {number}")
    prices = pd.read_parquet(folder / "prices.parquet")
    prices.to_csv(folder / "prices.csv", index=False)
    predictor = Predictor.from_checkpoint(run / "checkpoints" / "best.ckpt")
    predictor.stream(prices).save(folder / "state.npz")


def _text(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _checkpoint(folder: Path) -> str:
    state = read_checkpoint(folder / "run/checkpoints/best.ckpt")["state_dict"]
    return _text([(name, values.tolist()) for name, values in state.items()])


def _table(folder: Path) -> str:
    return _text(read_table(folder / "run" / "forecasts.parquet").to_csv())


def _config(folder: Path) -> str:
    config = folder / "run" / "config.yaml"
    return parsed(["predict", "--config", str(config), "--ckpt_path", "best"]).config_text


def _history(folder: Path) -> str:
    history = read_history(folder / "run")
    return _text([(name, values.tolist()) for name, values in history.metrics.items()])


def _journal(folder: Path) -> str:
    journal = Journal(folder / "run" / "tracking")
    events = list(journal.events())
    if not journal.has_ended():  # a cut looks as what a kill leaves
        logging.getLogger().warning("the record has no end: sync-tracking would end it as KILLED")
    return _text(events)


def _sent(folder: Path) -> str:
    return _text(Delivery.of_run(folder / "run", None).run_id)


def _prices(name: str) -> Read:
    def read(folder: Path) -> str:
        return _text(PriceFiles(str(folder / name)).load(None, None, None).to_csv())

    return read


def _state(folder: Path) -> str:
    predictor = Predictor.from_checkpoint(folder / "run/checkpoints/best.ckpt")
    stream = predictor.stream(state=folder / "state.npz")
    stream.save(folder / "again.npz")
    content = read_state_text(folder / "again.npz")
    (folder / "again.npz").unlink()
    return content


def read_state_text(path: Path) -> str:
    """The content of a state, without the zip around it."""
    with np.load(path) as arrays:
        return _text([(name, arrays[name].tolist()) for name in sorted(arrays)])


KINDS = (
    Kind("checkpoint", "run/checkpoints/best.ckpt", _checkpoint),
    Kind(
        "table of ours",
        "run/forecasts.parquet",
        lambda folder: _text(read_table(folder / "run/forecasts.parquet").to_csv()),
    ),
    Kind("stream state", "state.npz", _state),
    Kind("journal.jsonl", "run/tracking/journal.jsonl", _journal),
    Kind("sent.json", "run/tracking/sent.json", _sent),
    Kind("ledger", "test_uses.jsonl", lambda folder: _text(uses(folder / "test_uses.jsonl", "rows")), grows=True),
    Kind("config.yaml", "run/config.yaml", _config, silent=True),
    Kind("metrics.csv", "run/metrics.csv", _history, silent=True),
    Kind("prices.csv", "prices.csv", _prices("prices.csv"), silent=True),
    Kind("prices.parquet", "prices.parquet", _prices("prices.parquet"), silent=True),
)
