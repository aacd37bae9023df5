"""How long the checkpoints of a fit may forecast: `expires` in their contract."""

from __future__ import annotations

import re
from dataclasses import replace

from lightning.pytorch import Callback, LightningModule, Trainer

from cnn_lstm.data.durations import Duration
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.times import Times
from cnn_lstm.model.forecaster import Forecaster

KEY = "expires"


def expiry(text: str, grid: Times) -> str:
    """The first moment that is not to be forecast any more, ISO, UTC.

    Args:
        text: A day, or how long after the last bar, such as `6mo`.
        grid: Distinct ascending timestamps of the prices, (n,), at least one.

    Raises:
        ConfigError: E236, if the text is neither.

    Example:
        >>> import numpy as np
        >>> expiry("6mo", np.array(["2011-03-31"], dtype="datetime64[us]"))
        '2011-09-30T00:00:00.000000'
    """
    if re.match(r"\d{4}-", text):
        return str(stamp(text, KEY))
    return str(Duration.parse(text, KEY).beyond(grid[-1], grid))


class Expiry(Callback):
    """Writes into the contract of a fit when its checkpoints expire.

    Args:
        expires: As for `expiry`.

    Raises:
        ConfigError: E236, if it can be neither a day nor a span.
    """

    def __init__(self, expires: str) -> None:
        if re.match(r"\d{4}-", expires):
            stamp(expires, KEY)
        else:
            Duration.parse(expires, KEY)
        self.expires = expires

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets it, once the data is read; that of a checkpoint that the fit goes on from is replaced."""
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
        if isinstance(pl_module, Forecaster) and isinstance(data, MarketData):
            pl_module.contract = replace(pl_module.contract, expires=expiry(self.expires, data.times))
