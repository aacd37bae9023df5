"""Ridge against scikit-learn on materialised windows, logistic regression against the prior, memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility, Target
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.evaluation.baselines import baseline_inputs, linear
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from cnn_lstm.evaluation.baselines.linear import PENALTIES, STRENGTHS, logistic_baseline, ridge_baseline
from tests.evaluation.baselines.inputs import FEATURES, flat_windows, inputs_of, r2
from tests.markets import autoregressive, market


def standard_labels(data: BaselineInputs, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels as fitted, what was subtracted, and the divisor; NumPy only."""
    feature = int(data.statistics.y_anchor[k])
    last = data.panel.values[:, feature].double().numpy()[rows] if feature >= 0 else np.zeros(len(rows))
    loc, scale = last + float(data.statistics.y_loc[k]), float(data.statistics.y_scale[k])
    return (data.labels(rows, k) - loc) / scale, loc, scale


@pytest.mark.parametrize(
    ("targets", "arguments", "tolerance"),
    [
        ([ForwardReturn()], {}, 1e-5),
        ([ForwardReturn(), RealizedVolatility(horizon=3)], {"scaling": "robust"}, 1e-5),
        ([ForwardValue("close")], {"features": [*FEATURES, "close"], "anchor": ["close"]}, 1e-5),
        # levels of neighbouring rows are almost equal, which multiplies the rounding of float32
        ([ForwardValue("close")], {"features": [*FEATURES, "close"]}, 1e-3),
    ],
    ids=["return", "two targets", "anchored level", "level"],
)
def test_ridge_is_scikit_learns(targets: list[Target], arguments: dict[str, object], tolerance: float) -> None:
    data = inputs_of(market(400), *targets, **arguments)
    fitted = ridge_baseline(data)
    forecasts = fitted.forecast(data.parts.test)
    train, validation, test = (
        flat_windows(data, rows) for rows in (data.parts.train, data.parts.validation, data.parts.test)
    )
    for k in range(len(targets)):
        labels, _, _ = standard_labels(data, data.parts.train, k)
        held_out, _, _ = standard_labels(data, data.parts.validation, k)
        path = [Ridge(alpha=penalty * len(train)).fit(train, labels) for penalty in PENALTIES]
        errors = [np.mean((model.predict(validation) - held_out) ** 2) for model in path]
        best = int(np.argmin(errors))
        assert fitted.penalties[k] == pytest.approx(PENALTIES[best] * len(train))
        _, loc, scale = standard_labels(data, data.parts.test, k)
        expected = path[best].predict(test)
        np.testing.assert_allclose((forecasts[k]["y_ridge"] - loc) / scale, expected, rtol=0, atol=tolerance)


def test_penalty_follows_the_validation_rows() -> None:
    signal = ridge_baseline(inputs_of(autoregressive(1500, 0.8), ForwardReturn(delay=0), window=30))
    noise = ridge_baseline(inputs_of(market(500), ForwardReturn(), window=30))
    rows = [len(fitted.inputs.parts.train) for fitted in (signal, noise)]
    assert signal.penalties[0] / rows[0] < noise.penalties[0] / rows[1] / 10


def test_ridge_finds_an_autoregressive_signal() -> None:
    data = inputs_of(autoregressive(1500, 0.8), ForwardReturn(delay=0))
    test = data.parts.test
    best = r2(data.labels(test, 0), 0.8 * data.present(test, 0))
    assert r2(data.labels(test, 0), ridge_baseline(data).forecast(test)[0]["y_ridge"]) > best - 0.05


def test_a_constant_feature_is_muted() -> None:
    table = market(300)
    table["flat"] = 3.0
    data = inputs_of(table, ForwardReturn(), features=[*FEATURES, "flat"])
    assert data.statistics.x_scale[-1] == float("inf")
    weights = ridge_baseline(data).weights.view(data.window, -1)
    assert weights[:, -1].abs().max() < 1e-12
    assert bool(weights[:, :-1].any())


def test_windows_are_never_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = inputs_of(market(400), ForwardReturn())
    whole = ridge_baseline(data).forecast(data.parts.test)[0]["y_ridge"]
    sizes = []

    def cut(values: torch.Tensor, rows: torch.Tensor, length: int) -> torch.Tensor:
        sizes.append(4 * len(rows) * length * values.shape[1])
        return original(values, rows, length)

    original = cut_windows
    monkeypatch.setattr(baseline_inputs, "cut_windows", cut)
    monkeypatch.setattr(baseline_inputs, "CHUNK_BYTES", 2000)
    chunked = ridge_baseline(data).forecast(data.parts.test)[0]["y_ridge"]
    assert max(sizes) <= 2000
    assert len(sizes) > 30
    np.testing.assert_allclose(chunked, whole, atol=1e-8)


def test_training_windows_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    data = inputs_of(market(400), ForwardReturn())
    monkeypatch.setattr(linear, "MAX_WINDOWS", 200)
    thinned = ridge_baseline(data)
    rows = data.train(200)
    assert set(data.panel.symbol[rows]) == {0, 1, 2}
    alone = ridge_baseline(replace(data, parts=replace(data.parts, train=rows)))
    assert torch.equal(thinned.weights, alone.weights)


def test_oldest_rows_of_too_large_windows_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = inputs_of(market(300), ForwardReturn())
    (whole,) = data.window_chunks(data.parts.test)
    (part,) = data.window_chunks(data.parts.test, max_inputs=10)
    assert torch.equal(part, whole[:, -3:])


def separable(rows: int = 900) -> BaselineInputs:
    """The class of the next return follows from the present one."""
    return inputs_of(autoregressive(rows, 0.95), Direction(delay=0))


def test_logistic_beats_the_prior_on_separable_data() -> None:
    data = separable()
    test = data.parts.test
    columns = logistic_baseline(data).forecast(test)[0]
    truth = data.labels(test, 0)
    shares = (data.statistics.class_counts[0] / data.statistics.class_counts[0].sum()).double().numpy()
    probabilities = np.stack([columns["logistic_p0"], columns["logistic_p1"]], axis=1)
    prior = log_loss(truth, np.tile(shares, (len(test), 1)), labels=[0.0, 1.0])
    assert log_loss(truth, probabilities, labels=[0.0, 1.0]) < 0.75 * prior
    assert (columns["y_logistic"] == truth).mean() > 0.8
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("thresholds", [[0.0], [-0.004, 0.004]], ids=["two classes", "three classes"])
def test_logistic_is_scikit_learns(thresholds: list[float]) -> None:
    data = inputs_of(market(400), Direction(thresholds))
    fitted = logistic_baseline(data)
    train, test = flat_windows(data, data.parts.train), flat_windows(data, data.parts.test)
    strengths = [strength / len(train) for strength in STRENGTHS]
    assert min(abs(np.log(fitted.strengths[0] / strength)) for strength in strengths) < 1e-9
    model = LogisticRegression(C=fitted.strengths[0], tol=1e-8, max_iter=5000).fit(
        train, data.labels(data.parts.train, 0)
    )
    columns = fitted.forecast(data.parts.test)[0]
    expected = model.predict_proba(test)
    for k in range(len(thresholds) + 1):
        np.testing.assert_allclose(columns[f"logistic_p{k}"], expected[:, k], atol=0.01)


@pytest.mark.parametrize(("thresholds", "missing"), [([0.0, 0.5], 2), ([-0.5, 0.0], 0)], ids=["last", "first"])
def test_a_class_without_training_rows_has_hardly_any_probability(thresholds: list[float], missing: int) -> None:
    data = inputs_of(market(400), Direction(thresholds))
    columns = logistic_baseline(data).forecast(data.parts.test)[0]
    assert 0 < columns[f"logistic_p{missing}"].max() < 2e-6
    assert missing not in columns["y_logistic"]


def test_strength_follows_the_validation_rows() -> None:
    """Training rows alone would always take the weakest penalty."""
    data = inputs_of(market(400), Direction(), window=30)
    assert logistic_baseline(data).strengths[0] * len(data.parts.train) < 100
