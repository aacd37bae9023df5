"""What `rl evaluate` found, in words: for a terminal and for a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.evaluation.formatting import number, percent
from cnn_lstm.evaluation.plain_language import probability, signed, uses_sentence
from cnn_lstm.pages.environment import Plot, page_environment
from cnn_lstm.rl.plots import draw_returns, svg_address

TOGETHER = "all seeds together"
# columns of the table: title on the page, title in a terminal, how to write it
COLUMNS = {
    "net_annual_return": ("return a year, after costs", "return/year", signed),
    "sharpe": ("Sharpe ratio", "Sharpe", number),
    "sharpe_se": ("its standard error", "std error", number),
    "dsr": ("deflated Sharpe ratio (DSR)", "DSR", probability),
    "max_drawdown": ("largest drawdown", "drawdown", percent),
    "annual_turnover": ("turnover a year, in stakes", "turnover/year", number),
    "mean_exposure": ("mean exposure", "exposure", percent),
}
FORECASTS = "sign of "  # how the name of the rule that follows the forecasts begins


def evaluation_text(report: Mapping[str, Any]) -> str:
    """The evaluation for a terminal.

    Args:
        report: Plain values of evaluation.json.
    """
    rows = _rows(report)
    names, titles = max(map(len, rows)), [short for _, short, _ in COLUMNS.values()]
    table = [_line("", titles, names), *(_line(name, cells, names) for name, cells in rows.items())]
    return "\n".join([report["claim"]["sentence"], "", _market(report), *table, *_remarks(report)]) + "\n"


def _line(name: str, cells: Sequence[str], width: int) -> str:
    return " ".join([f"{name:<{width}}", *(f"{cell:>13}" for cell in cells)])


def evaluation_page(report: Mapping[str, Any], bars: pd.DataFrame, title: str) -> str:
    """The evaluation for a browser, in one file.

    Args:
        report: Plain values of evaluation.json.
        bars: Net returns after costs, one column each, by date.
        title: Name of the agents.
    """
    main = _main(report)
    seeds = "" if main in report["agents"] else ", single seeds in light blue"
    drawn = Plot(
        "Summed returns after costs",
        f"Dark blue: {main}{seeds}. Dashed, and above them where they meet: the simple rules.",
        "net return of agents and rules, summed over the test dates",
        svg_address(draw_returns(bars if seeds else bars.drop(columns=TOGETHER), main)),
    )
    template = page_environment(Path(__file__).parent).get_template("evaluation.html.jinja")
    return template.render(
        title=title,
        first=_market(report),
        evidence=report["claim"]["evidence"],
        sentence=report["claim"]["sentence"],
        drawn=drawn,
        columns=[title for title, _, _ in COLUMNS.values()],
        lines=_rows(report),
        main=main,
        remarks=list(_remarks(report)),
    )


def _market(report: Mapping[str, Any]) -> str:
    return (
        f"{report['bars']:,} bars, {report['first'][:10]} to {report['last'][:10]}, {', '.join(report['symbols'])}; "
        f"{report['cost_bp']:g} bp of what is traded, each side; profits not reinvested"
    )


def _main(report: Mapping[str, Any]) -> str:
    """Name of all agents, or of the only one."""
    return TOGETHER if len(report["agents"]) > 1 else next(iter(report["agents"]))


def _rows(report: Mapping[str, Any]) -> dict[str, list[str]]:
    everyone = {**report["agents"], _main(report): report["together"], **report["rules"]}
    return {
        name: [write(metrics[column]) for column, (_, _, write) in COLUMNS.items()]
        for name, metrics in everyone.items()
    }


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    low, middle, high = report["random"]["net_annual_return"]
    yield (
        f"The same positions at random other times, with the same turnover and exposure: {signed(middle)} a year, 90 "
        f"of 100 between {signed(low)} and {signed(high)}."
    )
    net = [metrics["net_annual_return"] for metrics in report["agents"].values()]
    if len(net) > 1:
        mean = signed(sum(net) / len(net))
        yield f"Return a year over {len(net)} seeds: {signed(min(net))} to {signed(max(net))}, mean {mean}."
    if not any(name.startswith(FORECASTS) for name in report["rules"]):
        yield (
            "There is no rule that follows the sign of the forecasts: the forecaster has no target that can be traded, "
            "a return or a direction."
        )
    if report["in_sample_rows"]:
        yield (
            f"The agents learnt from {report['in_sample_rows']:,} rows of a model's own training dates, which look "
            "better than what they see here (market.in_sample)."
        )
    yield uses_sentence(report["test_rows_used"])
    paid = "one trial" if report["trials"] == 1 else f"all {report['trials']:,} trials"
    yield (
        "The deflated Sharpe ratio (DSR) is the probability that the true Sharpe ratio is above zero, once trials are "
        f"paid for: by the agents {paid}, by a rule itself alone."
    )
    yield "A simulation on past prices: fills at the close, no market impact, borrowing, financing or taxes."
