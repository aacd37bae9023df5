"""Materials of small synthetic markets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import Target
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from tests.markets import TableSource

FEATURES = ["log_return_1", "log_return_5", "close_location"]


def inputs_of(table: pd.DataFrame, *targets: Target, **arguments: Any) -> BaselineInputs:
    """The inputs of a data module with windows of 6 rows."""
    values: dict[str, Any] = {"features": FEATURES, "window": 6, "source": TableSource(table), **arguments}
    data = MarketDataModule(targets=list(targets), **values)
    data.setup()
    return BaselineInputs.of(data)


def with_other_future(inputs: BaselineInputs, seed: int = 0) -> BaselineInputs:
    """The same up to the last row that a training or validation label touches; noise behind it."""
    panel, random = inputs.panel, np.random.default_rng(seed)
    later = torch.from_numpy(panel.time >= inputs.parts.boundaries.test)
    values, labels, present = panel.values.clone(), panel.labels.clone(), panel.present.clone()
    for table in (values, labels, present):
        noise = torch.from_numpy(random.normal(5, 100, table.shape)).float()
        table[later] = noise[later]
    if inputs.targets[0].classes:
        labels[later] = 0.0
        present[later] = 1.0
    assert inputs.prices is not None
    prices = inputs.prices.copy()
    for column in ("open", "high", "low", "close"):
        prices.loc[later.numpy(), column] = random.uniform(1, 1000, int(later.sum()))
    time = panel.time.copy()
    time[later.numpy()] = np.datetime64("2034-01-01") + np.arange(int(later.sum()))  # microseconds of a Sunday
    tests = replace(inputs.parts, test=inputs.parts.test[:1])
    changed = replace(panel, values=values, labels=labels, present=present, time=time)
    return replace(inputs, panel=changed, prices=prices, parts=tests)


def flat_windows(inputs: BaselineInputs, rows: np.ndarray) -> np.ndarray:
    """Standardised windows, cut and scaled one by one with NumPy, (n, T * F) float64."""
    values = inputs.panel.values.double().numpy()
    statistics = inputs.statistics
    anchored, loc, scale = (
        tensor.double().numpy() for tensor in (statistics.x_anchored, statistics.x_loc, statistics.x_scale)
    )
    windows = [values[row - inputs.window + 1 : row + 1] for row in rows]
    return np.stack([((window - anchored * window[-1] - loc) / scale).ravel() for window in windows])


def r2(truth: np.ndarray, forecast: np.ndarray) -> float:
    """Share of the variance explained."""
    return 1 - float(((truth - forecast) ** 2).mean() / truth.var())
