"""Boosted trees find what linear models cannot, and repeat themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue
from cnn_lstm.evaluation.baselines.boosting import fit_boosting, summaries
from cnn_lstm.evaluation.baselines.linear import ridge_baseline
from tests.evaluation.baselines.inputs import flat_windows, inputs_of, r2
from tests.markets import bars_of, days, market

pytest.importorskip("lightgbm")


def test_a_signal_without_linear_part_is_found_and_repeated() -> None:
    data = inputs_of(market(700, gaps=False), ForwardReturn())
    labels = data.panel.labels.clone()
    standard = data.panel.values[:, 0] / data.panel.values[:, 0].nan_to_num().std()
    labels[:, 0] = torch.where(labels[:, 0].isnan(), torch.nan, standard.abs() + 0.1 * torch.sign(labels[:, 0]))
    planted = replace(data, panel=replace(data.panel, labels=labels))
    test = data.parts.test
    forecast = fit_boosting(planted).forecast(test)[0]["y_gbm"]
    assert r2(planted.labels(test, 0), forecast) > 0.8
    assert r2(planted.labels(test, 0), ridge_baseline(planted).forecast(test)[0]["y_ridge"]) < 0.3
    np.testing.assert_array_equal(forecast, fit_boosting(planted).forecast(test)[0]["y_gbm"])


def test_classes_have_probabilities() -> None:
    data = inputs_of(market(300), Direction([-0.01, 0.01]))
    columns = fit_boosting(data).forecast(data.parts.test)[0]
    np.testing.assert_allclose(sum(columns[f"gbm_p{k}"] for k in range(3)), 1)
    assert set(columns["y_gbm"]) <= {0.0, 1.0, 2.0}


def test_a_level_may_leave_the_training_range() -> None:
    level = np.linspace(100, 400, 600) + np.random.default_rng(0).normal(0, 0.1, 600)
    data = inputs_of(bars_of(level, days(600)), ForwardValue("close"))
    test = data.parts.test
    assert np.abs(fit_boosting(data).forecast(test)[0]["y_gbm"] - data.labels(test, 0)).mean() < 0.5


def test_summaries_are_numpys() -> None:
    data = inputs_of(market(300), ForwardReturn())
    rows = data.parts.test[:20]
    windows = flat_windows(data, rows).reshape(20, data.window, -1)
    last = windows[:, -1]
    expected = np.concatenate([last, windows.mean(axis=1), windows.std(axis=1), last - windows[:, 0]], axis=1)
    np.testing.assert_allclose(summaries(data, rows), expected, atol=1e-5)
