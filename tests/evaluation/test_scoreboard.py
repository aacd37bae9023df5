"""Every metric of the scoreboard, computed again by scikit-learn, from the table alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cnn_lstm.evaluation.scoreboard import render, scoreboard

NAMES = {"model": "y_pred", "training mean": "y_mean", "majority class": "y_mean", "last value": "y_last"}


def table(seed: int = 0, rows: int = 300, scale: float = 0.01) -> pd.DataFrame:
    """Two targets; some truths and some last values are unknown."""
    random = np.random.default_rng(seed)
    parts = []
    for target in ("return_5", "volatility_5"):
        true = random.normal(0.1 * scale, scale, rows)
        part = {
            "target": target,
            "y_true": np.where(np.arange(rows) < rows - 6, true, np.nan),
            "y_pred": 0.3 * true + random.normal(0, scale, rows),
            "y_last": np.where(np.arange(rows) < 5, np.nan, random.normal(0, scale, rows)),
            "y_mean": 0.05 * scale,
        }
        parts.append(pd.DataFrame(part))
    made = pd.concat(parts, ignore_index=True)
    kinds = {"return_5": "return", "volatility_5": "volatility"}
    made.attrs["targets"] = {name: {"kind": kind, "classes": 0} for name, kind in kinds.items()}
    return made


def classes(seed: int = 0, rows: int = 300, count: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    true = random.choice(count, rows, p=np.array([0.5, 0.3, 0.2][:count]) / sum([0.5, 0.3, 0.2][:count]))
    pred = np.where(random.random(rows) < 0.4, true, random.integers(0, count, rows))
    last = random.integers(0, count, rows)
    columns = {"y_true": true, "y_pred": pred, "y_last": last, "y_mean": np.zeros(rows)}
    made = pd.DataFrame({"target": "direction_1", **{name: values.astype(float) for name, values in columns.items()}})
    made.attrs["targets"] = {"direction_1": {"kind": "class", "classes": count}}
    return made


@pytest.mark.parametrize("scale", [1e-4, 0.01, 100.0])
def test_metrics_of_numbers_are_those_of_scikit_learn(scale: float) -> None:
    given = table(scale=scale)
    scores = scoreboard(given)
    assert scores["target"].tolist() == ["return_5"] * 4 + ["volatility_5"] * 3
    line: Any
    for line in scores.itertuples():
        rows = given[given["target"] == line.target].dropna()
        forecast = 0 * rows["y_true"] if line.forecast == "zero" else rows[NAMES[line.forecast]]
        assert line.rows == len(rows) == 289
        assert line.mae == pytest.approx(metrics.mean_absolute_error(rows["y_true"], forecast), rel=1e-9)
        rmse = metrics.root_mean_squared_error(rows["y_true"], forecast)
        assert line.rmse == pytest.approx(rmse, rel=1e-9)
        assert line.r2 == pytest.approx(metrics.r2_score(rows["y_true"], forecast), rel=1e-6)
        if line.forecast in ("model", "last value"):
            expected = np.corrcoef(rows["y_true"], forecast)[0, 1]
            assert line.correlation == pytest.approx(expected, rel=1e-6)
        else:
            assert np.isnan(line.correlation), "a constant has no correlation"


def test_only_returns_are_compared_with_zero() -> None:
    scores = scoreboard(table())
    zero = scores[scores["forecast"] == "zero"]
    assert zero["target"].tolist() == ["return_5"]


@pytest.mark.parametrize("count", [2, 3])
def test_metrics_of_classes_are_those_of_scikit_learn(count: int) -> None:
    given = classes(count=count)
    scores = scoreboard(given)
    assert scores["forecast"].tolist() == ["model", "majority class", "last value"]
    true = given["y_true"]
    line: Any
    for line in scores.itertuples():
        forecast = given[NAMES[line.forecast]]
        assert line.accuracy == pytest.approx(metrics.accuracy_score(true, forecast), rel=1e-6)
        balanced = metrics.balanced_accuracy_score(true, forecast)
        assert line.balanced_accuracy == pytest.approx(balanced, rel=1e-6)
        assert line.f1 == pytest.approx(metrics.f1_score(true, forecast, average="macro"), rel=1e-6)
        assert line.mcc == pytest.approx(metrics.matthews_corrcoef(true, forecast), abs=1e-6)


def test_a_class_that_never_happened_does_not_lower_the_mean_recall() -> None:
    """The mean recall is over the classes that were there; a forecast of another one costs the others' recall."""
    given = classes(count=3)
    given["y_true"] = given["y_true"].clip(upper=1.0)
    scores = scoreboard(given).set_index("forecast")
    recalls = metrics.recall_score(given["y_true"], given["y_pred"], labels=[0, 1], average="macro")
    assert scores.loc["model", "balanced_accuracy"] == pytest.approx(recalls, rel=1e-6)


def test_rows_without_truth_or_without_a_last_value_count_for_no_forecast() -> None:
    given = table()
    changed = given.copy()
    unknown = changed["y_true"].isna() | changed["y_last"].isna()
    changed.loc[unknown, "y_pred"] = 1e9
    pd.testing.assert_frame_equal(scoreboard(changed), scoreboard(given))


def test_the_best_value_of_each_metric_has_a_star() -> None:
    given = table()
    given["y_pred"] = given["y_true"].fillna(0.0)
    text = render(scoreboard(given))
    blocks = text.split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == ["return_5, 289 forecasts", "volatility_5, 289 forecasts"]
    for block in blocks:
        model = next(line for line in block.split("\n") if line.startswith("model"))
        assert model.count("*") == 4
        others = [line for line in block.split("\n")[1:] if not line.startswith("model")]
        assert all("*" not in line for line in others)
