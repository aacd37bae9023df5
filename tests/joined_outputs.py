"""What each of some processes holds after they have joined their forecasts; see test_distributed.py."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from torchmetrics.utilities.distributed import gather_all_tensors

from cnn_lstm.model import outputs
from cnn_lstm.model.outputs import EpochOutputs


def joined(rank: int, folder: Path, processes: int, rows: int) -> None:
    """Joins the forecasts of `rows` rows, of which this process has every so many-th one, and writes what it got.

    Args:
        rank: Number of this process.
        folder: Where the processes meet, and write; the forecasts wait in its folder `kept`.
        processes: Number of processes.
        rows: Rows of all of them.
    """
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=processes)
    epoch = EpochOutputs(folder / "kept")
    with (
        patch.object(outputs, "KEPT_BYTES", 2000),
        patch.object(outputs, "GATHERED_ROWS", 100),
        patch.object(outputs, "gather_all_tensors", wraps=gather_all_tensors) as sent,
        patch.object(outputs, "_ColumnFile", wraps=outputs._ColumnFile) as files,
    ):
        for batch in torch.arange(rank, rows, processes).split(16):
            epoch.add(row=batch, y_pred=batch[:, None] / 7)
        found = epoch.gather(processes)
    assert max(len(call.args[0]) for call in sent.call_args_list) == 100
    assert files.call_count == 4  # two columns of this process, and two of all
    torch.save({name: values.clone() for name, values in found.items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()
