"""The report of `rl evaluate`, as a record and in words: for a terminal and for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cnn_lstm.evaluation.canvas import finished_plot
from cnn_lstm.evaluation.formatting import number, percent
from cnn_lstm.evaluation.json_types import Uses
from cnn_lstm.evaluation.plain_language import probability, signed, uses_sentence
from cnn_lstm.hints import counted
from cnn_lstm.pages.environment import page_environment
from cnn_lstm.rl.metrics import AgentMetrics, Claim
from cnn_lstm.rl.plots import draw_returns
from cnn_lstm.rl.settings import AgentSettings, MarketSettings

ALL_SEEDS = "all seeds together"
# columns of the table: title on the page, title in a terminal, how to write it
COLUMNS = {
    "net_annual_return": ("return per year, after costs", "return/year", signed),
    "sharpe": ("Sharpe ratio", "Sharpe", number),
    "sharpe_se": ("its standard error", "std error", number),
    "dsr": ("deflated Sharpe ratio (DSR)", "DSR", probability),
    "max_drawdown": ("largest drawdown", "drawdown", percent),
    "annual_turnover": ("turnover per year, in stakes", "turnover/year", number),
    "mean_exposure": ("mean exposure", "exposure", percent),
}
FORECASTS = "sign of "  # how the name of the rule that follows the forecasts begins


@dataclass(frozen=True)
class EvaluationReport:
    """What agents are worth on the test part; evaluation.json holds it under the same names.

    Attributes:
        symbols: Traded symbols.
        bars: Number of bars.
        first: First date.
        last: Last date.
        cost_bp: Cost in basis points of what is traded, per side.
        trials: Number of trials that the deflated Sharpe ratio pays for: the models that were judged on these rows, and
            the other settings that a sweep has tried.
        claim: What may be claimed of all agents together.
        agents: Metrics of each agent, by name.
        together: Metrics of all agents together.
        rules: Metrics of the simple rules, by name.
        random: What the same positions earn at random other times: of `net_annual_return`, the return per year after
            costs, the 5%, 50% and 95% quantile.
        test_rows_used: How often the test rows were used so far.
        in_sample_rows: Rows in the agents' training that come from a model's training dates.
        dates_without_forecast: Dates of the test part that are not judged, since they have no forecast to show.
        settings: Settings of `market` and `agent`.
    """

    symbols: list[str]
    bars: int
    first: str
    last: str
    cost_bp: float
    trials: int
    claim: Claim
    agents: dict[str, AgentMetrics]
    together: AgentMetrics
    rules: dict[str, AgentMetrics]
    random: dict[str, list[float | None]]
    test_rows_used: Uses
    in_sample_rows: int
    dates_without_forecast: int
    settings: dict[str, MarketSettings | AgentSettings]


def evaluation_text(report: EvaluationReport) -> str:
    """The evaluation for a terminal.

    Args:
        report: The report.
    """
    rows = _rows(report)
    width, titles = max(map(len, rows)), [short for _, short, _ in COLUMNS.values()]
    table = [
        " ".join([f"{name:<{width}}", *(f"{cell:>13}" for cell in cells)])
        for name, cells in {"": titles, **rows}.items()
    ]
    return "\n".join([report.claim.sentence, "", _market(report), *table, *_remarks(report)]) + "\n"


def evaluation_page(report: EvaluationReport, net: pd.DataFrame, title: str) -> str:
    """The evaluation for a browser, in one file.

    Args:
        report: The report.
        net: Net returns after costs by date, one column per agent and rule.
        title: Name of the agents.
    """
    main = _main(report)
    seeds = "" if main in report.agents else ", single seeds in light blue"
    plot = finished_plot(
        draw_returns(net if seeds else net.drop(columns=ALL_SEEDS), main),
        "Summed returns after costs",
        f"Dark blue: {main}{seeds}. Dashed, and above them where they meet: the simple rules.",
        "net return of agents and rules, summed over the test dates",
    )
    template = page_environment(Path(__file__).parent).get_template("evaluation.html.jinja")
    return template.render(
        title=title,
        first=_market(report),
        claim=report.claim,
        drawn=plot,
        columns=[title for title, _, _ in COLUMNS.values()],
        lines=_rows(report),
        main=main,
        remarks=list(_remarks(report)),
    )


def _market(report: EvaluationReport) -> str:
    return (
        f"{counted(report.bars, 'bar')}, {report.first[:10]} to {report.last[:10]}, {', '.join(report.symbols)}; "
        f"{report.cost_bp:g} bp of what is traded, each side; profits not reinvested"
    )


def _main(report: EvaluationReport) -> str:
    """Name of all agents together, or of the only agent."""
    return ALL_SEEDS if len(report.agents) > 1 else next(iter(report.agents))


def _rows(report: EvaluationReport) -> dict[str, list[str]]:
    """The cells of the table, by the name of the row."""
    everyone = {**report.agents, _main(report): report.together, **report.rules}
    return {
        name: [write(getattr(metrics, column)) for column, (_, _, write) in COLUMNS.items()]
        for name, metrics in everyone.items()
    }


def _remarks(report: EvaluationReport) -> Iterator[str]:
    """What has to be known before the table is believed."""
    low, middle, high = report.random["net_annual_return"]
    yield (
        f"The same positions at random other times, with the same turnover and exposure: {signed(middle)} per year, 90 "
        f"of 100 between {signed(low)} and {signed(high)}."
    )
    net = [metrics.net_annual_return for metrics in report.agents.values()]
    known = [value for value in net if value is not None]
    if len(net) > 1 and len(known) == len(net):
        mean = signed(sum(known) / len(known))
        yield f"Return per year over {len(known)} seeds: {signed(min(known))} to {signed(max(known))}, mean {mean}."
    if not any(name.startswith(FORECASTS) for name in report.rules):
        yield (
            "There is no rule that follows the sign of the forecasts: the forecaster has no target that can be traded, "
            "a return or a direction."
        )
    if report.dates_without_forecast:
        yield (
            f"Dates of the test part that are left out, since they have no forecast of every symbol to show: "
            f"{report.dates_without_forecast:,}."
        )
    if report.in_sample_rows:
        yield (
            f"The agents learnt from {counted(report.in_sample_rows, 'row')} of a model's own training dates, which "
            "look better than what they see here (market.in_sample)."
        )
    yield uses_sentence(report.test_rows_used)
    paid = "one trial" if report.trials == 1 else f"all {report.trials:,} trials"
    yield (
        "The deflated Sharpe ratio (DSR) is the probability that the true Sharpe ratio is above zero, once trials are "
        f"paid for: by the agents {paid}, by a rule itself alone."
    )
    yield "A simulation on past prices: fills at the close, no market impact, borrowing, financing or taxes."
