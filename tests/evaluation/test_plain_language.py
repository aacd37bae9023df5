"""Plain words say what the metrics say."""

from __future__ import annotations

from typing import Any

import pytest

from cnn_lstm.evaluation.plain_language import (
    answer_lines,
    interval_sentence,
    linear_sentence,
    power_sentence,
    rows_under_test,
    strategy_sentences,
    tail_risk_sentence,
    uses_sentence,
    verdict_sentence,
)

STRATEGY: Any = {
    "rule": "long above 0",
    "bars": 500,
    "cost_bp": 10.0,
    "sharpe": 0.5,
    "sharpe_se": 0.7,
    "dsr": 0.4,
    "trials": 3,
    "random_sign_p": 0.25,
    "break_even_cost_bp": 12.0,
    "unknown_returns": 0,
}


def target(skill: float | None, evidence: bool = False, p: float | None = 0.04, **changes: Any) -> Any:
    compared = {"skill": skill, "skill_interval": [-0.02, 0.06], "dm_p": 0.01, "bootstrap_p": p}
    given: dict[str, Any] = {"rows": 1200, "dates": 300, "dates_needed": 30, "loss": "QLIKE"}
    given |= {"evidence": evidence, "best_baseline": "HAR-X"}
    return given | {"comparisons": {"HAR-X": compared | changes}}


@pytest.mark.parametrize(
    ("given", "expected", "missing"),
    [
        (target(0.021, True), "2.1% lower than that of the best simple method, HAR-X. If", "luck cannot"),
        (target(0.021, True), "by chance in about 40 of 1,000 such tests", "safer"),
        (target(0.021), "but luck cannot be ruled out", "That speaks"),
        (target(0.021), "anything from -2.0% to +6.0%", "That speaks"),
        (
            target(0.021, skill_interval=[0.002, 0.04]),
            "between +0.2% and +4.0%, the two tests do not both exclude luck",
            "from",
        ),
        (target(0.021, skill_interval=[None, None]), "its range is not known", "from"),
        (target(0.021, p=None), "an unknown share of such tests", "0.01"),
        (target(-0.3), "30.0% higher than that of the best simple method, HAR-X. Nothing", "chance"),
        (target(0.0), "practically the same as that of the best simple method", "0.0%"),
        (target(0.0004), "practically the same as", "0.0%"),
        (target(None), "HAR-X made no error at all", "luck"),
    ],
)
def test_the_sentence_fits_the_verdict(given: Any, expected: str, missing: str) -> None:
    sentence = verdict_sentence(given)
    assert expected in sentence
    assert missing not in sentence
    assert "1,200 forecasts" in sentence


def test_few_dates_are_named_where_all_else_speaks_for_the_model() -> None:
    few = target(0.021) | {"dates": 29}
    assert "a test of 29 dates is too short to tell skill from luck: at least 30 are needed" in verdict_sentence(few)
    assert "too short" not in verdict_sentence(few | {"dates": 30})


def test_fewer_rows_and_dates_of_the_best_baseline_are_those_of_the_sentence() -> None:
    few = target(0.021, rows=700, dates=29)
    assert "On 700 forecasts" in verdict_sentence(few)
    assert "a test of 29 dates is too short" in verdict_sentence(few)


@pytest.mark.parametrize(
    ("smallest", "expected"),
    [
        (0.0584, ["this test could have found a skill of 5.8% or more over HAR-X in 8 of 10 such tables"]),
        (1.0, ["this test is too short for any skill over HAR-X to be found in 8 of 10 such tables"]),
        (None, []),
    ],
)
def test_the_smallest_skill_is_said_where_it_is_known(smallest: float | None, expected: list[str]) -> None:
    assert list(power_sentence(target(0.1, smallest_skill=smallest))) == expected


def test_older_reports_have_no_answers_to_print() -> None:
    assert list(answer_lines(target(0.1))) == []


@pytest.mark.parametrize(
    ("skill", "expected"),
    [
        (0.021, "QLIKE 2.1% below that of the linear part alone (95% interval of the skill -2.0% to +6.0%, "),
        (-0.3, "QLIKE 30.0% above that of the linear part alone"),
        (0.0, "QLIKE equal to that of the linear part alone"),
        (None, "no ratio, the linear part alone has no QLIKE"),
    ],
)
def test_what_the_network_adds_to_its_linear_part_is_one_line(skill: float | None, expected: str) -> None:
    given = target(0.1)
    assert list(linear_sentence(given)) == []
    given["comparisons"]["linear part"] = target(skill)["comparisons"]["HAR-X"]
    (line,) = linear_sentence(given)
    assert line.startswith("what the network adds to its linear part: ")
    assert expected in line
    assert line in answer_lines(given)


def test_leakage_outweighs_all_metrics() -> None:
    sentence = verdict_sentence(target(0.5, True), ["L2", "L3.1"])
    assert "L2, L3.1" in sentence
    assert "lower" not in sentence


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [(0.921, "wider than"), (0.919, "within 2 points"), (0.881, "within 2 points"), (0.879, "too narrow")],
)
def test_intervals_are_judged_by_2_points(coverage: float, expected: str) -> None:
    given: Any = {"intervals": {"90": {"coverage": coverage, "mean_width": 1.0}}}
    sentence = interval_sentence(given, "90")
    assert expected in sentence
    assert f"{coverage * 100:.1f}" in sentence


def test_sets_say_how_many_classes_they_name() -> None:
    given: Any = {"intervals": {"80": {"coverage": 0.825, "mean_size": 2.44}}, "classes": 3}
    assert "in 80 of 100 cases; they held it in 82.5 and named 2.4 of 3 classes" in interval_sentence(given, "80")


def test_an_interval_without_rows_has_no_sentence() -> None:
    given: Any = {"intervals": {"90": {"coverage": None}}}
    assert interval_sentence(given, "90") == ""


@pytest.mark.parametrize(
    ("p", "expected"), [(0.049, "the forecast of the tail is wrong"), (0.051, "do not speak against"), (None, "do not")]
)
def test_the_tail_is_judged_by_number_and_clusters(p: float | None, expected: str) -> None:
    given: Any = {"tail_risk": {"5": {"breach_rate": 0.0623, "breaches": 31, "conditional_p": p}}}
    sentence = tail_risk_sentence(given, "5")
    assert "in 5 of 100 cases; it did in 6.2, 31 times" in sentence
    assert expected in sentence
    given["tail_risk"]["5"]["breach_rate"] = None
    assert tail_risk_sentence(given, "5") == ""


@pytest.mark.parametrize(
    ("horizon", "nth"), [(2, "2nd"), (3, "3rd"), (11, "11th"), (12, "12th"), (21, "21st"), (22, "22nd"), (111, "111th")]
)
def test_rows_apart_are_counted_in_english(horizon: int, nth: str) -> None:
    given: Any = {"horizon": horizon, "symbols": 1}
    assert rows_under_test(given) == f"every {nth} row of a symbol"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "0.50 with a standard error of 0.70. By the 500 bars of this test it cannot be distinguished from zero"),
        (
            {"sharpe": -1.5},
            "-1.50 with a standard error of 0.70. By the 500 bars of this test it can be distinguished from zero",
        ),
        ({}, "3 models were tried to find this one"),
        ({}, "above zero is 40.0%"),
        ({"trials": 1}, "This model counts as the only one that was tried"),
        ({}, "about 25 of 100 books"),
        ({}, "at a cost of 12 basis points per side, above the 10 that"),
        ({"break_even_cost_bp": 8.0}, "at a cost of 8 basis points per side, below the 10 that"),
        ({"break_even_cost_bp": -1.0}, "loses before any cost"),
        ({"unknown_returns": 1500}, "1,500 bars have no known return"),
    ],
)
def test_the_sentences_fit_the_strategy(changes: dict[str, Any], expected: str) -> None:
    assert expected in " ".join(strategy_sentences(STRATEGY | changes))


def test_missing_metrics_of_a_strategy_have_no_sentence() -> None:
    missing = dict.fromkeys(("sharpe", "sharpe_se", "dsr", "random_sign_p", "break_even_cost_bp"))
    assert len(list(strategy_sentences(STRATEGY | missing))) == 2


def test_one_model_tested_twice_is_no_untouched_test() -> None:
    assert "used 2 times by 1 model." in uses_sentence({"times": 2, "models": 1})
