"""A file for other programs gives eager's forecasts, or is not written."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from cnn_lstm.data.targets import Direction, ForwardReturn, RealizedVolatility
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.inference import export as export_module
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.export import BATCHES, TOLERANCE, Exported, difference, export
from cnn_lstm.inference.exported import read_export
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.model.objectives import Classes, Gaussian, Mixture, Qlike, Quantiles, SkewStudentT, StudentT
from tests.experiments import run
from tests.fits import FEATURES, small_checkpoint, small_network

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export`")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the extra `export`")

SIZES = (1, 2, 7, 256)
WINDOW = 6
VARIANTS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "as shipped": ({}, None, {"targets": [ForwardReturn(horizon=1), RealizedVolatility(horizon=5)]}),
    "both ways, dilated, layer norm": (
        {"bidirectional": True, "channels": [4, 6], "kernel_sizes": [3, 3], "dilations": [1, 3], "norm": "layer"}
        | {"pooling": "attention", "padding": "same", "activation": "gelu"},
        Gaussian(),
        {},
    ),
    "LSTM alone, two layers": (
        {"channels": [], "kernel_sizes": [], "lstm_layers": 2, "attention_heads": 0, "pooling": "mean", "norm": "none"},
        Quantiles(levels=[0.1, 0.5, 0.9]),
        {},
    ),
    "QLIKE": ({}, Qlike(), {"targets": [RealizedVolatility(horizon=5), RealizedVolatility(horizon=3, log=True)]}),
    "skewed t": ({}, SkewStudentT(), {}),
    "t": ({}, StudentT(), {}),
    "mixture": ({}, Mixture(components=3), {}),
    "classes": ({}, Classes(classes=3), {"targets": [Direction(thresholds=[-0.005, 0.005])]}),
}
CHEAP = ("as shipped",)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in CHEAP else pytest.mark.slow, id=name) for name in VARIANTS],
)
def variant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, objective, data = VARIANTS[request.param]
    count = len(data.get("targets", [None]))
    return small_checkpoint(
        tmp_path_factory.mktemp("variant"), Forecaster(small_network(**network), objective, n_targets=count), **data
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("plain"))


def windows(size: int) -> torch.Tensor:
    return 0.02 * torch.randn(size, WINDOW, len(FEATURES), generator=torch.Generator().manual_seed(size))


def eager(checkpoint: Path) -> Exported:
    return Exported(Predictor.from_checkpoint(checkpoint).forecaster)


def test_onnx_runtime_agrees_with_eager_at_every_batch_size(variant: Path, tmp_path: Path) -> None:
    written = export(variant, tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(read_export(written.path).content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    module = eager(variant)

    def run_file(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        found = session.run(None, {"window": batch.numpy()})
        return {name: torch.from_numpy(values) for name, values in zip(names, found, strict=True)}

    assert names[0] == "y_pred"
    assert names[-1] == "embedding"
    assert max(difference(module, run_file, windows(size)) for size in SIZES) < TOLERANCE


def test_torch_export_agrees_with_eager_at_every_batch_size(variant: Path, tmp_path: Path) -> None:
    written = export(variant, tmp_path / "model.pt2", "pt2")
    loaded = torch.export.load(io.BytesIO(read_export(written.path).content)).module()
    assert max(difference(eager(variant), loaded, windows(size)) for size in SIZES) < TOLERANCE


def test_safetensors_hold_the_network_and_what_builds_it(variant: Path, tmp_path: Path) -> None:
    written = export(variant, tmp_path / "model.safetensors", "safetensors")
    with safetensors_torch.safe_open(written.path, "pt") as file:
        spec = json.loads(file.metadata()["hyper_parameters"])["network"]
    tensors = safetensors_torch.load_file(written.path)
    network = CNNLSTM(**spec["init_args"]).eval()
    network.load_state_dict(
        {name.removeprefix("network."): values for name, values in tensors.items() if name.startswith("network.")}
    )
    with torch.no_grad():
        assert torch.equal(network(windows(7)), eager(variant)(windows(7))["embedding"])
    assert set(written.differences.values()) == {0.0}


def test_outputs_are_the_forecasts_of_the_predictor(checkpoint: Path) -> None:
    forecaster = Predictor.from_checkpoint(checkpoint).forecaster
    with torch.no_grad():
        found, wanted = eager(checkpoint)(windows(5)), forecaster.forecast(windows(5)).columns
        torch.testing.assert_close(found["y_pred"], wanted["y_pred"], rtol=1e-5, atol=1e-8)
        columns, embedding = forecaster.forecast(windows(5))
    assert torch.equal(columns["y_pred"], wanted["y_pred"])
    torch.testing.assert_close(found["embedding"], embedding, rtol=1e-5, atol=1e-7)


def test_an_ensemble_is_exported_as_its_average(checkpoint: Path, tmp_path: Path) -> None:
    other = small_checkpoint(tmp_path, Forecaster(small_network(lstm_hidden=6)))
    write_ensemble([checkpoint, other], tmp_path / "both.ckpt")
    written = export(tmp_path / "both.ckpt", format="pt2")
    loaded = torch.export.load(written.path).module()
    found = loaded(windows(3))
    assert list(found) == ["y_pred", "y_linear", "ensemble_std", "embedding"]
    assert found["embedding"].shape == (3, 4 + 6)
    assert difference(eager(tmp_path / "both.ckpt"), loaded, windows(3)) < TOLERANCE


def test_shapes_of_distributions_have_no_unit_of_the_target(tmp_path: Path) -> None:
    for objective in (SkewStudentT(), Mixture(components=2)):
        written = export(small_checkpoint(tmp_path, Forecaster(small_network(), objective)), format="pt2")
        outputs = json.loads(written.description.read_text())["outputs"]
        units = {output["name"]: output["unit"] for output in outputs}
        assert units["y_pred"] == units["std"] == ["return"]
        bare = {name: unit for name, unit in units.items() if unit in (["number"], ["probability"])}
        assert list(bare) == (["weight_0", "weight_1"] if "weight_0" in units else ["df", "skew"])


def test_the_json_beside_it_says_what_goes_in_and_comes_out(checkpoint: Path, tmp_path: Path) -> None:
    written = export(checkpoint, tmp_path / "model.pt2", "pt2")
    described = json.loads(written.description.read_text())
    assert written.description.name == "model.pt2.json"
    assert described["features"] == FEATURES
    assert described["input"] == {"name": "window", "shape": ["batch", WINDOW, len(FEATURES)], "type": "float32"}
    assert described["targets"][0] | {"delay": 1} == {
        "name": "return_1",
        "kind": "return",
        "unit": "return",
        "horizon": 1,
        "delay": 1,
        "classes": 0,
    }
    outputs = {output["name"]: output for output in described["outputs"]}
    assert outputs["y_pred"] == {"name": "y_pred", "shape": ["batch", 1], "type": "float32", "unit": ["return"]}
    assert outputs["embedding"]["shape"] == ["batch", 4]
    assert described["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert described["tolerance"] == TOLERANCE
    assert described["largest difference to eager"] == {str(size): written.differences[size] for size in BATCHES}
    assert described["versions"] == {name: version(name) for name in ("cnn-lstm", "torch")}


def test_a_file_that_does_not_agree_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = eager(checkpoint)

    def astray(*_: Any) -> Any:
        Path(_[-1]).write_bytes(b"a file")
        return lambda batch: {name: values + 2e-5 * (len(batch) == 2) for name, values in module(batch).items()}

    monkeypatch.setattr(export_module, "_writer", lambda _: astray)
    (tmp_path / "model.onnx").write_text("the old one")
    with pytest.raises(CheckpointError, match=r"does not agree with the network: 2\..e-05 .* batch of 2") as caught:
        export(checkpoint, tmp_path / "model.onnx")
    assert caught.value.code == 412
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "the old one"


def test_a_network_that_cannot_be_exported_is_told_in_one_line(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("no such operator\nand a page of hints")

    monkeypatch.setattr(export_module, "_writer", lambda _: fails)
    with pytest.raises(CheckpointError, match="the network cannot be exported — ValueError: no such operator —") as c:
        export(checkpoint, tmp_path / "model.onnx")
    assert c.value.code == 413
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["another name", "another shape", "not a number"])
def test_what_cannot_be_compared_does_not_agree(checkpoint: Path, harm: str) -> None:
    module = eager(checkpoint)

    def harmed(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        found = module(batch)
        if harm == "another name":
            return {name.upper(): values for name, values in found.items()}
        if harm == "another shape":
            return {name: values[:, :1] for name, values in found.items()}
        return {name: values * torch.nan for name, values in found.items()}

    assert not difference(module, harmed, windows(2)) <= TOLERANCE


@pytest.mark.parametrize(("format", "missing"), [("onnx", "onnxruntime"), ("safetensors", "safetensors")])
def test_a_missing_extra_is_told_in_one_line(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, f"{missing}.torch", None)
    assert run("export", "--ckpt_path", checkpoint, "--format", format) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error[E256]: ")
    assert printed.endswith('pip install "cnn_lstm[export]"')
    assert len(printed.splitlines()) == 1


def test_an_unknown_format_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format 'tflite'"):
        export(checkpoint, format="tflite")  # type: ignore[arg-type]


def test_the_command_writes_next_to_the_checkpoint_and_reports_the_difference(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", "--ckpt_path", checkpoint, "--format", "safetensors") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "agrees with eager — largest difference batch 1: 0.0e+00, batch 2: 0.0e+00, batch 7: 0.0e+00"
    assert [Path(line).name for line in printed[1:]] == ["small.safetensors", "small.safetensors.json"]
    assert all(Path(line).is_file() for line in printed[1:])


def test_the_core_needs_none_of_the_extras() -> None:
    """What the command imports is there without the extra; the writer that needs it imports it when it is asked for."""
    names = ("cnn_lstm.inference.export", "cnn_lstm.commands.export")
    extras = {"onnx", "onnxruntime", "onnxscript", "safetensors"}
    code = f"import sys, {', '.join(names)}; print({extras} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
