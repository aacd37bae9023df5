"""What `rl evaluate` found, in words: for a terminal and for a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.evaluation.sentences import uses_sentence
from cnn_lstm.pages.environment import Picture, page_environment
from cnn_lstm.rl.pictures import draw_returns, svg_address

TOGETHER = "all seeds together"
# columns of the table, with their titles
COLUMNS = {
    "net_annual_return": "net a year",
    "sharpe": "Sharpe",
    "sharpe_se": "std error",
    "dsr": "deflated",
    "max_drawdown": "drawdown",
    "annual_turnover": "turnover",
}


def evaluation_text(report: Mapping[str, Any]) -> str:
    """The evaluation for a terminal.

    Args:
        report: Plain values of evaluation.json.
    """
    table = [" ".join([f"{'':<24}", *(f"{title:>11}" for title in COLUMNS.values())])]
    table += [" ".join([f"{name:<24}", *(f"{cell:>11}" for cell in cells)]) for name, cells in _rows(report).items()]
    return "\n".join([report["claim"]["sentence"], "", _market(report), *table, *_remarks(report)]) + "\n"


def evaluation_page(report: Mapping[str, Any], bars: pd.DataFrame, title: str) -> str:
    """The evaluation for a browser, in one file.

    Args:
        report: Plain values of evaluation.json.
        bars: Net returns after costs, one column each, by date.
        title: Name of the agents.
    """
    drawn = Picture(
        "Summed returns after costs",
        "Each seed in light blue, all together in dark blue, the rules in other colours.",
        "net return of agents and rules, summed over the test dates",
        svg_address(draw_returns(bars, TOGETHER)),
    )
    template = page_environment(Path(__file__).parent).get_template("evaluation.html.jinja")
    return template.render(
        title=title,
        first=_market(report),
        evidence=report["claim"]["evidence"],
        sentence=report["claim"]["sentence"],
        drawn=drawn,
        columns=list(COLUMNS.values()),
        lines=_rows(report),
        remarks=list(_remarks(report)),
    )


def _market(report: Mapping[str, Any]) -> str:
    return (
        f"{report['bars']:,} bars, {report['first'][:10]} to {report['last'][:10]}, {', '.join(report['symbols'])}; "
        f"{report['cost_bp']:g} bp of what is traded, each side; profits not reinvested"
    )


def _rows(report: Mapping[str, Any]) -> dict[str, list[str]]:
    everyone = {**report["agents"], TOGETHER: report["together"], **report["rules"]}
    return {name: [_cell(figures[column]) for column in COLUMNS] for name, figures in everyone.items()}


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    low, middle, high = report["random"]["net_annual_return"]
    yield (
        f"The same positions at random other times, with the same turnover and exposure: {middle:+.4f} a year, 90 of "
        f"100 between {low:+.4f} and {high:+.4f}."
    )
    net = [figures["net_annual_return"] for figures in report["agents"].values()]
    yield f"Net a year over {len(net)} seeds: {min(net):+.4f} to {max(net):+.4f}, mean {sum(net) / len(net):+.4f}."
    if report["in_sample_rows"]:
        yield (
            f"The agents learnt from {report['in_sample_rows']:,} rows of a model's own training dates, which look "
            "better than what they see here (market.in_sample)."
        )
    yield uses_sentence(report["test_rows_used"])
    yield (
        "A simulation on past prices: fills at the close, no market impact, borrowing, financing or taxes. The "
        f"deflated Sharpe ratio is that of the best of {report['trials']} trials."
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
