"""The MLflow record as a logger of Lightning's."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.training.tracking.record import Record


class MLflowTracker(Logger):
    """Passes what a trainer logs to a record.

    Args:
        record: The record.
    """

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.record.experiment

    @property
    def version(self) -> str:
        """Name of the run."""
        return self.record.run.path.resolve().name

    @property
    def save_dir(self) -> str:
        """The run folder, which Lightning takes as its log folder where this is the only logger."""
        return str(self.record.run.path)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Passes metrics on; the record keeps those of the main process."""
        self.record.log(metrics, 0 if step is None else step)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Passes parameters on."""
        self.record.params(vars(params) if isinstance(params, Namespace) else params)


class TrackedData(Callback):
    """Records what a fit is trained on, once the data module has read it.

    Args:
        record: The record.
        source: Class and arguments of the source, as the configuration says.
    """

    def __init__(self, record: Record, source: Mapping[str, Any]) -> None:
        self.record, self.source = record, source

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning calls this once the data module has read its data."""
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
        if isinstance(data, MarketDataModule):
            self.record.dataset(data, self.source)
