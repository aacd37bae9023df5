"""Which rows are judged, and what each forecaster forecasts: point, loss, probabilities, variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation.forecasts import divergences, judged_rows, read_forecasts

NAN = float("nan")
RETURN = TargetInfo("return")


def table(target: str = "return_1", **columns: list[float]) -> pd.DataFrame:
    """Rows of one target; what is not given is known and harmless."""
    rows = len(next(iter(columns.values())))
    given = {"y_true": [0.5] * rows, "y_pred": [0.1] * rows, "y_mean": [0.2] * rows} | columns
    return pd.DataFrame({"target": target, **given})


def classes(**columns: list[float]) -> pd.DataFrame:
    given = {"y_true": [2.0, 0.0], "y_pred": [2.0, 1.0], "y_mean": [1.0, 1.0], "y_last": [0.0, 0.0]}
    given |= {"p0": [0.1, 0.3], "p1": [0.2, 0.4], "p2": [0.7, 0.3]}
    given |= {f"prior_p{number}": [share, share] for number, share in enumerate((0.2, 0.5, 0.3))}
    return pd.DataFrame({"target": "direction_1", **(given | columns)})


# -- rows ------------------------------------------------------------------------------------------------------------


def test_only_the_truth_and_the_models_own_forecast_decide_on_a_row() -> None:
    given = table(
        y_true=[NAN, 0.1, 0.2, 0.3, 0.4],
        y_pred=[0.0, NAN, 0.0, 0.0, 0.0],
        y_ridge=[0.0, 0.0, NAN, 0.0, 0.0],
        std=[NAN] * 5,  # no forecast
    )
    rows = judged_rows(given, "return_1", RETURN)
    assert rows.index.tolist() == [2, 3, 4]
    ridge = read_forecasts(rows, RETURN)["ridge"]
    assert ridge.known.tolist() == [False, True, True]
    assert ridge.loss is not None
    assert np.isnan(ridge.loss).tolist() == [True, False, False]


def test_a_model_without_probabilities_or_variance_of_a_row_does_not_know_it() -> None:
    rows = judged_rows(classes(p1=[NAN, 0.4]), "direction_1", TargetInfo("class", classes=3))
    assert rows.index.tolist() == [1]
    given = table("v", y_true=[0.1, 0.1], variance_pred=[0.01, NAN])
    assert judged_rows(given, "v", TargetInfo("volatility")).index.tolist() == [0]
    no_model = table(y_pred=[NAN, NAN])
    assert judged_rows(no_model, "return_1", RETURN).empty


def test_a_baseline_needs_its_point_and_its_probabilities_to_know_a_row() -> None:
    parts = {f"gbm_p{number}": [1 / 3, 1 / 3] for number in range(3)}
    about = TargetInfo("class", classes=3)
    for changed in ({"y_gbm": [NAN, 1.0]}, {"y_gbm": [0.0, 1.0], "gbm_p1": [NAN, 1 / 3]}):
        assert read_forecasts(classes(**(parts | changed)), about)["gradient boosting"].known.tolist() == [False, True]
    given = table("v", y_true=[0.1, 0.1], y_har=[NAN, 0.1], variance_har=[0.01, 0.01])
    assert read_forecasts(given, TargetInfo("volatility"))["HAR"].known.tolist() == [False, True]


def test_only_rows_of_the_target_and_only_its_baselines() -> None:
    one = table(y_ridge=[0.0, 0.1])
    other = table("volatility_5", y_har=[0.1, 0.2, NAN])
    both = pd.concat([one, other], ignore_index=True)
    rows = judged_rows(both, "return_1", RETURN)
    assert rows.index.tolist() == [0, 1]
    assert [name for name in rows if str(name).startswith("y_")] == ["y_true", "y_pred", "y_mean", "y_ridge"]
    rows = judged_rows(both, "volatility_5", TargetInfo("volatility"))
    assert rows.index.tolist() == [2, 3, 4]
    assert [name for name in rows if str(name).startswith("y_")] == ["y_true", "y_pred", "y_mean", "y_har"]


def test_an_unknown_truth_is_never_taken_for_a_foreign_column() -> None:
    assert judged_rows(table(y_true=[NAN, NAN]), "return_1", RETURN).empty


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("volatility", [1]), ("log_volatility", [0, 1, 2]), ("return", [0, 1, 2]), ("value", [0, 1, 2])],
)
def test_volatility_without_movement_is_left_out(kind: str, kept: list[int]) -> None:
    given = table("quantity", y_true=[0.0, 0.01, -0.01])
    assert judged_rows(given, "quantity", TargetInfo(kind)).index.tolist() == kept


def test_the_table_is_not_changed() -> None:
    given = pd.concat([table(y_ridge=[NAN, 0.1]), table("other", y_har=[0.1])], ignore_index=True)
    before = given.copy()
    judged_rows(given, "return_1", RETURN)
    pd.testing.assert_frame_equal(given, before)


# -- forecasters -----------------------------------------------------------------------------------------------------


def test_names_in_a_fixed_order_with_the_users_own_last() -> None:
    names = ["gbm", "log_har", "har", "dlinear", "logistic", "ridge", "seasonal", "last", "zero", "mean"]
    columns: dict[str, Any] = {f"y_{name}": [0.0] for name in names}
    given = table(y_foo=[0.3], y_linear=[0.1], **columns)
    assert list(read_forecasts(given, RETURN)) == [
        "model",
        "linear part",
        "zero",
        "training mean",
        "last value",
        "seasonal naive",
        "ridge",
        "logistic",
        "DLinear",
        "HAR",
        "log-HAR",
        "gradient boosting",
        "foo",
    ]


@pytest.mark.parametrize("kind", ["return", "level", "value"])
def test_numbers_are_judged_by_the_squared_error(kind: str) -> None:
    given = table(y_true=[1.0, -2.0], y_pred=[0.5, 1.0], y_foo=[1.0, -1.0])
    result = read_forecasts(given, TargetInfo(kind))
    model, foo = result["model"].loss, result["foo"].loss
    assert model is not None
    assert foo is not None
    assert model.tolist() == [0.25, 9.0]
    assert foo.tolist() == [0.0, 1.0]
    assert result["foo"].point.tolist() == [1.0, -1.0]
    assert (result["model"].probabilities, result["model"].variance) == (None, None)


def test_volatilities_are_judged_by_qlike_of_the_smeared_variance() -> None:
    given = table(y_true=[0.2, 0.1], y_pred=[0.1, 0.1], y_har=[0.2, -0.3], variance_pred=[0.02, 0.02])
    result = read_forecasts(given, TargetInfo("volatility"))
    assert result["model"].point.tolist() == [0.1, 0.1]
    assert result["model"].variance == pytest.approx([0.02, 0.02])
    assert result["model"].loss == pytest.approx([2 - np.log(2) - 1, 0.5 - np.log(0.5) - 1])
    assert result["HAR"].variance == pytest.approx([0.04, 0.0])  # no variance of its own, and not the square of -0.3
    assert result["HAR"].loss == pytest.approx([0.0, 1e4 - np.log(1e4) - 1])


def test_log_volatilities_are_judged_by_qlike_too() -> None:
    given = table(y_true=np.log([0.2]).tolist(), y_pred=np.log([0.1]).tolist(), y_mean=np.log([0.2]).tolist())
    given = given.assign(variance_pred=0.015, variance_mean=0.04)
    result = read_forecasts(given, TargetInfo("log_volatility"))
    assert result["model"].point == pytest.approx(np.log([0.1]))
    assert result["model"].variance == pytest.approx([0.015])
    ratio = 0.04 / 0.015
    assert result["model"].loss == pytest.approx([ratio - np.log(ratio) - 1])
    assert result["training mean"].loss == pytest.approx([0.0], abs=1e-12)


def test_classes_are_judged_by_the_log_loss_of_their_own_probabilities() -> None:
    given = classes(y_gbm=[0.0, 0.0], gbm_p0=[0.5, 0.9], gbm_p1=[0.3, 0.1], gbm_p2=[0.2, 0.0])
    result = read_forecasts(given, TargetInfo("class", classes=3))
    assert list(result) == ["model", "prior", "last value", "gradient boosting"]
    assert result["model"].loss == pytest.approx(-np.log([0.7, 0.3]))
    assert result["model"].probabilities is not None
    assert result["model"].probabilities.tolist() == [[0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]
    assert result["prior"].loss == pytest.approx(-np.log([0.3, 0.2]))
    assert result["gradient boosting"].loss == pytest.approx(-np.log([0.2, 0.9]))
    assert (result["last value"].loss, result["last value"].probabilities) == (None, None)
    assert result["last value"].point.tolist() == [0.0, 0.0]


def test_incomplete_probabilities_count_as_none() -> None:
    given = classes(y_foo=[0.0, 1.0], foo_p0=[0.5, 0.5], foo_p1=[0.5, 0.5])
    assert read_forecasts(given, TargetInfo("class", classes=3))["foo"].loss is None


def test_the_linear_part_of_classes_has_its_own_probabilities() -> None:
    parts: dict[str, Any] = {f"linear_p{number}": [share] * 2 for number, share in enumerate((0.5, 0.3, 0.2))}
    result = read_forecasts(classes(y_linear=[0.0, 0.0], **parts), TargetInfo("class", classes=3))
    assert result["linear part"].loss == pytest.approx(-np.log([0.2, 0.5]))


@pytest.mark.parametrize("kind", ["return", "volatility", "log_volatility", "class"])
def test_a_divergence_is_the_expected_saving_of_a_right_model(kind: str) -> None:
    """Truths drawn from what the model says: the mean difference of the losses tends to the divergence."""
    random, rows = np.random.default_rng(0), 200_000
    if kind == "class":
        p, q = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.3, 0.4])
        drawn = random.choice(3, rows, p=p).astype(float)
        given = {f"p{k}": np.full(rows, p[k]) for k in range(3)} | {f"foo_p{k}": np.full(rows, q[k]) for k in range(3)}
        frame = pd.DataFrame({"y_true": drawn, "y_pred": 1.0, "y_foo": 2.0, **given})
    else:
        noise = random.normal(size=rows)
        true = {"return": 0.1 + 0.3 * noise, "volatility": 0.3 * np.abs(noise)}.get(kind, np.log(0.3 * np.abs(noise)))
        points = {"return": (0.1, 0.2), "volatility": (0.3, 0.4)}.get(kind, (np.log(0.3), np.log(0.4)))
        frame = pd.DataFrame({"y_true": true, "y_pred": points[0], "y_foo": points[1]})
    forecasts = read_forecasts(frame, TargetInfo(kind, classes=3 * (kind == "class")))
    model, foo = forecasts["model"], forecasts["foo"]
    assert model.loss is not None
    assert foo.loss is not None
    expected = divergences(model, foo)
    assert np.ptp(expected) < 1e-12
    assert foo.loss.mean() - model.loss.mean() == pytest.approx(expected.mean(), rel=0.1)


def test_variance_is_not_negative_volatility_squared() -> None:
    assert quantity("volatility").variance(np.array([-0.5, 0.0, 0.5])).tolist() == [0.0, 0.0, 0.25]
    assert quantity("log_volatility").variance(np.log([0.5])) == pytest.approx([0.25])
