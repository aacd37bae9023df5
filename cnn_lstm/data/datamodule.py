"""The data of a trainer: windows of a price table, split by date, in Lightning's loaders."""

from __future__ import annotations

from cnn_lstm.data.loaders import WindowLoaders
from cnn_lstm.data.market_data import MarketData


class MarketDataModule(MarketData, WindowLoaders):
    """`MarketData` for a trainer, with the same arguments.

    Example:
        >>> MarketDataModule(window=30).n_targets
        1
    """
