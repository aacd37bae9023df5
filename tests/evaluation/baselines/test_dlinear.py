"""DLinear finds planted signals, repeats itself and leaves the random state alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue
from cnn_lstm.evaluation.baselines.dlinear import fit_dlinear, moving_average
from tests.evaluation.baselines.inputs import inputs_of, r2
from tests.markets import autoregressive, bars_of, days, market, optimal_r2


@pytest.mark.parametrize(("phi", "rows"), [(0.9, 1000), (0.7, 2000), (-0.7, 2000)])
def test_an_autoregressive_signal_is_found(phi: float, rows: int) -> None:
    data = inputs_of(autoregressive(rows, phi), ForwardReturn(delay=1), window=10)
    test = data.parts.test
    explained = r2(data.labels(test, 0), fit_dlinear(data).forecast(test)[0]["y_dlinear"])
    assert optimal_r2(phi, 1) / 2 < explained < optimal_r2(phi, 1) + 0.15


@pytest.mark.parametrize("seed", range(3))
def test_the_best_epoch_stays(seed: int) -> None:
    """On noise the mean, the start, is hardly beaten on validation rows: later epochs only fit the training rows."""
    data = inputs_of(market(300, seed=seed), ForwardReturn(), window=30)
    rows = data.parts.validation
    labels, mean = data.labels(rows, 0), float(data.statistics.y_mean[0])
    forecast = fit_dlinear(data).forecast(rows)[0]["y_dlinear"]
    assert ((labels - forecast) ** 2).mean() <= ((labels - mean) ** 2).mean() * (1 + 1e-6)


def test_classes_that_differ_in_their_history_are_distinguished() -> None:
    data = inputs_of(autoregressive(1500, 0.95), Direction(delay=0))
    columns = fit_dlinear(data).forecast(data.parts.test)[0]
    truth = data.labels(data.parts.test, 0)
    assert (columns["y_dlinear"] == truth).mean() > 0.75
    np.testing.assert_allclose(columns["dlinear_p0"] + columns["dlinear_p1"], 1)
    chosen = np.where(truth == 1, columns["dlinear_p1"], columns["dlinear_p0"])
    assert -np.log(chosen).mean() < 0.6


def test_a_level_outside_the_training_range_is_followed() -> None:
    level = np.linspace(100, 400, 800) + np.random.default_rng(0).normal(0, 0.1, 800)
    data = inputs_of(bars_of(level, days(800)), ForwardValue("close"))
    test = data.parts.test
    columns = fit_dlinear(data).forecast(test)[0]
    # the best forecast of a trend with white noise; the last value plus the slope is worse by half of the noise
    assert np.abs(columns["y_dlinear"] - data.labels(test, 0)).mean() < 0.2


def test_missing_history_counts_as_the_mean() -> None:
    data = inputs_of(market(300), ForwardReturn(horizon=4), features=["close_location"])
    early = data.parts.train[:1]
    assert torch.isnan(data.panel.present[early[0] - data.window + 1, 0])
    assert np.isfinite(fit_dlinear(data).forecast(early)[0]["y_dlinear"]).all()


def numpy_key() -> np.ndarray:
    state = np.random.get_state(legacy=False)  # noqa: NPY002 - the legacy state is what must stay
    return np.array(state["state"]["key"])


@pytest.mark.parametrize("target", [ForwardReturn(), Direction()], ids=["number", "class"])
def test_two_fits_are_equal_and_the_random_state_stays(target: ForwardReturn | Direction) -> None:
    data = inputs_of(autoregressive(500, 0.8), target)
    state = torch.random.get_rng_state()
    numpy_state = numpy_key()
    first = fit_dlinear(data).layers[0]
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_state, numpy_key())
    torch.manual_seed(99)
    with torch.inference_mode():
        second = fit_dlinear(data).layers[0]
    assert torch.equal(first.trend, second.trend)
    assert torch.equal(first.remainder, second.remainder)
    assert torch.equal(first.bias, second.bias)
    assert bool(first.remainder.any())


@pytest.mark.parametrize("length", [1, 2, 3, 24, 25, 26, 60])
def test_moving_average_is_numpys(length: int) -> None:
    values = torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    half = (min(25, length if length % 2 else length - 1) - 1) // 2
    padded = np.pad(values.double().numpy(), ((0, 0), (half, half)), mode="edge")
    kernel = np.ones(2 * half + 1) / (2 * half + 1)
    expected = np.stack([np.convolve(row, kernel, mode="valid") for row in padded])
    np.testing.assert_allclose(moving_average(values).numpy(), expected, atol=1e-6)
