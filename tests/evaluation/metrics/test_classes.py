"""Figures of classes, once more by scikit-learn and by their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from cnn_lstm.evaluation.metrics.classes import (
    log_losses,
    mcnemar_p,
    point_metrics,
    probability_metrics,
    reliability_table,
)


def draw(seed: int, classes: int, rows: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truths as the predictions table has them, floats, drawn from distorted probabilities; each class happens."""
    random = np.random.default_rng(seed)
    rows = rows or int(random.integers(40, 200))
    p = random.dirichlet(np.ones(classes), rows)
    true = (p[:, :-1].cumsum(axis=1) < random.random((rows, 1))).sum(axis=1)
    true[:classes] = np.arange(classes)
    sharper = p**1.5
    return true.astype(float), sharper / sharper.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_point_metrics_are_those_of_scikit_learn(classes: int) -> None:
    for seed in range(30):
        true, p = draw(seed, classes)
        forecast = p.argmax(axis=1).astype(float)
        values = point_metrics(true, forecast, classes)
        expected = {
            "accuracy": metrics.accuracy_score(true, forecast),
            "balanced_accuracy": metrics.balanced_accuracy_score(true, forecast),
            "f1": metrics.f1_score(true, forecast, average="macro"),
            "mcc": metrics.matthews_corrcoef(true, forecast),
        }
        assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
        table = np.array([[((true == a) & (forecast == b)).sum() for b in range(classes)] for a in range(classes)])
        assert values["confusion"] == table.tolist()
        np.testing.assert_allclose(values["recall"], table.diagonal() / table.sum(axis=1))
        np.testing.assert_allclose(values["precision"], table.diagonal() / table.sum(axis=0))


def test_a_class_that_never_happened_or_was_never_chosen_has_no_recall_or_precision() -> None:
    values = point_metrics([0, 0, 1, 1], [0, 2, 0, 2], classes=4)
    assert values["accuracy"] == values["balanced_accuracy"] == 0.25
    np.testing.assert_equal(values["recall"], [0.5, 0.0, np.nan, np.nan])
    np.testing.assert_equal(values["precision"], [0.5, np.nan, 0.0, np.nan])
    assert values["f1"] == pytest.approx(0.5 / 3)
    assert np.shape(values["confusion"]) == (4, 4)


@pytest.mark.parametrize("true", [[0, 1, 1], [1, 1, 1]], ids=["two classes", "one class"])
def test_a_constant_forecast_of_classes_has_no_correlation(true: list[int]) -> None:
    values = point_metrics(true, [1, 1, 1], classes=2)
    assert values["mcc"] == 0.0
    assert values["accuracy"] == np.mean(true)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_probability_metrics_are_those_of_scikit_learn(classes: int) -> None:
    for seed in range(30):
        true, p = draw(seed, classes)
        prior = np.random.default_rng(seed).dirichlet(np.full(classes, 9.0))
        values = probability_metrics(true, p, prior)
        if classes == 2:
            assert values["roc_auc"] == pytest.approx(metrics.roc_auc_score(true, p[:, 1]), abs=1e-6)
            assert values["brier"] == pytest.approx(2 * metrics.brier_score_loss(true, p[:, 1]), rel=1e-6)
        else:
            area = metrics.roc_auc_score(true, p, multi_class="ovr", average="macro")
            assert values["roc_auc"] == pytest.approx(area, abs=1e-6)
        one_hot = np.eye(classes)[true.astype(int)]
        assert values["pr_auc"] == pytest.approx(metrics.average_precision_score(one_hot, p, average="macro"), abs=1e-6)
        assert values["log_loss"] == pytest.approx(metrics.log_loss(true, p), rel=1e-6)
        assert values["brier"] == pytest.approx(((one_hot - p) ** 2).sum() / len(true), rel=1e-6)
        of_prior = ((one_hot - prior) ** 2).sum() / len(true)
        assert values["brier_skill"] == pytest.approx(1 - values["brier"] / of_prior, abs=1e-6)
        rows_of_prior = probability_metrics(true, p, np.tile(prior, (len(true), 1)))
        assert rows_of_prior["brier_skill"] == pytest.approx(values["brier_skill"], abs=1e-9)


def test_losses_of_rows_make_the_log_loss() -> None:
    true, p = draw(0, 3)
    expected = [metrics.log_loss([t], [row], labels=[0, 1, 2]) for t, row in zip(true, p, strict=True)]
    np.testing.assert_allclose(log_losses(true, p), expected, rtol=1e-6)


def test_a_class_ruled_out_that_happened_costs_much_but_not_infinitely_much() -> None:
    losses = log_losses([0, 1, 1], [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert losses == pytest.approx([36.04365338911715, 36.04365338911715, 0.0])


def test_a_class_that_never_happened_has_no_area() -> None:
    values = probability_metrics([0, 1, 1], [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], [0.4, 0.4, 0.2])
    assert np.isnan([values["roc_auc"], values["pr_auc"]]).all()
    assert np.isfinite([values["log_loss"], values["brier"], values["brier_skill"], values["ece"]]).all()
    alone = probability_metrics([1.0, 1.0], [[0.4, 0.6], [0.3, 0.7]], [0.0, 1.0])
    assert np.isnan([alone["roc_auc"], alone["brier_skill"]]).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_calibration_is_that_of_scikit_learn(classes: int) -> None:
    for seed in range(30):
        # with these numbers of rows no quantile is a value, where scikit-learn's side is a matter of rounding
        true, p = draw(seed, classes, rows=15 * (3 + seed) + 2)
        confidence, right = p.max(axis=1), p.argmax(axis=1) == true
        accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
        lines = reliability_table(right, confidence)
        np.testing.assert_allclose([line["accuracy"] for line in lines], accuracy, atol=1e-6)
        np.testing.assert_allclose([line["confidence"] for line in lines], mean, atol=1e-6)
        rows = np.array([line["rows"] for line in lines])
        assert rows.sum() == len(true)
        assert rows.max() - rows.min() <= 1
        values = probability_metrics(true, p, np.full(classes, 1 / classes))
        assert values["reliability"] == lines
        assert values["ece"] == pytest.approx((rows * abs(accuracy - mean)).sum() / len(true), abs=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 14, 15, 16, 31, 61, 3001])
def test_bins_have_equally_many_rows(rows: int) -> None:
    confidence = np.random.default_rng(rows).permutation(rows) / rows
    counts = [line["rows"] for line in reliability_table(confidence > 0.5, confidence)]
    assert len(counts) == min(rows, 15)
    assert sum(counts) == rows
    assert max(counts) - min(counts) <= 1


def test_equal_confidences_share_a_bin_whatever_the_order() -> None:
    right = np.arange(100) < 60
    assert reliability_table(right, np.full(100, 0.6)) == [
        {"confidence": pytest.approx(0.6), "accuracy": 0.6, "rows": 100}
    ]
    assert probability_metrics(~right, np.tile([0.6, 0.4], (100, 1)), [0.5, 0.5])["ece"] == pytest.approx(0, abs=1e-9)


def test_spiegelhalter_of_two_classes_is_that_of_the_second() -> None:
    for seed in range(50):
        true, p = draw(seed, 2)
        one = p[:, 1]
        z = ((true - one) * (1 - 2 * one)).sum() / np.sqrt(((1 - 2 * one) ** 2 * one * (1 - one)).sum())
        values = probability_metrics(true, p, [0.5, 0.5])["spiegelhalter_p"]
        assert values == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-6)


def test_spiegelhalter_knows_calibrated_from_distorted() -> None:
    random = np.random.default_rng(0)
    small = 0
    for _ in range(100):
        p = random.uniform(0.05, 0.95, 300)
        true = random.random(300) < p
        small += probability_metrics(true, np.column_stack([1 - p, p]), [0.5, 0.5])["spiegelhalter_p"] < 0.05
    assert small <= 12
    p = np.where(true, 0.9, 0.1)
    assert (
        probability_metrics(random.random(300) < 0.5, np.column_stack([1 - p, p]), [0.5, 0.5])["spiegelhalter_p"] < 1e-6
    )


@pytest.mark.parametrize("p", [[[0.5, 0.5]] * 3, [[1.0, 0.0]] * 3], ids=["even", "certain"])
def test_spiegelhalter_of_forecasts_without_information_is_unknown(p: list[list[float]]) -> None:
    assert np.isnan(probability_metrics([0, 1, 0], p, [0.5, 0.5])["spiegelhalter_p"])


def test_mcnemar_is_the_binomial_test_of_the_rows_where_one_alone_is_right() -> None:
    for seed in range(200):
        random = np.random.default_rng(seed)
        true, first, second = random.integers(0, 3, size=(3, int(random.integers(1, 80)))).astype(float)
        alone, other = ((first == true) & (second != true)).sum(), ((first != true) & (second == true)).sum()
        expected = stats.binomtest(alone, alone + other).pvalue if alone + other else 1.0
        assert mcnemar_p(true, first, second) == pytest.approx(expected, rel=1e-6)


def test_probabilities_in_single_precision_raise_no_warning() -> None:
    true, p = draw(0, 3)
    values = probability_metrics(true, p.astype(np.float32), [0.3, 0.3, 0.4])
    expected = probability_metrics(true, p, [0.3, 0.3, 0.4])
    assert values["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-5)
