"""Small fits from plain Python: a price file, a data module, a forecaster, a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Trainer

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM

FEATURES = ["log_return_1", "log_return_5", "close_location"]
ROWS = 120


def price_file(folder: Path, momentum: float = 0.0, rows: int = ROWS) -> Path:
    """A CSV file of two symbols, written once a folder: random walks, or returns that follow the one before."""
    path = folder / "prices.csv"
    if not path.exists():
        tables = [_bars(symbol, seed, momentum, rows) for seed, symbol in enumerate(("AAA", "BBB"))]
        pd.concat(tables).to_csv(path, index=False)
    return path


def _bars(symbol: str, seed: int, momentum: float, rows: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    returns = random.normal(0, 0.01, rows)
    for row in range(1, rows if momentum else 0):
        returns[row] += momentum * returns[row - 1]
    close = 100 * np.exp(np.cumsum(returns))
    opened = close * np.exp(random.normal(0, 0.003, rows))
    return pd.DataFrame(
        {
            "symbol": symbol,
            "date": pd.bdate_range("2020-01-01", periods=rows).strftime("%Y-%m-%d"),
            "open": opened,
            "high": np.maximum(opened, close) * 1.01,
            "low": np.minimum(opened, close) * 0.99,
            "close": close,
            "volume": 1e6 + random.integers(0, 1000, rows),
        }
    )


def small_data(folder: Path, **arguments: Any) -> MarketDataModule:
    """A data module of windows of 6 rows, 5 to 10 training batches an epoch."""
    values: dict[str, Any] = {"features": FEATURES, "window": 6, "batch_size": 16, **arguments}
    return MarketDataModule(source=PriceFiles(str(price_file(folder))), **values)


def small_network(**arguments: Any) -> CNNLSTM:
    """A network of a few hundred weights."""
    values: dict[str, Any] = {
        "n_features": len(FEATURES),
        "channels": [4],
        "kernel_sizes": [3],
        "lstm_hidden": 4,
        "attention_heads": 2,
        **arguments,
    }
    return CNNLSTM(**values)


def small_trainer(**arguments: Any) -> Trainer:
    """A trainer that prints, logs and writes nothing by itself."""
    values: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        **arguments,
    }
    return Trainer(**values)


def small_checkpoint(folder: Path, forecaster: Forecaster | None = None, **data: Any) -> Path:
    """The checkpoint of one epoch."""
    trainer = small_trainer()
    trainer.fit(forecaster or Forecaster(small_network()), datamodule=small_data(folder, **data))
    path = folder / "small.ckpt"
    trainer.save_checkpoint(path)
    return path
