"""How a network is written in each format, and how the file is run again.

Shapes: B windows, T window length, F features, H targets, D embedding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from cnn_lstm.inference.ensemble import Ensemble, combine, model_from
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster

MOST_WINDOWS = 1 << 16


class Exported(nn.Module):
    """What a file does: forecast columns and the embedding of raw windows, by name.

    Args:
        model: Trained forecaster, or an ensemble.
    """

    def __init__(self, model: Forecaster | Ensemble) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, window: Tensor) -> dict[str, Tensor]:
        """Columns (B, H) and `embedding` (B, D) of raw windows (B, T, F)."""
        members = self.model.forecasters if isinstance(self.model, Ensemble) else [self.model]
        embeddings = [member.encode(window) for member in members]
        parts = [member.decode(member.head(e), window) for member, e in zip(members, embeddings, strict=True)]
        columns = combine(parts, members[0].objective.classes) if isinstance(self.model, Ensemble) else parts[0]
        return columns | {"embedding": torch.cat(embeddings, dim=-1)}


Run = Callable[[Tensor], Mapping[str, Tensor]]
# of a network, an example of its windows (B, T, F) with B > 1, the content of the checkpoint, and the file
Write = Callable[[Exported, Tensor, Mapping[str, Any], Path], Run]


def onnx_writer() -> Write:
    """Writes a graph for ONNX Runtime, and returns what runs the file on the CPU.

    Raises:
        ModuleNotFoundError: If a part of the extra `export` is not installed.
    """
    import onnx  # noqa: F401 - torch needs both, and a missing one is reported before the work
    import onnxruntime
    import onnxscript  # noqa: F401

    def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
        with torch.no_grad():
            names = list(module(windows))
        program = torch.onnx.export(
            module,
            (windows,),
            input_names=["window"],
            output_names=names,
            dynamic_shapes={"window": {0: Dim("batch", min=1, max=MOST_WINDOWS)}},
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned nothing")
        program.save(str(path))
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

        def run(batch: Tensor) -> dict[str, Tensor]:
            outputs = session.run(names, {"window": batch.numpy()})
            return {name: torch.from_numpy(values) for name, values in zip(names, outputs, strict=True)}

        return run

    return write


def pt2_writer() -> Write:
    """Writes a graph that `torch.export.load` runs without this package, and returns what runs the file."""

    def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
        shapes = {"window": {0: Dim("batch", min=1, max=MOST_WINDOWS)}}
        program = torch.export.export(module, (windows,), dynamic_shapes=shapes, strict=False)
        with path.open("wb") as file:
            torch.export.save(program, file)
        with path.open("rb") as file:
            loaded = torch.export.load(file).module()
        return lambda batch: dict(loaded(batch))

    return write


def safetensors_writer() -> Write:
    """Writes weights and statistics without any code, and returns a model of what was read back.

    The tensors have the names of the checkpoint. The metadata hold `hyper_parameters` (class paths and arguments of
    network and objective) and `recipe` as JSON.

    Raises:
        ModuleNotFoundError: If the extra `export` is not installed.
    """
    from safetensors.torch import load_file, save_file

    def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
        parts = {"hyper_parameters": content["hyper_parameters"], "recipe": Contract.of(content).recipe}
        tensors: dict[str, Tensor] = {name: values.contiguous() for name, values in content["state_dict"].items()}
        save_file(tensors, path, metadata={name: json.dumps(part) for name, part in parts.items()})
        return Exported(model_from({**content, "state_dict": load_file(path)}))

    return write


WRITERS: dict[str, Callable[[], Write]] = {
    "onnx": onnx_writer,
    "pt2": pt2_writer,
    "safetensors": safetensors_writer,
}
