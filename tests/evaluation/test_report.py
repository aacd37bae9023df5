"""The report of a predictions table: which rows, which metrics, which verdict; plain values throughout.

The metrics themselves are recomputed by other libraries in test_recompute.py.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.json_types import Report
from cnn_lstm.evaluation.report import evaluate
from tests.evaluation.tables import predictions_table

NAN = float("nan")
KINDS = ("return", "log_volatility", "class")
NAMES = ("return_1", "log_volatility_5", "direction_1")
KEYS = {
    "kind",
    "unit",
    "horizon",
    "delay",
    "classes",
    "rows",
    "left_out",
    "symbols",
    "dates",
    "dates_needed",
    "first",
    "last",
}
KEYS |= {"sequential"}
KEYS |= {"loss", "best_baseline", "evidence", "verdict", "reason", "forecasts", "comparisons", "selection", "win_rate"}
KEYS |= {"loss_model", "over_naive", "over_fitted"}
KEYS |= {"dates_needed", "breakdowns", "intervals", "distribution", "tail_risk", "spread", "strategy"}


def made(*kinds: str, **options: Any) -> pd.DataFrame:
    return predictions_table(kinds or ("return",), dates=options.pop("dates", 130), resamples=100, **options)


def target(table: pd.DataFrame) -> Any:
    """The report of the only target."""
    (only,) = evaluate(table)["targets"].values()
    return only


def loss_of(table: pd.DataFrame, column: str = "y_pred") -> pd.Series:
    return (table["y_true"] - table[column]) ** 2


def close(one: Any, other: Any) -> bool:
    """Whether plain values are equal but for rounding."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == pytest.approx(other, rel=1e-9, abs=1e-12)) if isinstance(one, float) else bool(one == other)


@pytest.fixture(scope="module")
def three() -> pd.DataFrame:
    return made(*KINDS)


@pytest.fixture(scope="module")
def report(three: pd.DataFrame) -> Report:
    return evaluate(three)


def kinds_of(value: Any) -> set[type]:
    """Types of all values within."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return {type(value)}.union(*map(kinds_of, inner))
    return {type(value)}


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_the_report_holds_values_of_json_alone(three: pd.DataFrame, report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report  # also: no tuples, no keys but text
    assert kinds_of(report) <= {dict, list, str, bool, int, float, type(None)}  # and nothing of NumPy's
    assert list(report) == ["format", "settings", "targets"]
    assert report["format"] == 1
    assert report["settings"] == three.attrs["settings"]
    assert set(report["targets"]) == set(NAMES)
    assert all(set(result) == KEYS for result in report["targets"].values())


def test_the_table_is_not_changed() -> None:
    table = made(*KINDS, dates=40)
    before, attrs = table.copy(deep=True), deepcopy(table.attrs)
    evaluate(table)
    pd.testing.assert_frame_equal(table, before)
    assert table.attrs == attrs


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)), ids=KINDS)
def test_a_target_is_judged_as_if_it_were_alone(report: dict[str, Any], kind: str, name: str) -> None:
    assert target(made(kind)) == report["targets"][name]


def test_the_order_of_rows_does_not_matter(three: pd.DataFrame, report: dict[str, Any]) -> None:
    shuffled = three.sample(frac=1.0, random_state=1).reset_index(drop=True)
    shuffled.attrs = three.attrs
    assert close(evaluate(shuffled), report)


def test_labels_of_rows_do_not_matter(three: pd.DataFrame, report: dict[str, Any]) -> None:
    labelled = three.set_index(np.zeros(len(three), dtype=int))
    labelled.attrs = three.attrs
    assert evaluate(labelled) == report


@pytest.mark.parametrize(("name", "kind"), [("return_1", "return"), ("log_volatility_5", "log_volatility")])
def test_the_report_repeats_the_attributes_of_a_target(
    three: pd.DataFrame, report: dict[str, Any], name: str, kind: str
) -> None:
    rows, result, about = three[three["target"] == name], report["targets"][name], three.attrs["targets"][name]
    assert {key: result[key] for key in ("kind", "unit", "horizon", "delay", "classes")} == {
        key: about[key] for key in ("kind", "unit", "horizon", "delay", "classes")
    }
    assert (result["kind"], result["rows"], result["left_out"], result["symbols"]) == (kind, len(rows), 0, 6)
    assert result["dates"] == rows["as_of"].nunique()
    assert (result["first"], result["last"]) == (rows["as_of"].min().isoformat(), rows["as_of"].max().isoformat())


def test_the_loss_follows_from_the_kind(report: dict[str, Any]) -> None:
    losses = {name: result["loss"] for name, result in report["targets"].items()}
    assert losses == dict(zip(NAMES, ("squared error", "QLIKE", "log loss"), strict=True))
    assert all(result["reason"].startswith(result["loss"]) for result in report["targets"].values())


# -- rows --------------------------------------------------------------------------------------------------------------


def test_an_unknown_forecast_of_a_baseline_takes_a_row_from_that_baseline_alone() -> None:
    table = made()
    whole = target(table)
    table.loc[table.index % 7 == 0, "y_ridge"] = NAN
    result = target(table)
    assert (result["rows"], result["left_out"]) == (len(table), 0)
    kept = table[table.index % 7 != 0]
    compared = result["comparisons"]["ridge"]
    assert (compared["rows"], compared["dates"]) == (len(kept), kept["as_of"].nunique())
    assert compared["loss_model"] == pytest.approx(loss_of(kept).mean(), rel=1e-12)
    assert compared["loss_baseline"] == pytest.approx(loss_of(kept, "y_ridge").mean(), rel=1e-12)
    assert result["forecasts"]["ridge"]["rows"] == len(kept)
    assert result["forecasts"]["ridge"]["rmse"] == pytest.approx(np.sqrt(loss_of(kept, "y_ridge").mean()), rel=1e-12)
    # nothing else of the report moves
    for part in ("forecasts", "comparisons"):
        others = [name for name in whole[part] if name != "ridge"]
        assert {name: result[part][name] for name in others} == {name: whole[part][name] for name in others}
    for key in ("loss_model", "intervals", "distribution", "spread", "strategy", "over_naive"):
        assert result[key] == whole[key], key


def test_a_comparison_on_fewer_rows_is_that_of_a_table_with_these_rows_alone() -> None:
    table = made()
    alone = table[table.index % 3 == 0].copy()
    alone.attrs = table.attrs
    expected = target(alone)["comparisons"]["ridge"]
    table.loc[table.index % 3 != 0, "y_ridge"] = NAN
    assert close(target(table)["comparisons"]["ridge"], expected)


def test_an_unknown_truth_or_forecast_of_the_model_takes_a_row_from_all() -> None:
    table = made()
    table.loc[table.index % 11 == 0, "y_true"] = NAN
    table.loc[table.index % 13 == 0, "y_pred"] = NAN
    kept = table[(table.index % 11 != 0) & (table.index % 13 != 0)]
    result = target(table)
    assert (result["rows"], result["left_out"]) == (len(kept), len(table) - len(kept))
    assert {compared["rows"] for compared in result["comparisons"].values()} == {len(kept)}
    assert result["loss_model"] == pytest.approx(loss_of(kept).mean(), rel=1e-12)
    assert result["forecasts"]["zero"]["mae"] == pytest.approx(kept["y_true"].abs().mean(), rel=1e-12)


def test_the_best_baseline_is_chosen_by_the_skill_on_its_own_rows() -> None:
    """A baseline that knows the easy rows only has the lowest loss, and does not win by that."""
    table = made(skill=0.3, dates=250)
    attrs = table.attrs
    easy = table["y_true"].abs() < table["y_true"].abs().quantile(0.7)
    table = table.assign(y_easy=(-table["y_pred"]).where(easy))
    table.attrs = attrs
    result = target(table)
    easy_loss = result["comparisons"]["easy"]["loss_baseline"]
    assert easy_loss < min(one["loss_baseline"] for name, one in result["comparisons"].items() if name != "easy")
    assert result["best_baseline"] != "easy"


@pytest.mark.parametrize(("share", "best"), [(0.6, True), (0.4, False)])
def test_a_baseline_that_knows_less_than_half_of_the_rows_is_compared_but_not_the_best(
    share: float, best: bool
) -> None:
    table = made(dates=100)
    attrs, few = table.attrs, table["as_of"].rank(pct=True) <= share
    table = table.assign(y_own=(0.9 * table["y_true"]).where(few))
    table.attrs = attrs
    result = target(table)
    assert (result["best_baseline"] == "own") == best
    assert result["comparisons"]["own"]["skill"] < 0
    assert result["comparisons"]["own"]["rows"] == few.sum()
    rows = few.sum() if best else len(table)
    assert all(sum(line["rows"] for line in lines) == rows for lines in result["breakdowns"].values())
    assert (f"on the {few.sum():,} of {len(table):,} rows that it knows" in result["reason"]) == best


def test_a_baseline_with_one_row_is_left_out() -> None:
    table = made(dates=40)
    table.loc[1:, "y_ridge"] = NAN
    result = target(table)
    assert "ridge" not in result["forecasts"]
    assert "ridge" not in result["comparisons"]


def test_too_few_dates_are_those_of_the_best_baseline() -> None:
    table = made(dates=50)
    attrs, first = table.attrs, table["as_of"] < table["as_of"].unique()[28]
    table = table.assign(y_own=(0.9 * table["y_true"]).where(first))
    table.attrs = attrs
    result = target(table)
    assert (result["best_baseline"], result["dates"] >= 30) == ("own", True)
    assert result["reason"].startswith("too few dates: 28, at least 30 are needed; ")
    assert not result["over_naive"]["reason"].startswith("too few dates")


@pytest.mark.parametrize("kind", [*KINDS, "level"])
def test_every_kind_can_have_baselines_with_holes(kind: str) -> None:
    table = made("return" if kind == "level" else kind)
    if kind == "level":
        table.attrs["targets"]["return_1"]["kind"] = "level"
    for number, name in enumerate(sorted(str(name) for name in table if str(name).startswith("y_"))):
        if name not in ("y_true", "y_pred"):
            table.loc[table.index % 5 == number % 5, name] = NAN
    result = target(table)
    assert result["rows"] == len(table)
    assert result["left_out"] == 0
    for name, metrics in result["forecasts"].items():
        assert (metrics.get("rows", len(table)) < len(table)) == (name != "model")
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("known", [0, 1])
def test_no_truth_is_an_error(known: int) -> None:
    table = made("return", "log_volatility", dates=30)
    rows = table.index[table["target"] == "return_1"]
    table.loc[rows[known:], "y_true"] = NAN
    with pytest.raises(DataError, match="fewer than 2 rows have a known truth") as caught:
        evaluate(table)
    assert (caught.value.code, caught.value.where) == (336, "return_1")


def test_optional_columns_without_any_value_are_left_out() -> None:
    table = made(dates=60)
    numbers = target(table)
    empty = ["std", "ensemble_std", "scale", "volatility", "naive_mae", "naive_mse", "bar_return"]
    empty += [f"{end}_{level}" for end in ("lower", "upper") for level in (50, 80, 90, 95)]
    table = table.assign(mc_std=NAN, **dict.fromkeys(empty, NAN))
    table.attrs = made(dates=60).attrs
    report = evaluate(table)
    json.dumps(report, allow_nan=False)
    (result,) = report["targets"].values()
    assert (result["verdict"], result["reason"]) == (numbers["verdict"], numbers["reason"])
    assert result["comparisons"] == numbers["comparisons"]
    assert result["forecasts"]["model"]["mase"] is None
    assert result["forecasts"]["model"]["rmse"] == numbers["forecasts"]["model"]["rmse"]
    assert result["spread"] == {}
    assert "crps_normal" not in result["distribution"]
    assert result["intervals"]["90"]["coverage"] is None
    assert set(result["breakdowns"]) == {"symbol", "year"}


def test_a_spread_that_some_rows_lack_is_left_out() -> None:
    table = made(dates=40)
    table.loc[3, ["ensemble_std", "std"]] = NAN
    result = target(table)
    assert result["spread"] == {}
    assert set(result["distribution"]) == {"crps", "pit"}


def test_optional_columns_may_be_missing() -> None:
    table = made(dates=60)
    ends = [f"{end}_{level}" for end in ("lower", "upper") for level in (50, 80, 90, 95)]
    table = table.drop(columns=["std", "ensemble_std", *ends])
    table.attrs["targets"]["return_1"].pop("scores")
    table.attrs.pop("failed_checks")
    result = target(table)
    assert (result["intervals"], result["distribution"], result["spread"]) == ({}, {}, {})


# -- the verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skill", [0.0, 0.3])
def test_both_questions_are_answered_by_the_comparison_with_the_best_of_their_baselines(skill: float) -> None:
    result = target(made(skill=skill, dates=250))
    naive = {"zero", "training mean", "last value", "seasonal naive"}
    for key, names in (("over_naive", naive), ("over_fitted", {"ridge"})):
        answer, compared = result[key], {name: result["comparisons"][name] for name in names}
        best = min(compared, key=lambda name: compared[name]["loss_baseline"])
        assert answer["best_baseline"] == best
        assert {name: answer[name] for name in compared[best]} == compared[best]
        conditions = [answer["dm_statistic"] > 0, answer["dm_p"] < 0.05, answer["bootstrap_p"] < 0.05]
        assert answer["evidence"] == all([*conditions, answer["skill_interval"][0] > 0]) == (skill > 0)
        assert answer["reason"].startswith("squared error ")
        assert best in answer["reason"]
    assert result["best_baseline"] in (result["over_naive"]["best_baseline"], result["over_fitted"]["best_baseline"])


def test_a_model_may_beat_naive_forecasts_and_not_a_fitted_one() -> None:
    table = made(skill=0.3, dates=250)
    attrs = table.attrs
    table = table.assign(y_own=table["y_pred"])
    table.attrs = attrs
    result = target(table)
    assert (result["over_naive"]["evidence"], result["over_fitted"]["evidence"]) == (True, False)
    assert (result["over_fitted"]["best_baseline"], result["evidence"]) == ("own", False)
    table.attrs["failed_checks"] = ["L2"]
    assert not target(table)["over_naive"]["evidence"]


def test_a_question_without_a_baseline_has_no_answer() -> None:
    table = made(dates=60)
    attrs = table.attrs
    table = table.drop(columns="y_ridge")
    table.attrs = attrs
    result = target(table)
    assert result["over_fitted"] is None
    assert result["over_naive"]["best_baseline"] == result["best_baseline"]


def test_every_comparison_says_which_skill_it_could_have_found(report: dict[str, Any]) -> None:
    for result in report["targets"].values():
        for compared in result["comparisons"].values():
            assert 0 < compared["smallest_skill"] <= 1
            found = compared["dm_statistic"] > 3
            assert not found or compared["smallest_skill"] <= compared["skill"]


@pytest.mark.parametrize("name", NAMES)
def test_the_best_baseline_has_the_lowest_mean_loss(report: dict[str, Any], name: str) -> None:
    result = report["targets"][name]
    losses = {other: compared["loss_baseline"] for other, compared in result["comparisons"].items()}
    assert result["best_baseline"] == min(losses, key=lambda other: losses[other])
    assert "model" not in losses
    assert set(losses) <= set(result["forecasts"])


def test_a_users_own_baseline_may_be_the_best_one() -> None:
    table = made(skill=0.3, dates=250)
    alone = target(table)
    assert alone["evidence"]
    attrs = table.attrs
    table = table.assign(y_foo=table["y_true"] * 0.9)
    table.attrs = attrs
    result = target(table)
    assert (result["best_baseline"], result["evidence"], result["verdict"]) == ("foo", False, "NO EVIDENCE OF SKILL")
    assert ", foo;" in result["reason"]
    assert result["comparisons"]["foo"]["skill"] < -1
    # the bootstrap draws the same dates whatever is compared with the model
    assert result["comparisons"]["zero"] == alone["comparisons"]["zero"]


@pytest.mark.parametrize("skill", [0.0, 0.3])
def test_the_verdict_follows_from_the_comparison_with_the_best_baseline(skill: float) -> None:
    result = target(made(skill=skill, dates=250))
    compared = result["comparisons"][result["best_baseline"]]
    conditions = [
        compared["dm_statistic"] > 0,
        compared["dm_p"] < 0.05,
        compared["bootstrap_p"] < 0.05,
        compared["skill_interval"][0] > 0,
    ]
    assert result["evidence"] == all(conditions) == (skill > 0)
    assert compared["skill"] == pytest.approx(1 - compared["loss_model"] / compared["loss_baseline"])


def test_level_and_failed_checks_deny_evidence() -> None:
    table = made(skill=0.3, dates=250)
    assert target(table)["evidence"]
    table.attrs["settings"]["level"] = 1e-6  # 100 draws cannot show so little
    assert not target(table)["evidence"]
    table.attrs["settings"]["level"] = 0.05
    table.attrs["failed_checks"] = ["L3.1 temporal leakage"]
    result = target(table)
    assert not result["evidence"]
    assert result["reason"].startswith("leakage found: L3.1 temporal leakage; ")


def test_the_choice_of_a_sweep_is_reported_and_changes_no_other_metric() -> None:
    table = made()
    before = target(table)
    assert before["selection"] == {"trials": 3, "spa_p": None}
    table.attrs["settings"]["spa"] = {next(iter(table.attrs["targets"])): 0.25, "another": 0.5}
    assert target(table) == before | {"selection": {"trials": 3, "spa_p": 0.25}}


def test_horizon_draws_and_seed_reach_the_tests() -> None:
    table = made()
    before = target(table)["comparisons"]["ridge"]
    table.attrs["settings"]["seed"] = 1
    other_seed = target(table)["comparisons"]["ridge"]
    assert other_seed["skill_interval"] != before["skill_interval"]
    assert other_seed["dm_p"] == before["dm_p"]
    table.attrs["settings"] |= {"seed": 0, "resamples": 400}
    assert target(table)["comparisons"]["ridge"]["skill_interval"] != before["skill_interval"]
    table.attrs["settings"]["resamples"] = 100
    table.attrs["targets"]["return_1"]["horizon"] = 5
    assert target(table)["comparisons"]["ridge"]["dm_p"] != before["dm_p"]


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_numbers_have_the_metrics_of_their_kind(report: dict[str, Any]) -> None:
    returns = report["targets"]["return_1"]["forecasts"]["model"]
    volatility = report["targets"]["log_volatility_5"]["forecasts"]["model"]
    assert {"rmse", "mae", "mase", "r2_mean", "r2_zero", "ic", "rank_ic", "directional_accuracy"} <= set(returns)
    assert {"qlike", "r2_log", "rmse", "volatility_rmse", "ic"} <= set(volatility)
    assert not {"r2_zero", "directional_accuracy", "pesaran_timmermann_p"} & set(volatility)
    assert "qlike" not in returns


def test_the_metrics_of_volatilities_are_in_units_of_volatility(three: pd.DataFrame, report: dict[str, Any]) -> None:
    rows = three[three["target"] == "log_volatility_5"]
    error = np.exp(rows["y_true"]) - np.exp(rows["y_har"])
    metrics = report["targets"]["log_volatility_5"]["forecasts"]["HAR"]
    assert metrics["volatility_mae"] == pytest.approx(error.abs().mean(), rel=1e-12)
    assert metrics["mae"] == pytest.approx((rows["y_true"] - rows["y_har"]).abs().mean(), rel=1e-12)
    ratio = np.exp(2 * (rows["y_true"] - rows["y_har"])) / 1.15
    assert metrics["qlike"] == pytest.approx((ratio - np.log(ratio) - 1).mean(), rel=1e-12)
    assert report["targets"]["log_volatility_5"]["comparisons"]["HAR"]["loss_baseline"] == pytest.approx(
        metrics["qlike"]
    )


@pytest.mark.parametrize(
    ("kind", "present"),
    [
        ("return", {"r2_zero", "directional_accuracy", "pesaran_timmermann_p"}),
        ("level", {"directional_accuracy", "pesaran_timmermann_p"}),
        ("value", set()),
    ],
)
def test_signs_and_zeros_mean_something_for_some_kinds_only(kind: str, present: set[str]) -> None:
    table = made(dates=40)
    table.attrs["targets"]["return_1"]["kind"] = kind
    metrics = target(table)["forecasts"]["model"]
    assert {"r2_zero", "directional_accuracy", "pesaran_timmermann_p"} & set(metrics) == present


def test_the_association_of_a_level_is_that_of_its_change() -> None:
    table = made()
    returns = target(table)["forecasts"]["model"]
    table["y_last"] = 100.0 + np.arange(len(table))  # levels far apart, that any forecaster knows
    names = [str(name) for name in table if str(name).startswith("y_") and name != "y_last"]
    table[names] = table[names].add(table["y_last"], axis=0)
    table.attrs["targets"]["return_1"]["kind"] = "level"
    levels = target(table)["forecasts"]["model"]
    for name in ("ic", "rank_ic", "directional_accuracy"):
        assert levels[name] == pytest.approx(returns[name], abs=1e-6)


def test_classes_without_probabilities_have_metrics_but_no_part_in_the_verdict(report: dict[str, Any]) -> None:
    result = report["targets"]["direction_1"]
    assert list(result["forecasts"]) == ["model", "prior", "last value", "logistic"]
    assert set(result["comparisons"]) == {"prior", "logistic"}
    last, prior = result["forecasts"]["last value"], result["forecasts"]["prior"]
    assert "accuracy" in last
    assert "log_loss" not in last
    assert prior["brier_skill"] == pytest.approx(0.0, abs=1e-12)
    assert prior["log_loss"] == pytest.approx(result["comparisons"]["prior"]["loss_baseline"])
    assert "mcnemar_p" not in result["forecasts"]["model"]
    assert all("mcnemar_p" in result["forecasts"][name] for name in ("prior", "last value", "logistic"))


def test_intervals_distribution_and_spread_are_in_the_report(three: pd.DataFrame, report: dict[str, Any]) -> None:
    returns, volatility, direction = (report["targets"][name] for name in NAMES)
    rows = three[three["target"] == "return_1"]
    for level in (50, 80, 90, 95):
        held = (rows["y_true"] >= rows[f"lower_{level}"]) & (rows["y_true"] <= rows[f"upper_{level}"])
        assert returns["intervals"][str(level)]["coverage"] == pytest.approx(held.mean())
    sets = three[three["target"] == "direction_1"]
    hits = [str(int(true)) in given for true, given in zip(sets["y_true"], sets["set_80"], strict=True)]
    assert direction["intervals"]["80"]["coverage"] == pytest.approx(np.mean(hits))
    assert list(direction["intervals"]) == ["50", "80", "90", "95"]
    assert set(returns["distribution"]) == {"crps", "pit", "crps_normal", "head"}
    assert returns["distribution"]["head"]["crps"] == returns["distribution"]["crps_normal"]
    assert list(returns["tail_risk"]) == ["1", "5"]
    assert volatility["tail_risk"] == direction["tail_risk"] == {}
    assert set(volatility["distribution"]) == {"crps", "pit"}
    assert direction["distribution"] == {}
    assert (list(returns["spread"]), list(volatility["spread"])) == (["ensemble_std"], ["mc_std"])
    assert returns["spread"]["ensemble_std"]["mean"] == pytest.approx(rows["ensemble_std"].mean())


# -- breakdowns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_breakdowns_add_up(report: dict[str, Any], name: str) -> None:
    result = report["targets"][name]
    best = result["comparisons"][result["best_baseline"]]
    assert list(result["breakdowns"]) == ["symbol", "year", "regime"]
    for lines in result["breakdowns"].values():
        rows = [line["rows"] for line in lines]
        assert sum(rows) == result["rows"]
        assert np.average([line["loss_model"] for line in lines], weights=rows) == pytest.approx(best["loss_model"])
        baseline = np.average([line["loss_baseline"] for line in lines], weights=rows)
        assert baseline == pytest.approx(best["loss_baseline"])
        for line in lines:
            assert line["skill"] == pytest.approx(1 - line["loss_model"] / line["loss_baseline"])
    wins = [line["loss_model"] < line["loss_baseline"] for line in result["breakdowns"]["symbol"]]
    assert result["win_rate"] == pytest.approx(np.mean(wins))


def test_breakdowns_are_by_year_symbol_and_third_of_volatility() -> None:
    table = made(dates=300)
    result = target(table)
    best = {"zero": "y_zero", "training mean": "y_mean", "ridge": "y_ridge"}[result["best_baseline"]]
    lines = result["breakdowns"]
    assert [line["name"] for line in lines["symbol"]] == ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF"]
    assert [line["name"] for line in lines["year"]] == ["2022", "2023"]
    assert [line["name"] for line in lines["regime"]] == ["calm", "middle", "turbulent"]
    last_year = table[table["as_of"].dt.year == 2023]
    assert lines["year"][1]["rows"] == len(last_year)
    assert lines["year"][1]["loss_model"] == pytest.approx(loss_of(last_year).mean())
    assert lines["year"][1]["loss_baseline"] == pytest.approx(loss_of(last_year, best).mean())
    ordered = table.sort_values("volatility")
    for line, rows in zip(lines["regime"], np.array_split(np.arange(len(ordered)), 3), strict=True):
        assert line["rows"] == len(rows)
        assert line["loss_model"] == pytest.approx(loss_of(ordered.iloc[rows]).mean())


@pytest.mark.parametrize("values", [(0.01,), (0.01, 0.02, 0.03)], ids=["constant", "three_values"])
def test_hardly_any_volatility_makes_no_regimes(values: tuple[float, ...]) -> None:
    table = made(dates=40)
    table["volatility"] = np.resize(values, len(table))
    assert "regime" not in target(table)["breakdowns"]


def test_equal_volatilities_are_shared_out_among_the_thirds() -> None:
    table = made(dates=40)
    table["volatility"] = np.where(np.arange(len(table)) < 9, np.arange(len(table)), 9.0)
    rows = [line["rows"] for line in target(table)["breakdowns"]["regime"]]
    assert max(rows) - min(rows) <= 1


def test_a_group_in_which_the_best_baseline_has_no_loss_has_no_skill() -> None:
    """A symbol whose trading was suspended: its return is exactly 0, and so is the forecast that is hardest to beat."""
    table = made(dates=60, skill=0.0)
    table.loc[table["symbol"] == "CCC", "y_true"] = 0.0
    attrs = table.attrs
    table = table.assign(y_zero=table["y_true"] * 0.5)  # the best one by far
    table.attrs = attrs
    report = evaluate(table)
    json.dumps(report, allow_nan=False)
    result = report["targets"]["return_1"]
    assert result["best_baseline"] == "zero"
    lines = {line["name"]: line for line in result["breakdowns"]["symbol"]}
    assert (lines["CCC"]["loss_baseline"], lines["CCC"]["skill"]) == (0.0, None)
    assert lines["AAA"]["skill"] is not None


# -- the strategy ------------------------------------------------------------------------------------------------------


def test_returns_and_classes_are_traded(report: dict[str, Any]) -> None:
    returns, volatility, direction = (report["targets"][name]["strategy"] for name in NAMES)
    assert volatility is None
    assert (returns["cost_bp"], returns["trials"], returns["bars"]) == (10.0, 3, report["targets"]["return_1"]["dates"])
    assert direction["mean_exposure"] > 0


@pytest.mark.parametrize("kind", ["level", "value", "volatility"])
def test_other_kinds_than_returns_and_classes_are_not_traded(kind: str) -> None:
    table = made(dates=40)
    names = [str(name) for name in table if str(name).startswith("y_")]
    table[names] = np.exp(table[names])
    table.attrs["targets"]["return_1"] |= {"kind": kind}
    assert target(table)["strategy"] is None


def test_settings_of_the_strategy_change_nothing_else() -> None:
    table = made(symbols=tuple("ABCDEFG"))
    before = target(table)
    table.attrs["settings"] |= {"position": "rank", "fee_bp": 0.0, "half_spread_bp": 2.5}
    table.attrs["trials"] = 50
    after = target(table)
    was, now = before.pop("strategy"), after.pop("strategy")
    assert after == before | {"selection": {"trials": 50, "spa_p": None}}
    assert "third" in now["rule"]
    assert (now["cost_bp"], now["trials"]) == (2.5, 50)
    assert now["gross_annual_return"] != was["gross_annual_return"]


def test_the_classes_of_a_direction_reach_the_strategy() -> None:
    """Of three classes the middle one is flat: a model that always says 1 trades nothing."""
    table = made("class", dates=60)
    table["y_pred"] = 1.0
    result = target(table)["strategy"]
    assert result["mean_exposure"] == 0.0
