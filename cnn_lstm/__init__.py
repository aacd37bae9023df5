"""CNN+LSTM+attention forecasting of market sequences, judged honestly.

The public names are imported on first use, so that `import cnn_lstm` and the command line stay quick; nothing
inside the package imports from here.
"""

from __future__ import annotations

import importlib
from typing import Any

from cnn_lstm.specs import trust

__version__ = "0.1.0"

_HOMES = {
    "Forecaster": "cnn_lstm.model.forecaster",
    "MarketDataModule": "cnn_lstm.data.datamodule",
    "Predictor": "cnn_lstm.inference.predictor",
}
__all__ = ["Forecaster", "MarketDataModule", "Predictor", "trust"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cnn_lstm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
