"""Tiny experiments through the real command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cnn_lstm.cli import main

FEATURES = ["log_return_1", "log_return_5", "close_location", "volume_trend_5_20"]


def experiment(
    folder: Path, table: pd.DataFrame, data: dict[str, Any] | None = None, **sections: dict[str, Any]
) -> Path:
    """Writes a price table and the YAML of a small fit on it.

    Args:
        folder: Where to write.
        table: Price table.
        data: Keys of the section `data` to set.
        sections: Other sections, merged one level deep.

    Returns:
        The YAML file.
    """
    table.to_parquet(folder / "prices.parquet")
    values: dict[str, Any] = {
        "seed_everything": 7,
        "mlflow": False,
        "tensorboard": False,
        "history_plot": {"enabled": False},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
        },
        "model": {"network": network(channels=[6], kernel_sizes=[3], lstm_hidden=4, attention_heads=2)},
        "data": {
            "source": spec("cnn_lstm.data.sources.PriceFiles", paths=str(folder / "prices.parquet")),
            "features": FEATURES,
            "targets": [spec("cnn_lstm.data.targets.ForwardReturn", horizon=2)],
            "window": 8,
            "batch_size": 32,
            **(data or {}),
        },
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    """A class and its arguments, as YAML writes them."""
    return {"class_path": path, "init_args": arguments}


def network(**arguments: Any) -> dict[str, Any]:
    """The network in YAML."""
    return spec("cnn_lstm.model.network.CNNLSTM", **arguments)


def run(*argv: object) -> int:
    """Runs a command in this process, and puts the process's state back."""
    with _restored():
        return main([str(word) for word in argv])


def fit(config: Path, run_dir: Path, *argv: object) -> Path:
    """Fits and returns the run folder."""
    assert run("fit", "--config", config, "--run_dir", run_dir, *argv) == 0
    return run_dir


def predict(run_dir: Path, *argv: object, alias: str = "best") -> pd.DataFrame:
    """The predictions table of a run."""
    assert run("predict", "--config", run_dir / "config.yaml", "--ckpt_path", alias, *argv) == 0
    return pd.read_parquet(run_dir / "forecasts.parquet")


@contextmanager
def _restored() -> Iterator[None]:
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, handler)
