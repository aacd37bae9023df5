"""Forecasts of an epoch, kept where they were made and joined once at its end.

Shapes: B windows of a batch, H targets, n windows of the epoch.
"""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from cnn_lstm.errors import ConfigError, require
from cnn_lstm.files import disk_errors_in_one_line
from cnn_lstm.model.training_data import ForecastData

KEPT_BYTES = 32 * 2**20
GATHERED_ROWS = 65_536  # of each process, that are sent to the others at a time


class EpochOutputs:
    """Columns of tensors, one entry per batch.

    Args:
        folder: Where columns of more than `KEPT_BYTES` wait as files without a name, which go with the process; None
            keeps all in memory.

    Example:
        >>> outputs = EpochOutputs()
        >>> outputs.add(row=torch.tensor([2, 1]), y_pred=torch.tensor([[0.2], [0.1]]))
        >>> outputs.gather()["y_pred"].squeeze(1).tolist()
        [0.10000000149011612, 0.20000000298023224]
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder, self._bytes, self._device = folder, 0, torch.device("cpu")
        self._columns: dict[str, list[Tensor]] = {}
        self._files: dict[str, _ColumnFile] = {}

    def add(self, **columns: Tensor) -> None:
        """Keeps one batch: columns of shape (B,) or (B, H), of one B."""
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)
            self._bytes, self._device = self._bytes + values.nbytes, values.device
        if self._folder is not None and self._bytes > KEPT_BYTES:
            self._put_away(self._folder)

    def gather(self, world_size: int = 1) -> dict[str, Tensor]:
        """All batches of all processes on the CPU, (n,) or (n, H), ordered by the column `row`, (n,).

        Columns that were put away are mapped from their files: what is not looked at takes no memory.

        Args:
            world_size: Number of processes; more than one makes this a collective call.
        """
        if not self._columns and not self._files:
            raise ConfigError("no batch was seen", "trainer.limit_*_batches", "allow at least one", code=224)
        joined = self._own() if world_size == 1 else self._of_all()
        rows = joined["row"]
        if bool((rows[1:] >= rows[:-1]).all()):  # as one process makes them
            return {name: values.cpu() for name, values in joined.items()}
        order = rows.argsort(stable=True)
        return {name: values[order].cpu() for name, values in joined.items()}

    def _own(self) -> dict[str, Tensor]:
        """All batches of this process, in their order."""
        if self._files and self._folder is not None:
            self._put_away(self._folder)
            return {name: file.mapped() for name, file in self._files.items()}
        return {name: torch.cat(parts) for name, parts in self._columns.items()}

    def _of_all(self) -> dict[str, Tensor]:
        """All batches of all processes, which send each other some rows at a time: large columns wait in files.

        Processes that take turns with the rows of a part, as they do in `test` and `predict`, have the next rows of it
        at the same time, so that columns which are sorted piece by piece are sorted.
        """
        own, device = self._own(), self._device
        counts = gather_all_tensors(torch.tensor([len(own["row"])], device=device))
        joined = EpochOutputs(self._folder)
        for start in range(0, max(1, *map(int, counts)), GATHERED_ROWS):
            pieces = {name: values[start : start + GATHERED_ROWS].to(device) for name, values in own.items()}
            piece = {name: torch.cat(gather_all_tensors(values.contiguous())) for name, values in pieces.items()}
            order = piece["row"].argsort(stable=True)
            joined.add(**{name: values[order] for name, values in piece.items()})
        return joined._own()

    def _put_away(self, folder: Path) -> None:
        """Moves all batches to the files."""
        with disk_errors_in_one_line("cannot keep the forecasts", folder, "make room, or choose another folder"):
            for name, parts in self._columns.items():
                if name not in self._files:
                    self._files[name] = _ColumnFile(folder)
                if parts:
                    self._files[name].add(torch.cat(parts).cpu())
        self._columns, self._bytes = {}, 0


class _ColumnFile:
    """A column in a file that has no name: nothing is left of it when the process ends, whatever ends it.

    Args:
        folder: Where its blocks lie.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this object
        weakref.finalize(self, self._file.close)
        self._kind: np.dtype[Any] = np.dtype(np.float32)
        self._shape: tuple[int, ...] = ()
        self._rows = 0

    def add(self, values: Tensor) -> None:
        """Adds rows, on the CPU."""
        array = np.ascontiguousarray(values.numpy())
        self._file.write(array.tobytes())
        self._kind, self._shape = array.dtype, array.shape[1:]
        self._rows += len(array)

    def mapped(self) -> Tensor:
        """All rows."""
        self._file.flush()
        if not self._rows:
            return torch.from_numpy(np.empty((0, *self._shape), dtype=self._kind))
        shape = (self._rows, *self._shape)
        return torch.from_numpy(np.memmap(self._file, dtype=self._kind, mode="r+", shape=shape))


def outputs_of(trainer: Trainer) -> EpochOutputs:
    """Empty outputs of a `test` or `predict`, whose columns wait in the run folder if they are large.

    Args:
        trainer: The trainer; its root folder is that of the run.
    """
    folder = Path(trainer.default_root_dir)
    return EpochOutputs(folder if folder.is_dir() else None)


def data_of(trainer: Trainer) -> ForecastData:
    """The data module of a trainer.

    Lightning's connectors set it on the trainer, whose class does not declare it.

    Args:
        trainer: The trainer.

    Raises:
        ConfigError: E287, if there is none, as where loaders alone are given, or it is of another kind.
    """
    data: Any = getattr(trainer, "datamodule", None)
    what = "the trainer has loaders alone" if data is None else f"the data module is a {type(data).__name__}"
    call = trainer.state.fn.value if trainer.state.fn else "fit"
    fix = f"call trainer.{call}(forecaster, datamodule=MarketDataModule(...)); it knows scales, dates and targets"
    known = all(hasattr(data, name) for name in ("contract", "keep_dates", "statistics_of"))
    require(data is not None and known, what, "Forecaster", fix, code=287)
    module: ForecastData = data
    return module
