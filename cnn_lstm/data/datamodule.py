"""The data of a trainer: windows of a price table, split by date, in Lightning's loaders."""

from __future__ import annotations

from cnn_lstm.data.loaders import WindowLoaders
from cnn_lstm.data.market_data import MarketData


class MarketDataModule(MarketData, WindowLoaders):
    """Windows of a price table, split by date.

    It has the arguments of `MarketData`, and the loaders of a trainer.

    Example:
        >>> MarketDataModule(window=30).n_targets
        1
    """
