"""A checkpoint as one file for other programs: raw windows in, forecasts and embedding out, statistics inside.

Shapes: B windows, T window length, F features, H targets, D embedding.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim

from cnn_lstm.bounded import with_checksum
from cnn_lstm.data.muted_warnings import muted
from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.static_columns import static_names
from cnn_lstm.data.symbol_codes import code_of
from cnn_lstm.errors import CheckpointError, ConfigError, ResourceError, require
from cnn_lstm.files import write_text_whole, write_whole
from cnn_lstm.inference.ensemble import Ensemble, combine, model_from
from cnn_lstm.inference.exported import described_by
from cnn_lstm.locks import take_file
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecast_model import ForecastModel

Format = Literal["onnx", "pt2", "safetensors"]
SHAPES = {"window": {0: Dim("batch", min=1, max=1 << 16)}}
BATCHES = (1, 2, 7)
TOLERANCE = 1e-5
SEED = 0


# -- how each format is written, and how the file is run again ---------------------------------------------------------


class Exported(nn.Module):
    """What a file does: forecast columns and the embedding of raw windows, by name.

    Args:
        model: Trained forecaster, or an ensemble.
    """

    def __init__(self, model: ForecastModel | Ensemble) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, window: Tensor) -> dict[str, Tensor]:
        """Columns (B, H) and `embedding` (B, D) of raw windows (B, T, F)."""
        members = self.model.forecasters if isinstance(self.model, Ensemble) else [self.model]
        forecasts = [member.columns(window) for member in members]
        parts = [forecast.columns for forecast in forecasts]
        columns = combine(parts, members[0].objective.classes) if isinstance(self.model, Ensemble) else parts[0]
        return columns | {"embedding": torch.cat([forecast.embedding for forecast in forecasts], dim=-1)}


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
    import onnxscript  # noqa: F401 - as onnx

    def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
        with torch.no_grad():
            names = list(module(windows))
        program = torch.onnx.export(
            module,
            (windows,),
            input_names=["window"],
            output_names=names,
            dynamic_shapes=SHAPES,
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
        program = torch.export.export(module, (windows,), dynamic_shapes=SHAPES, strict=False)
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


WRITERS: dict[str, Callable[[], Write]] = {"onnx": onnx_writer, "pt2": pt2_writer, "safetensors": safetensors_writer}
FORMATS = tuple(WRITERS)


# -- the export --------------------------------------------------------------------------------------------------------


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
        ConfigError: If the format is unknown or not that of the file's ending, what it needs is not installed, or
            another process writes the file (E288).
        ResourceError: If the file cannot be written.

    Example:
        >>> export("runs/quickstart/checkpoints/best.ckpt").differences  # doctest: +SKIP
        {1: 4.8e-07, 2: 7.2e-07, 7: 9.5e-07}
    """
    write = _writer(format)
    path = Path(output) if output is not None else Path(checkpoint).with_suffix(f".{format}")
    # before any work is done: a file that would be named as another format, or whose folder is not there
    fits = path.suffix.lower() in ("", f".{format}")
    require(fits, f"{path.name} is not a name of format {format}", str(path), f"end it in .{format}", code=257)
    if output is not None and not path.parent.is_dir():
        raise ResourceError("cannot write the file", f"{path}: no such folder", "make the folder first", code=606)
    content = read_checkpoint(checkpoint)
    model = model_from(content)
    recipe = Recipe.from_plain(model.contract.recipe)
    module = Exported(model)
    windows = {size: _random_windows(model, recipe.window, size) for size in BATCHES}
    differences: dict[int, float] = {}

    def written(partial: Path) -> None:
        run = _written(write, module, windows[BATCHES[-1]], content, partial)
        differences.update({size: difference(module, run, batch) for size, batch in windows.items()})
        _require_equal(differences, path)

    with torch.no_grad():
        outputs = module(windows[1])
    with take_file(path, "export", "export"):  # a file and the description of another one would not go together
        write_whole(path, written)
        description = _description(model.contract, recipe, outputs) | {
            "format": format,
            "sha256": _digest(path),
            "checkpoint": {"name": Path(checkpoint).name, "sha256": _digest(Path(checkpoint))},
            "largest difference to eager": {str(size): value for size, value in differences.items()},
            "tolerance": TOLERANCE,
        }
        write_text_whole(described_by(path), json.dumps(with_checksum(description), indent=2) + "\n")
    return Export(path, described_by(path), differences)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _written(write: Write, module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
    try:
        # the exporters hint at things for people who write networks
        with warnings.catch_warnings(), muted("torch.onnx", "torch.onnx._internal.exporter._registration"):
            warnings.simplefilter("ignore")
            return write(module, windows, content, path)
    except OSError:
        raise
    except Exception as error:  # exporters fail in many ways over a network of the user's own
        lines = str(error).strip().splitlines() or [""]
        what = "the network cannot be exported"
        where = f"{type(error).__name__}: {lines[0]}"
        raise CheckpointError(what, where, "try another format, or --debug", code=413) from error


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
    require(format in FORMATS, f"unknown format {format!r}", "export", f"one of {', '.join(FORMATS)}", code=257)
    try:
        return WRITERS[format]()
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed"
        raise ConfigError(what, f"export to {format}", 'pip install "cnn_lstm[export]"', code=256) from error


def _random_windows(model: ForecastModel | Ensemble, length: int, size: int) -> Tensor:
    """Windows (B, T, F) as the training had them: their location and scale, but independent normal values.

    Where symbols have scales of their own, they are of one symbol after the other, and the last one is unknown.
    """
    member = model.forecasters[0] if isinstance(model, Ensemble) else model
    standardize = member.network.standardize
    random = torch.Generator().manual_seed(SEED + size)
    noise = torch.randn(size, length, standardize.loc.shape[-1], generator=random)
    rows = torch.arange(size)
    loc, scale = (
        part if part.ndim == 1 else part[rows % len(part), None] for part in (standardize.loc, standardize.scale)
    )
    windows = loc + torch.where(scale.isfinite(), scale, 0.0) * noise
    if codes := standardize.codes.tolist():
        windows[..., -1] = torch.tensor([*codes, -1.0])[rows % (len(codes) + 1), None]
    for part in member.categories.parts:
        windows[..., part.position] = part.codes[rows % len(part.codes), None]
    return windows


def _require_equal(differences: Mapping[int, float], path: Path) -> None:
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= TOLERANCE:
        what = f"the export does not agree with the network: {differences[worst]:.1e} above {TOLERANCE:.0e}"
        fix = "nothing was written; report it with the configuration of the network"
        raise CheckpointError(what, f"{path}, batch of {worst}", fix, code=412)


def _codes(contract: Contract) -> dict[str, dict[str, int]]:
    """Codes of the categories by the name of the feature of each static column; any other code gives NaN."""
    return {
        static_names([name])[0]: {category: code_of(category) for category in known}
        for name, known in contract.static.items()
    }


def _description(contract: Contract, recipe: Recipe, outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    targets = [{"name": target.name, **TargetInfo.of(target).to_plain()} for target in recipe.build_targets()]
    of_targets = [target["unit"] for target in targets]
    of_classes = ["probability"] * len(targets) if targets[0]["classes"] else of_targets
    units: dict[str, Any] = dict.fromkeys(outputs, of_classes) | {"y_pred": of_targets, "embedding": "embedding"}
    units |= {name: ["number"] * len(targets) for name in ("df", "skew") if name in outputs}
    units |= {name: ["probability"] * len(targets) for name in outputs if name.startswith("weight_")}
    return {
        "input": {"name": "window", "shape": ["batch", recipe.window, len(recipe.features)], "type": "float32"},
        "features": list(recipe.features),
        **(
            {"symbol_codes": {symbol: code_of(symbol) for symbol in contract.scaled_symbols}}
            if contract.scaled_symbols
            else {}
        ),
        **({"static_codes": _codes(contract)} if contract.static else {}),
        **({"known_future": [fact.to_plain() for fact in recipe.known_future]} if recipe.known_future else {}),
        "window": recipe.window,
        "targets": targets,
        "outputs": [
            {"name": name, "shape": ["batch", *values.shape[1:]], "type": str(values.dtype)[6:], "unit": units[name]}
            for name, values in outputs.items()
        ],
        "training": asdict(contract.training) if contract.training else None,
        "versions": {name: version(name) for name in ("cnn-lstm", "torch")},
    }
