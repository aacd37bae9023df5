"""The report as text: the verdict first, every forecaster, what is missing as a dash."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from cnn_lstm.evaluation.formatting import TITLES, number, p_value, percent
from cnn_lstm.evaluation.json_types import Report
from cnn_lstm.evaluation.plain_language import suspicions
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.text import render_report
from tests.evaluation.tables import predictions_table

NAMES = ("return_1", "log_volatility_5", "direction_1")


@pytest.fixture(scope="module")
def report() -> Report:
    table = predictions_table(("return", "log_volatility", "class"), dates=130, resamples=100)
    table.loc[table.index[::50], "y_true"] = float("nan")
    return evaluate(table)


@pytest.fixture
def one(report: Report) -> Any:
    """A report of returns alone, to be changed."""
    targets = {"return_1": deepcopy(report["targets"]["return_1"])}
    return {**report, "targets": targets}


def line_of(text: str, start: str) -> str:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line


def block_of(text: str, name: str) -> str:
    """What follows a target's headline."""
    return text.split(f"\n\n{name}: ")[1]


def test_the_verdicts_of_all_targets_come_first_each_with_two_questions(report: Report) -> None:
    lines = iter(render_report(report).splitlines())
    for name, target in report["targets"].items():
        assert next(lines) == f"{target['verdict']}: {name}"
        assert next(lines) == f"  {target['reason']}"
        for question, key in (
            ("skill over naive forecasts", "over_naive"),
            ("better than the best fitted baseline", "over_fitted"),
        ):
            answer: Any = target[key]  # type: ignore[literal-required]  # the key is a variable
            assert next(lines) == f"  {question}: {'yes' if answer['evidence'] else 'no'}; {answer['reason']}"
        smallest = target["comparisons"][target["best_baseline"]]["smallest_skill"]
        assert smallest is not None
        assert next(lines) == (
            f"  this test could have found a skill of {smallest:.1%} or more over {target['best_baseline']} in 8 of 10 "
            "such tables"
        )
    assert next(lines) == ""


def test_an_answer_that_does_not_exist_is_not_printed(one: Any) -> None:
    one["targets"]["return_1"] |= {"over_fitted": None}
    text = render_report(one)
    assert "skill over naive forecasts: " in text
    assert "fitted baseline" not in text


def test_rows_are_printed_only_where_they_differ(one: Any) -> None:
    assert "rows" not in block_of(render_report(one), "return_1").split("\n\n")[1]
    one["targets"]["return_1"]["forecasts"]["ridge"]["rows"] = 573
    block = block_of(render_report(one), "return_1").split("\n\n")[1]
    assert block.splitlines()[0].endswith("rows")
    assert line_of(block, "ridge").endswith("  573")
    assert line_of(block, "zero").endswith(f"  {one['targets']['return_1']['rows']:,}")
    assert "judged, and the model against it, on the rows that it knows" in block


def test_evidence_is_printed_as_evidence(one: Any) -> None:
    one["targets"]["return_1"]["verdict"] = "EVIDENCE OF SKILL"
    assert render_report(one).startswith("EVIDENCE OF SKILL: return_1\n")


@pytest.mark.parametrize("name", NAMES)
def test_every_forecaster_stands_in_the_table(report: Report, name: str) -> None:
    target = report["targets"][name]
    block = block_of(render_report(report), name).split("\n\n")[1]
    best = target["best_baseline"]
    for forecaster, metrics in target["forecasts"].items():
        line = line_of(block, f"{forecaster} * " if forecaster == best else f"{forecaster} ")
        compared = target["comparisons"].get(forecaster)
        cells = line.replace(" * ", " ").removeprefix(forecaster).split()
        ends = (
            [number(compared["skill"]), p_value(compared["dm_p"]), p_value(compared["bootstrap_p"])]
            if compared
            else 3 * ["-"]
        )
        assert cells[-3:] == ends
        first = {"return_1": "rmse", "log_volatility_5": "qlike", "direction_1": "log_loss"}[name]
        assert cells[0] == number(metrics.get(first))
    assert block.count(" *") == 1
    assert f"best baseline by {target['loss']}" in block


def test_columns_suit_the_kind(report: Report) -> None:
    text = render_report(report)
    heads = {name: block_of(text, name).split("\n\n")[1].splitlines()[0] for name in NAMES}
    assert "hit rate" in heads["return_1"]
    assert "QLIKE" in heads["log_volatility_5"]
    assert "hit rate" not in heads["log_volatility_5"]
    assert "log loss" in heads["direction_1"]
    assert "RMSE" not in heads["direction_1"]
    assert not any(name in head.split() for head in heads.values() for name in TITLES if "_" in name)


@pytest.mark.parametrize("kind", ["level", "value", "volatility"])
def test_levels_values_and_volatilities_have_a_text_without_a_strategy(one: Any, kind: str) -> None:
    one["targets"]["return_1"] |= {"kind": kind, "strategy": None}
    text = render_report(one)
    assert "model" in text
    assert "strategy" not in text


def test_the_headline_counts_forecasts_symbols_and_dates(one: Any) -> None:
    one["targets"]["return_1"] |= {"rows": 1234, "symbols": 2, "dates": 178, "left_out": 1050}
    target = one["targets"]["return_1"]
    days = f"{target['first'][:10]}..{target['last'][:10]}"
    start = f"return_1: 1,234 forecasts of 2 symbols on 178 dates, {days}"
    assert f"\n{start}, 1,050 left out\n" in render_report(one)
    target["left_out"] = 0
    assert f"\n{start}\n" in render_report(one)


def test_what_has_no_value_is_a_dash(one: Any) -> None:
    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: emptied(item) for key, item in value.items()}
        return None if isinstance(value, float) else value

    target = one["targets"]["return_1"]
    for name in ("forecasts", "comparisons", "intervals", "distribution", "spread", "strategy"):
        target[name] = emptied(target[name])
    for line in (line for lines in target["breakdowns"].values() for line in lines):
        line |= {"loss_model": None, "loss_baseline": None, "skill": None}
    text = render_report(one)
    cells = line_of(block_of(text, "return_1"), "model  ").split()[1:]
    assert set(cells) == {"-"}
    assert "Sharpe - (standard error -), PSR -, DSR - for the best of 3" in text
    assert "net return - per year (gross -)" in text
    body = text.partition("\n\n")[2]
    assert not {"None", "nan"} & set(body.replace(",", " ").replace("%", " ").split())


def test_a_high_correlation_of_returns_is_suspicious(one: Any) -> None:
    target = one["targets"]["return_1"]
    for ic, suspicious in ((0.101, True), (0.1, False), (-0.5, False), (None, False)):
        target["forecasts"]["model"]["ic"] = ic
        assert ("suspiciously high" in render_report(one)) == suspicious
        assert len(list(suspicions(target))) == suspicious
    target["forecasts"]["model"]["ic"] = 0.234
    assert "\nIC 0.23 is suspiciously high for returns" in render_report(one)
    target["kind"] = "value"
    assert not list(suspicions(target))


def test_years_and_regimes_are_compared_with_the_best_baseline(one: Any) -> None:
    target = one["targets"]["return_1"]
    text = render_report(one)
    for kind in ("year", "regime"):
        for line in target["breakdowns"][kind]:
            cells = line_of(text, f"{kind} {line['name']} ").split()
            metrics = [number(line[name]) for name in ("loss_model", "loss_baseline", "skill")]
            assert cells[2:] == [str(line["rows"]), *metrics]
    assert "symbol AAA" not in text  # there may be thousands
    assert f"lower squared error than {target['best_baseline']} for {target['win_rate']:.0%} of the symbols" in text
    del target["breakdowns"]["regime"]
    assert "regime" not in render_report(one)


def test_intervals_are_printed_with_coverage_width_and_score(one: Any, report: Report) -> None:
    target = one["targets"]["return_1"]
    for level, metrics in target["intervals"].items():
        cells = line_of(render_report(one), f"{level}% ").split()
        names = ("coverage", "mean_width", "winkler")
        assert cells[1:] == [*(number(metrics[name]) for name in names), p_value(metrics["kupiec_p"])]
    assert f"CRPS {number(target['distribution']['crps'])}, PIT" in render_report(one)
    assert "ensemble_std: mean " in render_report(one)
    sets = block_of(render_report(report), "direction_1").partition("conformal intervals\n")[2]
    assert sets.splitlines()[0].split() == ["coverage", "classes", "Kupiec", "p"]
    target["intervals"] = {}
    assert "conformal" not in render_report(one)


def test_intervals_are_printed_without_scores_too(one: Any) -> None:
    target = one["targets"]["return_1"]
    target["distribution"] = {"crps_normal": 0.1}
    assert "conformal intervals" in render_report(one)


def test_the_strategy_is_printed_with_its_costs_and_benchmarks(one: Any) -> None:
    target = one["targets"]["return_1"]["strategy"]
    text = render_report(one)
    assert f"strategy after {number(target['cost_bp'])} bp per side: {target['rule']}\n" in text
    assert f"net return {percent(target['net_annual_return'])} per year" in text
    assert f"(gross {percent(target['gross_annual_return'])})" in text
    assert f"drawdown {percent(target['max_drawdown'])}" in text
    assert f"PSR {number(target['psr'])}, DSR {number(target['dsr'])} for the best of {target['trials']}" in text
    assert f"random signs earn as much with p {p_value(target['random_sign_p'])}" in text
    assert f"same exposure: {percent(target['buy_and_hold']['net_annual_return'])} per year" in text


def test_numbers_are_written_with_few_digits() -> None:
    assert (number(0.0), number(123456.0), number(7)) == ("0", "1.235e+05", "7")
    assert (p_value(0.001), p_value(0.00099999), p_value(1.0)) == ("0.001", "<0.001", "1.000")
    assert (percent(None), percent(0.12345), percent(-0.5)) == ("-", "12.3%", "-50.0%")


def test_the_distribution_of_the_head_and_its_tail_are_printed(one: Any) -> None:
    target = one["targets"]["return_1"]
    text = render_report(one)
    head, tail = target["distribution"]["head"], target["tail_risk"]["5"]
    assert "distribution of the model's head, normal\n" in text
    assert line_of(text.split("head, normal")[1], "CRPS") == (
        f"CRPS {number(head['crps'])}, PIT Kolmogorov-Smirnov p {p_value(head['pit']['ks_p'])}"
    )
    block = text.split("value at risk and expected shortfall, every row, p-values of the symbols' tests merged\n")[1]
    assert line_of(block, "5%").split() == [
        "5%",
        f"{tail['rows']:,}",
        str(tail["breaches"]),
        percent(tail["breach_rate"]),
        *(p_value(tail[name]) for name in ("kupiec_p", "independence_p", "conditional_p")),
        number(tail["shortfall_z2"]),
        p_value(tail["shortfall_p"]),
    ]


def test_quantiles_without_shortfall_have_a_dash(one: Any) -> None:
    one["targets"]["return_1"]["tail_risk"]["5"] |= {"shortfall_z2": None, "shortfall_p": None}
    assert line_of(render_report(one).split("value at risk")[1], "5%").split()[-2:] == ["-", "-"]


def test_without_a_distribution_there_is_no_block(one: Any) -> None:
    target = one["targets"]["return_1"]
    target["tail_risk"] = {}
    del target["distribution"]["head"]
    text = render_report(one)
    assert "value at risk" not in text
    assert "head" not in text
