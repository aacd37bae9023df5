"""The settings of a fit for loggers that the user has named: the same parameters that the MLflow record keeps."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from cnn_lstm.training.console import ConsoleLogger
from cnn_lstm.training.loggers import AppendingCSVLogger, MLflowTracker
from cnn_lstm.training.tracking.identity import hyperparameters

log = logging.getLogger(__name__)
# they have the settings from elsewhere: the record, the HPARAMS tab of `TensorBoardPlots`, config.yaml
INFORMED = (MLflowTracker, TensorBoardLogger, AppendingCSVLogger, ConsoleLogger)


class SettingsOfRun(Callback):
    """Gives each of the user's loggers every value of the configuration, once, when the training starts.

    A logger that refuses them gets none, with a warning: Lightning's own cuts long values, or refuses other ones.

    Args:
        config: The configuration as YAML text, without credentials.
    """

    def __init__(self, config: str) -> None:
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning calls this on every process; the first one logs."""
        if not trainer.is_global_zero:
            return
        params = hyperparameters(self.config)
        for logger in trainer.loggers:
            if not isinstance(logger, INFORMED):
                _give(logger, params)


def _give(logger: Logger, params: Mapping[str, int | float | str]) -> None:
    try:
        logger.log_hyperparams(dict(params))
    except Exception as error:  # any class of the user, and any server
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        log.warning("%s without the settings of the run: %s", type(logger).__name__, reason[:300])
