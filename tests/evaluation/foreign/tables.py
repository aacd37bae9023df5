"""Forecasts of a seeded market, in the form of each library."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.targets import ForwardReturn, Target
from tests.markets import TableSource, market

FEATURES = ["log_return_1", "log_return_5"]
FIRST = 200  # row of a symbol with the first forecast


def prices(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """Random walks of two symbols on the same days."""
    return market(rows, ("AAA", "BBB"), seed, gaps=False)


def data_of(table: pd.DataFrame, target: Target | None = None) -> MarketData:
    """Data to judge on."""
    targets: list[Target] = [target or ForwardReturn(horizon=2, delay=1)]
    return MarketData(TableSource(table), features=FEATURES, targets=targets, window=5)


def forecasts(table: pd.DataFrame, seed: int = 1, first: int = FIRST) -> pd.DataFrame:
    """symbol, as_of, y_pred: noise, from one row of each symbol on."""
    late = table[table.groupby("symbol").cumcount() >= first]
    noise = np.random.default_rng(seed).normal(0, 0.005, len(late))
    return pd.DataFrame({"symbol": late["symbol"], "as_of": late["timestamp"], "y_pred": noise}).reset_index(drop=True)


def ended(table: pd.DataFrame, given: pd.DataFrame, reach: int = 3) -> pd.DataFrame:
    """The forecasts whose label has ended, with `target_end`, the bar of its end."""
    ends = table.groupby("symbol")["timestamp"].shift(-reach)
    ends.index = pd.MultiIndex.from_frame(table[["symbol", "timestamp"]])
    keys = pd.MultiIndex.from_frame(given[["symbol", "as_of"]])
    return given.assign(target_end=ends.reindex(keys).to_numpy()).dropna(subset="target_end")
