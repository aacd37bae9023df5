"""torch.export: a graph that `torch.export.load` runs without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from cnn_lstm.inference.export import Exported, Run

MOST_WINDOWS = 1 << 16


def program(module: Exported, windows: Tensor) -> ExportedProgram:
    """The graph of a network, for any number of windows.

    Args:
        module: The network.
        windows: An example, (B, T, F), B > 1.
    """
    batch = Dim("batch", min=1, max=MOST_WINDOWS)
    return torch.export.export(module, (windows,), dynamic_shapes={"window": {0: batch}}, strict=False)


def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
    """Writes the graph, and returns what runs the file."""
    with path.open("wb") as file:
        torch.export.save(program(module, windows), file)
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()
    return lambda batch: dict(loaded(batch))
