"""The settings of a fit that a comparison of runs needs."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.model.forecaster import Forecaster


def hyperparameters(module: Forecaster, trainer: Trainer) -> dict[str, int | float | str]:
    """The settings of a fit, as numbers and strings by dotted name.

    Args:
        module: The forecaster of a running fit.
        trainer: Its trainer.
    """
    optimizer = trainer.optimizers[0]
    values: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    for name in ("lr", "weight_decay"):
        if name in optimizer.defaults:
            values[name] = float(optimizer.defaults[name])
    for name, part in (("network", module.network), ("objective", module.objective)):
        spec = part.spec()
        values[name] = spec["class_path"].rpartition(".")[2]
        values |= {f"{name}.{key}": value for key, value in spec["init_args"].items()}
    if (data := data_of(trainer)) is not None:
        values |= {
            "window": data.recipe.window,
            "batch_size": data.batch_size,
            "targets": [target.name for target in data.targets],
            "features": data.n_features,
            "symbols": len(data.panel.symbols),
        }
    return {name: _cell(value) for name, value in values.items()}


def _cell(value: Any) -> int | float | str:
    """A value as the HPARAMS tab can show it: by itself the tab turns true into 1 and leaves out None."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return ", ".join(str(_cell(item)) for item in value) or "none"
    return value if isinstance(value, int | float) else str(value)


def data_of(trainer: Trainer) -> MarketDataModule | None:
    """The data module of a trainer; None if it is not a `MarketDataModule`.

    Args:
        trainer: The trainer.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
    return data if isinstance(data, MarketDataModule) else None
