"""CNN+LSTM+attention forecasting of market sequences, judged honestly.

The public names are imported on first use, so that `import cnn_lstm` and the command line stay quick; nothing
inside the package imports from here.
"""

from __future__ import annotations

import importlib
from typing import Any

from cnn_lstm.specs import trust

__version__ = "0.2.0"

_HOMES = {
    "Forecaster": "cnn_lstm.model.forecaster",
    "MarketDataModule": "cnn_lstm.data.datamodule",
    "Model": "cnn_lstm.notebook.model",
    "Predictor": "cnn_lstm.inference.predictor",
    "TestReport": "cnn_lstm.notebook.report",
    "audit": "cnn_lstm.notebook.several",
    "cross_validate": "cnn_lstm.notebook.several",
    "evaluate": "cnn_lstm.evaluation.report",
    "explain": "cnn_lstm.evaluation.explanation.explain",
    "explain_forecast": "cnn_lstm.evaluation.explanation.explain",
    "fit": "cnn_lstm.notebook.model",
    "forecast_frame": "cnn_lstm.evaluation.portfolio",
    "from_yaml": "cnn_lstm.notebook.experiment",
    "judge": "cnn_lstm.notebook.judging",
    "repeat": "cnn_lstm.notebook.several",
    "roll": "cnn_lstm.notebook.rolling",
    "rl_sweep": "cnn_lstm.notebook.several",
    "strategy_returns": "cnn_lstm.evaluation.portfolio",
    "sweep": "cnn_lstm.notebook.several",
    "to_yaml": "cnn_lstm.notebook.experiment",
    "verdict": "cnn_lstm.notebook.report",
    "walk_forward": "cnn_lstm.notebook.several",
}
# classes that a YAML may name stay in their modules: the parser writes the shortest path that leads to a class
_MODULES = {
    "objectives": "cnn_lstm.model.objectives",
    "side_tables": "cnn_lstm.data.side_tables",
    "sources": "cnn_lstm.data.sources",
    "splits": "cnn_lstm.data.splits",
    "targets": "cnn_lstm.data.targets",
}
__all__ = [*_HOMES, *_MODULES, "trust"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'cnn_lstm' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("cnn_lstm"):
            raise
        text = f"cnn_lstm.{name} needs {error.name}, which is not installed: pip install cnn-lstm"
        raise ModuleNotFoundError(text, name=error.name) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
