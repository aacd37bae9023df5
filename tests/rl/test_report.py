"""The evaluation in words and plots."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.evaluation.json_types import Uses
from cnn_lstm.rl.metrics import AgentMetrics, Claim
from cnn_lstm.rl.plots import draw_episode, draw_returns
from cnn_lstm.rl.report import ALL_SEEDS, COLUMNS, EvaluationReport, evaluation_page, evaluation_text
from cnn_lstm.rl.settings import AgentSettings, MarketSettings

RULES = ("buy and hold", "flat", "sign of return_1")


def evaluation(seeds: int = 2, rules: tuple[str, ...] = RULES, trials: int = 3) -> EvaluationReport:
    metrics = AgentMetrics(**dict.fromkeys((field.name for field in fields(AgentMetrics)), 0.1234))
    metrics = replace(metrics, net_annual_return=-0.0512, annual_turnover=31.4)
    return EvaluationReport(
        symbols=["IBM"],
        bars=500,
        first="2020-01-01 00:00:00",
        last="2021-01-01 00:00:00",
        cost_bp=10.0,
        trials=trials,
        claim=Claim(evidence=False, weakest="flat", probability=0.5, same=[], sentence="No evidence."),
        agents={f"seed {seed}": metrics for seed in range(seeds)},
        together=metrics,
        rules={name: replace(metrics, sharpe=None) for name in rules},
        random={"net_annual_return": [-0.01, 0.0, 0.02]},
        test_rows_used=Uses(times=1, models=1),
        dates_without_forecast=0,
        in_sample_rows=0,
        settings={"market": MarketSettings(), "agent": AgentSettings()},
    )


def returns(report: EvaluationReport) -> pd.DataFrame:
    names = [*report.agents, ALL_SEEDS, *report.rules]
    dates = pd.date_range("2020-01-01", periods=5, tz="UTC", name="date")
    return pd.DataFrame({name: np.full(5, 0.01) for name in names}, index=dates)


def test_all_metrics_of_the_table_have_their_units() -> None:
    report = evaluation()
    text, page = evaluation_text(report), evaluation_page(report, returns(report), "ppo")
    row = next(line for line in text.splitlines() if line.startswith("seed 1"))
    assert row.split()[2:] == ["-5.1%", "0.1234", "0.1234", "12.3%", "12.3%", "31.4", "12.3%"]
    cells = re.search(r'<th scope="row">seed 1</th>(.*?)</tr>', page)
    assert cells is not None
    assert re.findall(r"<td>(.*?)</td>", cells[1]) == row.split()[2:]
    for title, short, _ in COLUMNS.values():
        assert f'<th scope="col">{title}</th>' in page
        assert short in text
    assert "90 of 100 between -1.0% and +2.0%" in text


def test_the_table_scrolls_and_keeps_its_header_on_a_phone() -> None:
    report = evaluation()
    page = evaluation_page(report, returns(report), "ppo").split("</style>")[1]
    assert '<table class="words">' not in page  # words are stacked without their header there
    assert re.search(r'<div class="box"[^>]*>\s*<table>', page)
    assert f'<tr class="model"><th scope="row">{ALL_SEEDS}' in page


def test_a_single_seed_or_trial_is_written_in_the_singular() -> None:
    one = evaluation(seeds=1, trials=1)
    text, page = evaluation_text(one), evaluation_page(one, returns(one), "ppo")
    for output in (text, page):
        assert ALL_SEEDS not in output
        assert not re.search(r"\b1 (seeds|trials)", output)
        assert "by the agents one trial" in output
    assert "over 2 seeds" in evaluation_text(evaluation())
    assert "all 3 trials" in evaluation_text(evaluation())


@pytest.mark.parametrize(("rules", "explained"), [(RULES, False), (RULES[:2], True)], ids=["tradable", "not tradable"])
def test_a_missing_rule_is_explained(rules: tuple[str, ...], explained: bool) -> None:
    report = evaluation(rules=rules)
    for output in (evaluation_text(report), evaluation_page(report, returns(report), "ppo")):
        assert ("no rule that follows the sign of the forecasts" in output) is explained


def test_curves_that_coincide_stay_visible() -> None:
    report = evaluation()
    figure = draw_returns(returns(report), ALL_SEEDS)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert {"single seeds", ALL_SEEDS, *RULES} <= set(lines)
    assert np.asarray(lines[ALL_SEEDS].get_ydata())[-1] == pytest.approx(5.0)  # percent
    agents, rules = [lines["single seeds"], lines[ALL_SEEDS]], [lines[name] for name in RULES]
    assert lines["single seeds"].get_zorder() > lines[ALL_SEEDS].get_zorder()
    for line in rules:
        assert line.is_dashed()
        assert line.get_zorder() > max(agent.get_zorder() for agent in agents)
        assert line.get_linewidth() < lines[ALL_SEEDS].get_linewidth()
    dashes = {vars(line)["_unscaled_dash_pattern"][1] for line in rules}  # matplotlib has no public way to read them
    assert len(dashes) == len({line.get_color() for line in rules}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [ALL_SEEDS, "single seeds", *RULES]


def test_a_name_in_the_legend_is_short_and_not_a_formula() -> None:
    report = evaluation(rules=("flat", "sign of a$b$" + "x" * 40))
    figure = draw_returns(returns(report), ALL_SEEDS)
    assert figure.legends[0].get_texts()[-1].get_text() == r"sign of a\$b\$xxxxxxxxxxxxx…"


@pytest.mark.parametrize("count", [1, 3])
def test_an_episode_is_drawn_on_all_its_dates(count: int) -> None:
    dates = np.arange("2020-01-01", "2020-04-10", dtype="datetime64[D]")
    weights = np.array([[0.0], [1.0], [-1.0]])[:count]
    figure = draw_episode(dates[:count], np.full((count, 1), 2.0), weights, np.ones(count), ("IBM",), dates[-1])
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert -4 < low - dates[0].astype(int) < 0 < high - dates[-1].astype(int) < 4
        assert np.asarray(axes.collections[0].get_offsets())[0][0] == dates[0].astype(int)  # the dot at the start
    assert figure.axes[1].get_ylim() == (-1.1, 1.1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["IBM"]
    figure.draw_without_rendering()
    assert len({label.get_fontsize() for axes in figure.axes for label in axes.get_yticklabels()}) == 1
    middles = [(box.x0 + box.x1) / 2 for box in (axes.yaxis.label.get_window_extent() for axes in figure.axes)]
    assert np.ptp(middles) < 1.0
