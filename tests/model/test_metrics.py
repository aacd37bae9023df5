"""Every figure against scikit-learn and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as oracle
from torch import Tensor

from cnn_lstm.model.metrics import classification_metrics, forecast_metrics, regression_metrics

DRAWS = 200


def draw(seed: int) -> tuple[Tensor, Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Forecasts and truth of some length, unit and skill, as float32 and as the same values in float64."""
    random = np.random.default_rng(seed)
    count, unit = int(random.integers(2, 400)), float(10.0 ** random.integers(-4, 4))
    true = unit * (random.normal() + random.standard_normal(count))
    pred = unit * random.normal() + random.normal() * true + unit * random.standard_normal(count)
    y_pred, y_true = torch.from_numpy(pred).float(), torch.from_numpy(true).float()
    return y_pred, y_true, y_pred.double().numpy(), y_true.double().numpy()


@pytest.mark.parametrize("first", range(0, DRAWS, 50))
def test_regression_figures(first: int) -> None:
    for seed in range(first, first + 50):
        y_pred, y_true, pred, true = draw(seed)
        expected = {
            "mse": oracle.mean_squared_error(true, pred),
            "mae": oracle.mean_absolute_error(true, pred),
            "rmse": oracle.root_mean_squared_error(true, pred),
            "r2": oracle.r2_score(true, pred),
            "explained_variance": oracle.explained_variance_score(true, pred),
            "correlation": np.corrcoef(true, pred)[0, 1],
            "pred_mean": pred.mean(),
            "pred_std": pred.std(),
            "true_mean": true.mean(),
            "true_std": true.std(),
        }
        assert regression_metrics(y_pred, y_true) == pytest.approx(expected, rel=1e-6, abs=1e-9), seed


def test_daily_returns_are_not_taken_for_zero() -> None:
    random = np.random.default_rng(0)
    true = torch.from_numpy(random.normal(0, 1e-4, 20)).float()
    pred = 0.3 * true + torch.from_numpy(random.normal(0, 1e-5, 20)).float()
    metrics = regression_metrics(pred, true)
    assert metrics["r2"] == pytest.approx(oracle.r2_score(true.double().numpy(), pred.double().numpy()), rel=1e-6)
    assert metrics["correlation"] == pytest.approx(np.corrcoef(true.double(), pred.double())[0, 1], rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e-4, 123.456])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_constant_truth_has_no_fit(value: float, count: int) -> None:
    metrics = regression_metrics(torch.linspace(-1, 1, count), torch.full((count,), value))
    assert all(math.isnan(metrics[name]) for name in ("r2", "explained_variance", "correlation"))
    assert all(math.isfinite(metrics[name]) for name in ("mse", "mae", "rmse", "true_mean", "true_std"))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 123.456])
@pytest.mark.parametrize("unit", [1e-4, 1.0])
def test_constant_forecast_has_no_correlation_but_a_fit(value: float, unit: float) -> None:
    true = unit * torch.randn(300, generator=torch.Generator().manual_seed(0))
    metrics = regression_metrics(torch.full((300,), value), true)
    assert math.isnan(metrics["correlation"])
    expected = oracle.r2_score(true.double().numpy(), torch.full((300,), value).double().numpy())
    assert metrics["r2"] == pytest.approx(expected, rel=1e-6)


def draw_classes(seed: int) -> tuple[Tensor, Tensor, int]:
    """Forecast and true classes; each class is true at least once and forecast at least once."""
    random = np.random.default_rng(seed)
    classes, count = int(random.integers(2, 6)), int(random.integers(5, 200))
    every = np.arange(classes)
    true = np.concatenate([every, random.choice(classes, count, p=random.dirichlet(np.ones(classes)))])
    pred = np.where(random.random(len(true)) < random.random(), true, random.permutation(true))
    return torch.from_numpy(pred).float(), torch.from_numpy(true).float(), classes


@pytest.mark.parametrize("first", range(0, DRAWS, 50))
def test_classification_figures(first: int) -> None:
    for seed in range(first, first + 50):
        pred, true, classes = draw_classes(seed)
        expected = {
            "accuracy": oracle.accuracy_score(true, pred),
            "balanced_accuracy": oracle.balanced_accuracy_score(true, pred),
            "f1": oracle.f1_score(true, pred, average="macro", zero_division=0),
            "mcc": oracle.matthews_corrcoef(true, pred),
        }
        assert classification_metrics(pred, true, classes) == pytest.approx(expected, abs=1e-6), seed


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("constant", [0, 1])
def test_constant_class_has_no_skill(classes: int, constant: int) -> None:
    """The forecast that always says the same is the baseline to beat: its Matthews correlation is 0."""
    true = torch.randint(classes, (60,), generator=torch.Generator().manual_seed(1))
    metrics = classification_metrics(torch.full((60,), constant), true, classes)
    assert metrics["balanced_accuracy"] == pytest.approx(1 / classes)
    assert metrics["mcc"] == pytest.approx(0.0, abs=1e-12)


def test_recall_is_averaged_over_the_classes_that_are_true_somewhere() -> None:
    metrics = classification_metrics(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 1, 0]), 3)
    assert metrics["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


def test_one_target_has_bare_names_only() -> None:
    y = torch.randn(30, 1)
    assert forecast_metrics(0.5 * y, y, 0, ["a"]) == pytest.approx(regression_metrics(0.5 * y[:, 0], y[:, 0]))


def test_several_targets_have_their_mean_and_one_each() -> None:
    true = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    pred = true * torch.tensor([0.5, -2.0])
    metrics = forecast_metrics(pred, true, 0, ["near", "far"])
    near, far = (regression_metrics(pred[:, k], true[:, k]) for k in range(2))
    assert set(metrics) == {*near, *(f"{key}_near" for key in near), *(f"{key}_far" for key in far)}
    for key in near:
        assert metrics[f"{key}_near"] == near[key]
        assert metrics[f"{key}_far"] == far[key]
        assert metrics[key] == pytest.approx((near[key] + far[key]) / 2, rel=1e-5, abs=1e-7)


def test_several_class_targets() -> None:
    true, pred = torch.tensor([[0, 1], [1, 1], [0, 0.0]]), torch.tensor([[0, 0], [1, 1], [1, 0.0]])
    metrics = forecast_metrics(pred, true, 2, ["a", "b"])
    assert metrics["accuracy_a"] == metrics["accuracy_b"] == pytest.approx(2 / 3)
    assert "mse" not in metrics
