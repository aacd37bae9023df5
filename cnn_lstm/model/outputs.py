"""Forecasts of an epoch, kept where they were made and joined once at its end."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from cnn_lstm.errors import ConfigError


class EpochOutputs:
    """Columns of tensors, one entry per batch.

    Example:
        >>> outputs = EpochOutputs()
        >>> outputs.add(row=torch.tensor([2, 1]), y_pred=torch.tensor([[0.2], [0.1]]))
        >>> outputs.gather()["y_pred"].squeeze(1).tolist()
        [0.10000000149011612, 0.20000000298023224]
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[Tensor]] = {}

    def add(self, **columns: Tensor) -> None:
        """Keeps one batch: columns of shape (B,) or (B, H), of one B."""
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def gather(self, world_size: int = 1) -> dict[str, Tensor]:
        """All batches of all processes on the CPU, (n,) or (n, H), ordered by the column `row`, (n,).

        Args:
            world_size: Number of processes; more than one makes this a collective call.
        """
        if not self._columns:
            raise ConfigError("no batch was seen", "trainer.limit_*_batches", "allow at least one", code=224)
        joined = {name: torch.cat(parts) for name, parts in self._columns.items()}
        if world_size > 1:
            joined = {name: torch.cat(gather_all_tensors(values.contiguous())) for name, values in joined.items()}
        order = joined["row"].argsort(stable=True)
        return {name: values[order].cpu() for name, values in joined.items()}
