"""A checkpoint as one file for other programs: raw windows in, forecasts and embedding out, statistics inside.

Shapes: B windows, T window length, F features, H targets, D embedding.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.errors import CheckpointError, ConfigError, ResourceError
from cnn_lstm.files import write_text_whole, write_whole
from cnn_lstm.inference.ensemble import Ensemble, model_from
from cnn_lstm.inference.export_formats import WRITERS, Exported, Run, Write
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster

Format = Literal["onnx", "pt2", "safetensors"]
FORMATS = tuple(WRITERS)
BATCHES = (1, 2, 7)
TOLERANCE = 1e-5
SEED = 0


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: The file.
        description: The JSON next to it.
        differences: Largest difference to eager, of each batch size that was tried; see `export`.
    """

    path: Path
    description: Path
    differences: dict[int, float]


def export(checkpoint: str | Path, output: str | Path | None = None, format: Format = "onnx") -> Export:
    """Writes a checkpoint for other programs, once it is seen to give eager's forecasts.

    The file is loaded again by its own runtime and compared with the network on random windows of 1, 2 and 7. A
    difference is absolute where a value lies below 1, and relative above.

    Args:
        checkpoint: Written by `fit`, or an ensemble.
        output: The file; that of the checkpoint with another ending by default. The JSON is named FILE.json.
        format: `onnx`, `pt2` (torch.export) or `safetensors` (weights and statistics alone).

    Raises:
        CheckpointError: If the checkpoint is damaged, the network cannot be exported, or the file does not agree with
            it to 1e-5; then nothing is written.
        ConfigError: If the format is unknown or not that of the file's ending, or what it needs is not installed.
        ResourceError: If the file cannot be written.

    Example:
        >>> export("runs/quickstart/checkpoints/best.ckpt").differences  # doctest: +SKIP
        {1: 4.8e-07, 2: 7.2e-07, 7: 9.5e-07}
    """
    write = _writer(format)
    if output is not None:
        _require_place(Path(output), format)
    content = read_checkpoint(checkpoint)
    model = model_from(content)
    recipe = Recipe.from_plain(model.contract.recipe)
    module, path = Exported(model), Path(output) if output is not None else Path(checkpoint).with_suffix(f".{format}")
    windows = {size: _random_windows(model, recipe.window, size) for size in BATCHES}
    differences: dict[int, float] = {}

    def written(partial: Path) -> None:
        run = _written(write, module, windows[BATCHES[-1]], content, partial)
        differences.update({size: difference(module, run, batch) for size, batch in windows.items()})
        _require_equal(differences, path)

    write_whole(path, written)
    with torch.no_grad():
        outputs = module(windows[1])
    description = _description(model.contract, recipe, outputs) | {
        "format": format,
        "checkpoint": {"name": Path(checkpoint).name, "sha256": _sha256(Path(checkpoint))},
        "largest difference to eager": {str(size): value for size, value in differences.items()},
        "tolerance": TOLERANCE,
    }
    described = path.with_name(f"{path.name}.json")
    write_text_whole(described, json.dumps(description, indent=2) + "\n")
    return Export(path, described, differences)


def _written(write: Write, module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
    try:
        with _without_hints():
            return write(module, windows, content, path)
    except OSError:
        raise
    except Exception as error:  # exporters fail in many ways over a network of the user's own
        lines = str(error).strip().splitlines() or [""]
        what = "the network cannot be exported"
        raise CheckpointError(
            what, f"{type(error).__name__}: {lines[0]}", "try another format, or --debug", code=413
        ) from error


def difference(module: nn.Module, run: Run, windows: Tensor) -> float:
    """Largest difference of a written file to the network, relative where a value is above 1.

    Args:
        module: The network.
        run: Runs the file.
        windows: Raw windows, (B, T, F).
    """
    with torch.no_grad():
        wanted, outputs = module(windows), run(windows)
    if list(wanted) != list(outputs) or any(outputs[name].shape != wanted[name].shape for name in wanted):
        return float("inf")
    parts = [
        (outputs[name].double() - values.double()).abs() / values.double().abs().clamp(min=1.0)
        for name, values in wanted.items()
    ]
    return max(float(part.max()) for part in parts)


def _writer(format: str) -> Write:
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", "export", f"one of {', '.join(FORMATS)}", code=257)
    try:
        return WRITERS[format]()
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed"
        raise ConfigError(what, f"export to {format}", 'pip install "cnn_lstm[export]"', code=256) from error


def _require_place(path: Path, format: str) -> None:
    """Refuses a file that would be named as another format, or whose folder is not there, before any work is done."""
    if path.suffix.lower() not in ("", f".{format}"):
        raise ConfigError(f"{path.name} is not a name of format {format}", str(path), f"end it in .{format}", code=257)
    if not path.parent.is_dir():
        raise ResourceError("cannot write the file", f"{path}: no such folder", "make the folder first", code=606)


def _random_windows(model: Forecaster | Ensemble, length: int, size: int) -> Tensor:
    """Windows (B, T, F) as the training had them: their location and scale, but independent normal values."""
    member = model.forecasters[0] if isinstance(model, Ensemble) else model
    standardize = member.network.standardize
    random = torch.Generator().manual_seed(SEED + size)
    scale = torch.where(standardize.scale.isfinite(), standardize.scale, 0.0)
    return standardize.loc + scale * torch.randn(size, length, len(scale), generator=random)


def _require_equal(differences: Mapping[int, float], path: Path) -> None:
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= TOLERANCE:
        raise CheckpointError(
            f"the export does not agree with the network: {differences[worst]:.1e} above {TOLERANCE:.0e}",
            f"{path}, batch of {worst}",
            "nothing was written; report it with the configuration of the network",
            code=412,
        )


def _description(contract: Contract, recipe: Recipe, outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    targets = [{"name": target.name, **TargetInfo.of(target).to_plain()} for target in recipe.build_targets()]
    units = {name: "embedding" if name == "embedding" else _unit(name, targets) for name in outputs}
    return {
        "input": {"name": "window", "shape": ["batch", recipe.window, len(recipe.features)], "type": "float32"},
        "features": list(recipe.features),
        "window": recipe.window,
        "targets": targets,
        "outputs": [
            {"name": name, "shape": ["batch", *values.shape[1:]], "type": str(values.dtype)[6:], "unit": units[name]}
            for name, values in outputs.items()
        ],
        "training": asdict(contract.training) if contract.training else None,
        "versions": {name: version(name) for name in ("cnn-lstm", "torch")},
    }


def _unit(column: str, targets: list[dict[str, Any]]) -> list[str]:
    """Unit of each target's value in a column."""
    classes = bool(targets[0]["classes"])
    return ["probability" if classes and column != "y_pred" else str(target["unit"]) for target in targets]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _without_hints() -> Iterator[None]:
    """Mutes the hints of the exporters, which are for people who write networks."""
    names = ("torch.onnx", "torch.onnx._internal.exporter._registration")
    with warnings.catch_warnings(), muted_warnings(*names):
        warnings.simplefilter("ignore")
        yield
