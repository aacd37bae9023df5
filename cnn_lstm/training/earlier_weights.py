"""A warm start: a fit that begins with the weights of an earlier one, on data that have grown since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cnn_lstm.model.checkpoints import read_checkpoint, require_single
from cnn_lstm.model.contract import Contract, refuse_differences
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.averaging import averageable
from cnn_lstm.training.run_folder import require_same_model

KEY = "weights_from"
LINE = "linear."  # the line through the training windows is fitted again


def check_earlier_weights(config: Namespace, defaults: Mapping[str, dict[str, Any]]) -> None:
    """Refuses weights of another model, before any data is read.

    Args:
        config: The configuration of `fit`.
        defaults: Spec of each class that a configuration may leave out, by its key.

    Raises:
        CheckpointError: If the checkpoint cannot be read, is an ensemble, or is that of another network or objective.
    """
    path = config.get(KEY)
    if path is not None:
        checkpoint = read_checkpoint(path)
        require_single(checkpoint, path)
        require_same_model(checkpoint, config.model, dict(defaults))


class EarlierWeights(Callback):
    """Puts the weights of a checkpoint into the network before the first step of a new fit.

    Scales, class weights and the line through the training windows are those of the new training rows: they are
    statistics, and a few old ones would be wrong. A fit that is resumed has its own weights already. The starting
    line, where it is a candidate, is measured before, as of a fit without earlier weights.

    Args:
        checkpoint: Checkpoint of the earlier fit.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copies them, once; `StartingLine` has looked at the model in `on_train_start`.

        Raises:
            CheckpointError: E436, if the checkpoint reads other features or is about other targets.
        """
        if trainer.global_step > 0 or trainer.current_epoch > 0 or not isinstance(pl_module, Forecaster):
            return
        content = read_checkpoint(self.checkpoint)
        refuse_differences(Contract.of(content).recipe, pl_module.contract.recipe)
        copy_weights(content["state_dict"], pl_module)


@torch.no_grad()
def copy_weights(state: Mapping[str, Tensor], forecaster: Forecaster) -> None:
    """Copies weights and the running statistics of batch normalisation, but for the line.

    What has another shape, such as a table of categories that has grown, keeps its own values.

    Args:
        state: Weights by name.
        forecaster: A forecaster of the same classes.
    """
    for name, target in averageable(forecaster).items():
        if not name.startswith(LINE) and name in state and state[name].shape == target.shape:
            target.copy_(state[name])
