"""Batches of windows for a trainer: which rows, in which order, on which device.

Shapes: T window length, F features, n rows.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from cnn_lstm.data.batches import Batch, FixedBatches, RowBatches, WindowDataset, make_loader
from cnn_lstm.data.parts import FitOn, Order, SplitRows
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.strides import Strides
from cnn_lstm.data.windows import CHUNK_BYTES, Panel
from cnn_lstm.errors import require


class WindowLoaders(LightningDataModule, ABC):
    """A data module whose batches are windows of a panel.

    Attributes:
        panel: Features and labels of all rows; known after `setup`.
        parts: Rows of the parts of the split; known after `setup`.
        recipe: How windows are made.
        batch_size: Windows in a batch of one process.
        panel_device: `auto` puts the panel on the accelerator when it fits, `cpu` never does.
        train_stride: Each training epoch takes every n-th training row of each symbol.
        fit_on: Rows that a model is fitted on.
        order: Order of the windows in a training epoch.
    """

    panel: Panel
    parts: SplitRows
    recipe: Recipe
    batch_size: int
    panel_device: Literal["auto", "cpu"]
    train_stride: int
    fit_on: FitOn
    order: Order
    _placed: tuple[Panel, WindowDataset] | None = None

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A batch on the device; one that was cut there is left as it is, and so costs no time."""
        if isinstance(batch, Batch) and batch.x.device == batch.y.device == batch.row.device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    @property
    @abstractmethod
    def fit_rows(self) -> Rows:
        """Rows that a model and its statistics are fitted on, (n,)."""

    @abstractmethod
    def rows_to_predict(self) -> Rows:
        """Rows that `predict` forecasts, (n,), also those whose label is not known yet."""

    def windows_of(self, part: Literal["train", "validation"], most: int) -> Iterator[Batch]:
        """Labelled windows of a part, in chunks of at most 32 MiB, to spare memory.

        Args:
            part: Which part of the split.
            most: Number of windows at most; they are spread evenly over the part's rows.
        """
        rows: Rows = getattr(self.parts, part)
        chosen = torch.from_numpy(rows[evenly_spread(len(rows), most, down=True)])
        dataset = WindowDataset(self.panel.values, self.panel.labels, self.recipe.window)
        size = max(1, CHUNK_BYTES // (4 * self.recipe.window * len(self.recipe.features)))
        return (dataset[piece] for piece in chosen.split(size))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the rows that a model is fitted on."""
        rows = self.fit_rows
        strides = Strides(self.panel.symbol[rows], self.train_stride) if self.train_stride > 1 else None
        return self._loader(rows, shuffle=True, strides=strides)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation part, in order; none in a final fit, which has trained on them.

        Raises:
            ConfigError: If they are to validate a final model.
        """
        command = self.trainer.state.fn if self.trainer else None
        final = self.fit_on == "train_and_validation"
        what = "the validation part belongs to what the final model was fitted on"
        require(not (final and command == "validate"), what, "data.fit_on", "judge it on the test part")
        if final and command == "fit":
            return []  # type: ignore[return-value]  # what Lightning takes as no validation
        return self._loader(self.parts.validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test part, in order."""
        return self._loader(self.parts.test)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of the rows to forecast, in order."""
        return self._loader(self.rows_to_predict())

    def _loader(self, rows: Rows, shuffle: bool = False, strides: Strides | None = None) -> DataLoader[Batch]:
        dataset = self._dataset()
        # without a trainer, as where a script passes a loader on, the process group says it
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (None, None)
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        batches = RowBatches(rows, self.batch_size, shuffle, seed, rank, world, strides, self.order == "blocks")
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]  # set by Lightning's connectors
            return FixedBatches(dataset, batches)  # type: ignore[return-value]  # Lightning takes any iterable
        return make_loader(dataset, batches)

    def _dataset(self) -> WindowDataset:
        """Windows of the panel, which is moved to its device once for all loaders."""
        device = self._device()
        if self._placed is None or self._placed[0] is not self.panel or self._placed[1].values.device != device:
            values, labels = self.panel.values.to(device), self.panel.labels.to(device)
            self._placed = self.panel, WindowDataset(values, labels, self.recipe.window)
        return self._placed[1]

    def _device(self) -> torch.device:
        """The accelerator if the panel takes at most half of its free memory, else the CPU."""
        root = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self.panel_device == "cpu" or root.type != "cuda":
            return torch.device("cpu")
        free, _ = torch.cuda.mem_get_info(root)
        return root if self.panel.values.nbytes < free / 2 else torch.device("cpu")
