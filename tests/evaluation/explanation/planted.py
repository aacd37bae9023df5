"""A market in which one of six features drives the target, at a known lag; all others are noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import seed_everything

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.linear import Mode
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.model.objectives import Objective
from tests.fits import small_trainer
from tests.markets import bars_of, days

FEATURES = [f"signal_{k}" for k in range(6)]
WINDOW = 8


class Planted(NamedTuple):
    """A trained model, its data, and the truth."""

    predictor: Predictor
    data: MarketDataModule
    prices: pd.DataFrame
    feature: str
    lag: int


def planted_prices(seed: int, feature: int, lag: int, rows: int = 500, strength: float = 0.7) -> pd.DataFrame:
    """Two symbols whose return from t + 1 to t + 2 follows one of six columns at the row t - lag."""
    random = np.random.default_rng(seed)
    tables = []
    for number, symbol in enumerate(("AAA", "BBB")):
        signals = random.normal(size=(rows, len(FEATURES)))
        driver = np.concatenate([np.zeros(lag + 2), signals[:, feature]])[:rows]
        returns = 0.01 * (strength * driver + np.sqrt(1 - strength**2) * random.normal(size=rows))
        bars = bars_of(100 * np.exp(np.cumsum(returns)), days(rows), symbol, seed + number)
        tables.append(bars.assign(**dict(zip(FEATURES, signals.T, strict=True))))
    return pd.concat(tables, ignore_index=True)


def planted(
    seed: int,
    *,
    linear: Mode = "fixed",
    objective: Objective | None = None,
    epochs: int = 2,
    prices: pd.DataFrame | None = None,
    **arguments: Any,
) -> Planted:
    """A short fit on planted prices; feature and lag follow from the seed."""
    feature, lag = seed % len(FEATURES), (seed + seed // 3) % (WINDOW - 2)
    prices = planted_prices(seed, feature, lag) if prices is None else prices
    values: dict[str, Any] = {
        "features": FEATURES,
        "window": WINDOW,
        "batch_size": 32,
        "targets": [ForwardReturn()],
        **arguments,
    }
    data = MarketDataModule(prices, split=FractionSplit(), cache=None, **values)
    seed_everything(seed, verbose=False)
    network = CNNLSTM(data.n_features, channels=[8], kernel_sizes=[3], lstm_hidden=8, attention_heads=2)
    n_targets = len(values["targets"])
    forecaster = Forecaster(network, objective, n_targets, lambda p: torch.optim.AdamW(p, lr=1e-2), linear=linear)
    small_trainer(max_epochs=epochs).fit(forecaster, datamodule=data)
    return Planted(Predictor(forecaster), data, prices, FEATURES[feature], lag)
