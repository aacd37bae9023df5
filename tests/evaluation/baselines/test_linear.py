"""Ridge against scikit-learn on materialised windows, logistic regression against the prior, memory."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility, Target
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.evaluation.baselines import baseline_inputs, linear
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from cnn_lstm.evaluation.baselines.linear import logistic_baseline, ridge_baseline
from cnn_lstm.model.logistic import STRENGTHS
from cnn_lstm.model.ridge import PENALTIES
from tests.evaluation.baselines.inputs import FEATURES, flat_windows, inputs_of, r2
from tests.markets import autoregressive, market


def standard_labels(data: BaselineInputs, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels as fitted, what was subtracted, and the divisor; NumPy only."""
    feature = int(data.statistics.y_anchor[k])
    last = data.panel.values[:, feature].double().numpy()[rows] if feature >= 0 else np.zeros(len(rows))
    loc, scale = last + float(data.statistics.y_loc[k]), float(data.statistics.y_scale[k])
    return (data.labels(rows, k) - loc) / scale, loc, scale


@pytest.mark.parametrize(
    ("table", "targets", "arguments", "tolerance"),
    [
        (autoregressive(400, 0.8), [ForwardReturn(delay=0)], {}, 1e-6),
        (market(400), [ForwardReturn()], {}, 1e-6),
        (
            autoregressive(400, 0.8),
            [ForwardReturn(delay=0), RealizedVolatility(horizon=3)],
            {"scaling": "robust"},
            1e-6,
        ),
        (
            autoregressive(400, 0.8),
            [ForwardValue("close")],
            {"features": [*FEATURES, "close"], "anchor": ["close"]},
            1e-6,
        ),
        # levels of neighbouring rows are almost equal, which multiplies the rounding of float32
        (market(400), [ForwardValue("close")], {"features": [*FEATURES, "close"]}, 1e-3),
    ],
    ids=["return", "return of a random walk", "two targets", "anchored level", "level"],
)
def test_ridge_is_scikit_learns(
    table: pd.DataFrame, targets: list[Target], arguments: dict[str, object], tolerance: float
) -> None:
    """Inputs and penalty by a search with scikit-learn on materialised windows."""
    data = inputs_of(table, *targets, **arguments)
    fitted = ridge_baseline(data)
    forecasts = fitted.forecast(data.parts.test)
    windows = {
        part: flat_windows(data, getattr(data.parts, part)).reshape(-1, data.window, data.panel.values.shape[1])
        for part in ("train", "validation", "test")
    }
    for k in range(len(targets)):
        labels, _, _ = standard_labels(data, data.parts.train, k)
        held_out, _, _ = standard_labels(data, data.parts.validation, k)
        _, loc, scale = standard_labels(data, data.parts.test, k)
        candidates = []
        spans_by_name: dict[str, int | tuple[int, ...]] = {"averages": (1, 2, 5, 6)}
        for name, spans in (spans_by_name | {f"last {rows} rows": rows for rows in (1, 5, 6)}).items():
            train, validation, test = (inputs_of_a_line(part, spans) for part in windows.values())
            for penalty in PENALTIES:
                model = Ridge(alpha=penalty * len(train)).fit(train, labels)
                errors = (model.predict(validation) - held_out) ** 2
                candidates.append((errors.mean(), name, penalty * len(train), model.predict(test), errors))
        _, name, penalty, expected, errors = min(candidates, key=itemgetter(0))
        gains = [block.mean() for block in np.array_split(held_out**2 - errors, 20)]
        if ttest_1samp(gains, 0.0, alternative="greater").pvalue > 0.05:
            name, penalty, expected = "no inputs", np.inf, np.zeros(len(expected))
        assert fitted.line.inputs[k] == name
        assert fitted.line.penalties[k] == pytest.approx(penalty)
        np.testing.assert_allclose((forecasts[k]["y_ridge"] - loc) / scale, expected, rtol=0, atol=tolerance)


def inputs_of_a_line(windows: np.ndarray, spans: int | tuple[int, ...]) -> np.ndarray:
    """The last rows of windows (n, T, F), or their averages over the last rows, flattened."""
    if isinstance(spans, int):
        return windows[:, -spans:].reshape(len(windows), -1)
    return np.concatenate([windows[:, -span:].mean(axis=1) for span in spans], axis=1)


def test_inputs_and_penalty_follow_the_validation_rows() -> None:
    """Training rows alone would always take the most inputs and the weakest penalty."""
    signal = ridge_baseline(inputs_of(autoregressive(1500, 0.8), ForwardReturn(delay=0), window=30)).line
    noise = ridge_baseline(inputs_of(market(500), ForwardReturn(), window=30)).line
    assert signal.weight.square().sum() > 10 * noise.weight.square().sum()
    assert "last 30 rows" not in noise.inputs


def test_ridge_finds_an_autoregressive_signal() -> None:
    data = inputs_of(autoregressive(1500, 0.8), ForwardReturn(delay=0))
    test = data.parts.test
    best = r2(data.labels(test, 0), 0.8 * data.present(test, 0))
    assert r2(data.labels(test, 0), ridge_baseline(data).forecast(test)[0]["y_ridge"]) > best - 0.05


def test_a_constant_feature_is_muted() -> None:
    table = autoregressive(300, 0.8)
    table["flat"] = 3.0
    data = inputs_of(table, ForwardReturn(delay=0), features=[*FEATURES, "flat"])
    assert data.statistics.x_scale[-1] == float("inf")
    weights = ridge_baseline(data).line.weight[..., 0]
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
    assert torch.equal(thinned.line.weight, alone.line.weight)


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
    train, test = (
        flat_windows(data, rows).reshape(len(rows), data.window, -1) for rows in (data.parts.train, data.parts.test)
    )
    spans = (1, 2, 5, 6) if fitted.line.inputs == ["averages"] else int(fitted.line.inputs[0].split()[1])
    strengths = [strength / len(train) for strength in STRENGTHS]
    assert min(abs(np.log(fitted.line.penalties[0] / strength)) for strength in strengths) < 1e-9
    model = LogisticRegression(C=fitted.line.penalties[0], tol=1e-8, max_iter=5000).fit(
        inputs_of_a_line(train, spans), data.labels(data.parts.train, 0)
    )
    columns = fitted.forecast(data.parts.test)[0]
    expected = model.predict_proba(inputs_of_a_line(test, spans))
    for k in range(len(thresholds) + 1):
        np.testing.assert_allclose(columns[f"logistic_p{k}"], expected[:, k], atol=0.01)


@pytest.mark.parametrize(("thresholds", "missing"), [([0.0, 0.5], 2), ([-0.5, 0.0], 0)], ids=["last", "first"])
def test_a_class_without_training_rows_has_hardly_any_probability(thresholds: list[float], missing: int) -> None:
    data = inputs_of(market(400), Direction(thresholds))
    columns = logistic_baseline(data).forecast(data.parts.test)[0]
    assert 0 < columns[f"logistic_p{missing}"].max() < 2e-6
    assert missing not in columns["y_logistic"]


def test_inputs_and_strength_follow_the_validation_rows() -> None:
    """Training rows alone would always take the most inputs and the weakest penalty."""
    data = inputs_of(market(400), Direction(), window=30)
    line = logistic_baseline(data).line
    assert line.inputs[0] != "last 30 rows" or line.penalties[0] * len(data.parts.train) < 0.9 * STRENGTHS[-1]
