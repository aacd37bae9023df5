"""ONNX, for ONNX Runtime and whatever else reads it. Needs the extra `export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx  # noqa: F401 - torch needs both, and a missing one is told before the work
import onnxruntime
import onnxscript  # noqa: F401
import torch
from torch import Tensor
from torch.export import Dim

from cnn_lstm.inference.export import Exported, Run
from cnn_lstm.inference.export_pt2 import MOST_WINDOWS


def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
    """Writes the graph, and returns what runs the file in ONNX Runtime on the CPU."""
    with torch.no_grad():
        names = list(module(windows))
    found = torch.onnx.export(
        module,
        (windows,),
        input_names=["window"],
        output_names=names,
        dynamic_shapes={"window": {0: Dim("batch", min=1, max=MOST_WINDOWS)}},
        dynamo=True,
        verbose=False,
    )
    if found is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    found.save(str(path))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(batch: Tensor) -> dict[str, Tensor]:
        outputs = session.run(names, {"window": batch.numpy()})
        return {name: torch.from_numpy(values) for name, values in zip(names, outputs, strict=True)}

    return run
