"""Forecast and uncertainty next to the embedding, and the errors for arguments that do not fit."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from cnn_lstm.data.targets import Direction, ForwardReturn, RealizedVolatility
from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecast_model import fixed_shape
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.model.objectives import Classes, Gaussian, Objective, Point, Qlike, Quantiles
from cnn_lstm.rl.encoder import Encoder, EncoderPlan
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from tests.fits import FEATURES, small_checkpoint, small_network

TWO = {"targets": [ForwardReturn(), RealizedVolatility(horizon=3)]}
UP = {"targets": [Direction()]}


def checkpoint(folder: Path, objective: Objective, targets: dict[str, Any], seed: int = 0) -> Path:
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    count = len(targets["targets"])
    return small_checkpoint(folder, Forecaster(small_network(), objective, n_targets=count), **targets)


@pytest.fixture
def windows() -> Tensor:
    return torch.randn(40, 6, 3, generator=torch.Generator().manual_seed(0)) * 0.01


def forecasts(path: Path, windows: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """The model and its forecast columns in original units."""
    model = Predictor.from_checkpoint(path).forecaster
    with torch.no_grad():
        return model, model.forecast(windows).columns


def split(path: Path, windows: Tensor) -> tuple[Tensor, Tensor]:
    """The embedding, and what is appended to it."""
    model, _ = forecasts(path, windows)
    features = Encoder.from_checkpoint(path, forecast=True, uncertainty=True)(windows)
    with torch.no_grad():
        width = model.encode(windows[:1]).shape[1]
    return features[:, :width], features[:, width:]


def test_gaussian_gives_mean_and_deviation_of_each_target(tmp_path: Path, windows: Tensor) -> None:
    path = checkpoint(tmp_path, Gaussian(), TWO)
    model, columns = forecasts(path, windows)

    _, appended = split(path, windows)

    expected = torch.cat([(columns["y_pred"] - model.y_loc) / model.y_scale, columns["std"] / model.y_scale], dim=1)
    torch.testing.assert_close(appended, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("log", [True, False], ids=["log", "plain"])
def test_a_volatility_is_that_of_the_forecaster_in_units_of_its_target(
    log: bool, tmp_path: Path, windows: Tensor
) -> None:
    """Without a logarithm it is bent away from 0 in original units, not below a tenth of a standard deviation."""
    path = checkpoint(tmp_path, Qlike(), {"targets": [RealizedVolatility(horizon=3, log=log)]})
    model, columns = forecasts(path, windows)
    encoder = Encoder.from_checkpoint(path, forecast=True)
    expected = (columns["y_pred"] - model.y_loc) / model.y_scale
    torch.testing.assert_close(encoder(windows)[:, -1:], expected, rtol=1e-4, atol=1e-4)
    assert log or (expected < 0.1).any()


def test_an_agent_without_the_location_of_its_volatility_loads_as_it_was(tmp_path: Path, windows: Tensor) -> None:
    path = checkpoint(tmp_path, Qlike(), {"targets": [RealizedVolatility(horizon=3, log=False)]})
    encoder = Encoder.from_checkpoint(path, forecast=True)
    state = {name: values for name, values in encoder.state_dict().items() if ".y_" not in name}
    assert len(state) == len(encoder.state_dict()) - 3
    earlier = Encoder(encoder.plan, forecast=True)
    earlier.load_state_dict(state)
    assert (earlier(windows)[:, -1] > 0).all()
    new = Encoder(encoder.plan, forecast=True)
    new.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(new(windows), encoder(windows))


def test_quantiles_give_median_and_half_their_width(tmp_path: Path, windows: Tensor) -> None:
    path = checkpoint(tmp_path, Quantiles([0.1, 0.5, 0.9]), TWO)
    model, columns = forecasts(path, windows)

    _, appended = split(path, windows)

    spread = (columns["q90"] - columns["q10"]) / 2
    expected = torch.cat([(columns["y_pred"] - model.y_loc) / model.y_scale, spread / model.y_scale], dim=1)
    torch.testing.assert_close(appended, expected, rtol=1e-4, atol=1e-5)


def test_classes_give_probabilities_and_one_minus_the_greatest(tmp_path: Path, windows: Tensor) -> None:
    path = checkpoint(tmp_path, Classes(), UP)
    _, columns = forecasts(path, windows)

    _, appended = split(path, windows)

    largest = torch.maximum(columns["p0"], columns["p1"])
    torch.testing.assert_close(appended, torch.cat([columns["p0"], columns["p1"], 1 - largest], dim=1))


def test_an_ensemble_gives_all_embeddings_and_its_spread(tmp_path: Path, windows: Tensor) -> None:
    parts = [checkpoint(tmp_path / str(seed), Point(), TWO, seed) for seed in (0, 1)]
    write_ensemble(parts, path := tmp_path / "ensemble.ckpt")
    columns = [forecasts(part, windows) for part in parts]
    z = torch.stack([(values["y_pred"] - model.y_loc) / model.y_scale for model, values in columns])

    embedding, appended = split(path, windows)

    expected = torch.cat([Encoder.from_checkpoint(part)(windows) for part in parts], dim=1)
    assert torch.equal(embedding, expected)
    torch.testing.assert_close(appended, torch.cat([z.mean(0), z.std(0, correction=0)], dim=1), rtol=1e-4, atol=1e-5)


def test_a_copy_encodes_as_the_encoder_does(tmp_path: Path, windows: Tensor) -> None:
    encoder = Encoder.from_checkpoint(checkpoint(tmp_path, Gaussian(), TWO), forecast=True)

    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder).double().float()):
        assert torch.equal(other(windows), encoder(windows))


def test_windows_of_a_batch_do_not_influence_each_other(tmp_path: Path, windows: Tensor) -> None:
    encoder = Encoder.from_checkpoint(checkpoint(tmp_path, Gaussian(), TWO), forecast=True)

    alone = torch.cat([encoder(window) for window in windows.split(1)])

    torch.testing.assert_close(alone, encoder(windows), rtol=0, atol=1e-6)
    assert not alone.requires_grad
    assert encoder(windows[:0]).shape == (0, encoder.width)


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "tuned"])
def test_a_single_window_is_rounded_as_a_batch_is(frozen: bool) -> None:
    torch.manual_seed(0)
    network = CNNLSTM(12)  # of the default size: tiny ones do not show it
    plan: EncoderPlan = {"members": [], "features": ["any"] * 12, "window": 60}
    encoder = Encoder(plan, [Forecaster(network)], frozen=frozen)
    windows = torch.randn(64, 60, 12)

    with torch.no_grad():
        alone = torch.cat([encoder(window) for window in windows.split(1)])
        torch.testing.assert_close(alone, *fixed_shape(lambda part: (encoder(part),), windows), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("plain"))


def box(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, dtype=np.float32)


def named(features: list[str]) -> spaces.Box:
    space = box(6, 3)
    space.features = tuple(features)  # type: ignore[attr-defined]  # as `Episodes.spaces` sets it
    return space


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "rows": (box(8, 3), {}, r"E261\]: observed windows of 8 rows and 3 features, the checkpoint takes 6 rows and 3"),
    "features": (box(6, 4), {}, r"E261\]: observed windows of 6 rows and 4 features, the checkpoint takes 6 rows"),
    "order": (
        named([FEATURES[0], FEATURES[2], FEATURES[1]]),
        {},
        r"E261\]: feature 2 of the observed windows is close_location, the checkpoint takes log_return_5",
    ),
    "flat": (box(18), {}, r"E260\]: the observation holds no windows"),
    "discrete": (spaces.Discrete(3), {}, r"E260\]: the observation holds no windows"),
    "key": (
        spaces.Dict({"cash": box(1), "bars": box(6, 3)}),
        {},
        r"no entry 'window' — it has 'bars', 'cash'",
    ),
    "no windows": (spaces.Dict({"window": box(18)}), {}, r"E260\]: the observation holds no windows"),
    "uncertainty": (box(6, 3), {"uncertainty": True}, r"E262\]: the checkpoint forecasts no uncertainty"),
    "factor of frozen": (
        box(6, 3),
        {"lr_factor": 0.1},
        r"lr_factor=0.1 of a frozen encoder — the encoder — add frozen=False",
    ),
    "factor": (box(6, 3), {"lr_factor": 0.0, "frozen": False}, r"E263\]: lr_factor=0.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_that_do_not_fit_are_refused_in_one_line(plain: Path, case: str) -> None:
    space, options, message = WRONG[case]

    with pytest.raises(ConfigError, match=message) as error:
        CNNLSTMExtractor(space, str(plain), **options)

    assert "\n" not in str(error.value)


def test_feature_names_in_the_checkpoints_order_are_accepted(plain: Path) -> None:
    assert CNNLSTMExtractor(named(FEATURES), str(plain)).features_dim == 4


def test_another_key_holds_the_windows(plain: Path) -> None:
    space = spaces.Dict({"cash": box(1), "bars": box(6, 3)})

    assert CNNLSTMExtractor(space, str(plain), key="bars").features_dim == 5


@pytest.mark.parametrize("content", [None, b"no checkpoint"], ids=["missing", "foreign"])
def test_a_bad_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "best.ckpt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CheckpointError) as error:
        CNNLSTMExtractor(box(6, 3), str(path))

    assert isinstance(error.value, CnnLstmError)
    assert "\n" not in str(error.value)
