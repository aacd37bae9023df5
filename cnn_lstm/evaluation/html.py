"""The report as one page of HTML that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation import plain_language
from cnn_lstm.evaluation.explanation.page import section
from cnn_lstm.evaluation.explanation.results import Explanation
from cnn_lstm.evaluation.formatting import (
    COLUMNS,
    TITLES,
    comparison_cells,
    number,
    p_value,
    percent,
    rows_cells,
    time_noun,
)
from cnn_lstm.evaluation.json_types import GroupLosses, JudgedModelInfo, Metrics, Report, TargetReport
from cnn_lstm.evaluation.plain_language import probability, signed
from cnn_lstm.evaluation.plots import embedded, target_plots
from cnn_lstm.evaluation.sequential_plot import sequence_plots
from cnn_lstm.evaluation.sequential_text import sequence_section
from cnn_lstm.hints import counted
from cnn_lstm.pages.environment import page_environment

TEMPLATE = "report.html.jinja"
# in two columns: there are many symbols, but few folds, years and regimes
BREAKDOWNS = ({"symbol": "By symbol"}, {"fold": "By fold", "year": "By year", "regime": "By regime of volatility"})
LISTED = 40  # names of symbols or features that the sheet lists; model_info.json has them all
LOWER_IS_BETTER = {"rmse", "mae", "mase", "qlike", "log_loss", "brier", "ece"}
# column -> title, how to write it
INTERVALS = {
    "coverage": ("measured coverage", percent),
    "mean_width": ("mean width", number),
    "mean_size": ("classes named", number),
    "winkler": ("Winkler score", number),
    "kupiec_p": ("Kupiec p", p_value),
    "christoffersen_p": ("Christoffersen p", p_value),
    "coverage_low_volatility": ("calm", percent),
    "coverage_middle_volatility": ("middle", percent),
    "coverage_high_volatility": ("turbulent", percent),
    "lowest_rolling_coverage": ("lowest over 250 dates", percent),
}
TAIL_RISK: dict[str, tuple[str, Callable[[Any], str]]] = {
    "rows": ("rows", "{:,}".format),
    "breaches": ("breaches", "{:,}".format),
    "breach_rate": ("share", percent),
    "kupiec_p": ("Kupiec p", p_value),
    "independence_p": ("independence p", p_value),
    "conditional_p": ("both p", p_value),
    "shortfall_z2": ("shortfall Z2", number),
    "shortfall_p": ("Z2 p", p_value),
}
STRATEGY = {
    "net_annual_return": ("return per year after costs", percent),
    "gross_annual_return": ("return per year before costs", percent),
    "annual_volatility": ("volatility per year", percent),
    "sharpe": ("Sharpe ratio", number),
    "sharpe_se": ("its standard error", number),
    "psr": ("probability that the true Sharpe ratio is above 0 (PSR)", probability),
    "dsr": ("the same after all trials (DSR)", probability),
    "min_track_record_length": (
        "bars until it could be distinguished from 0",
        lambda bars: "-" if bars is None else f"{bars:,.0f}",
    ),
    "max_drawdown": ("largest drawdown", percent),
    "calmar": ("Calmar ratio", number),
    "annual_turnover": ("turnover per year, in stakes", number),
    "mean_exposure": ("mean exposure", percent),
    "hit_rate": ("bars that earn before costs", percent),
    "break_even_cost_bp": ("break-even cost, bp per side", number),
    "random_sign_p": ("p-value of random signs", p_value),
}
SPREADS = {"mc_std": "Spread of forecasts under dropout", "ensemble_std": "Spread of the ensemble"}


def render_page(
    report: Report,
    table: pd.DataFrame,
    info: JudgedModelInfo,
    plots: Sequence[Path] = (),
    explanation: Explanation | None = None,
) -> str:
    """The page as text.

    Args:
        report: What `evaluate` returned.
        table: The predictions table that it was made of.
        info: The model information sheet.
        plots: PNG files to show, such as the attention; those that do not exist are left out.
        explanation: Of the model on the validation part; None for no such section.
    """
    failed = list(table.attrs.get("failed_checks", []))
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {"number": number, "percent": percent, "few": _few, "p": p_value, "arguments": _arguments}
    environment.filters["moments"] = lambda target: counted(target["dates"], time_noun(target))
    targets = [_target(name, target, table, failed) for name, target in report["targets"].items()]
    return environment.get_template(TEMPLATE).render(
        targets=targets,
        info=info,
        plain_language=plain_language,
        explained=section(explanation) if explanation else None,
        plots=[embedded(file) for file in plots if file.is_file()],
        settings=report["settings"],
    )


def _target(name: str, target: TargetReport, table: pd.DataFrame, failed: Sequence[str]) -> dict[str, Any]:
    """What the page says of one target, in the order in which it says it."""
    return {
        "name": name,
        "report": target,
        "sentence": plain_language.verdict_sentence(target, failed),
        "key_metrics": list(_key_metrics(target)),
        "columns": [TITLES.get(column, column) for column in COLUMNS[target["kind"]]],
        "answers": [f"{line[0].upper()}{line[1:]}." for line in plain_language.answer_lines(target)],
        "forecasts": _forecast_table(target),
        "sequence": sequence_section(target),
        "sequence_plots": list(sequence_plots(target)),
        "plots": target_plots(table, name, target),
        "breakdowns": [
            {title: _breakdown_table(target["breakdowns"].get(key, [])) for key, title in column.items()}
            for column in BREAKDOWNS
        ],
        "intervals": _interval_table(target),
        "head": list(_head_remarks(target)),
        "tail_risk": _tail_risk_table(target),
        "strategy": _strategy_table(target),
    }


def _key_metrics(target: TargetReport) -> Iterator[tuple[str, str, str]]:
    """Title, value and remark of each metric that a reader should see first."""
    best, compared = target["best_baseline"], target["comparisons"][target["best_baseline"]]
    low, high = compared["skill_interval"]
    interval = f"95% interval {signed(low)} to {signed(high)}"
    yield "advantage over the best baseline", signed(compared["skill"]), interval
    p = p_value(plain_language.worst_p(compared))
    yield "p-value of the difference", p, "larger of two tests; smaller means less like luck"
    yield "symbols with the lower error", f"{target['win_rate']:.0%}", f"of {target['symbols']:,}, against {best}"
    yield from _key_metric_of_kind(target)
    if "90" in target["intervals"]:
        what = "sets" if quantity(target["kind"]).is_class else "intervals"
        yield f"truths within the 90% {what}", percent(target["intervals"]["90"]["coverage"]), "90% was promised"
    strategy = target["strategy"]
    if strategy is not None:
        sharpe = f"Sharpe ratio {_decimals(strategy['sharpe'])}, standard error {_decimals(strategy['sharpe_se'])}"
        yield "return per year after costs", percent(strategy["net_annual_return"]), sharpe


def _key_metric_of_kind(target: TargetReport) -> Iterator[tuple[str, str, str]]:
    model = target["forecasts"]["model"]
    if quantity(target["kind"]).sign_is_direction:
        yield "right direction", percent(model["directional_accuracy"]), "of the forecasts; 50% is a coin"
    elif quantity(target["kind"]).is_class:
        yield "right class", percent(model["accuracy"]), f"of the forecasts; {target['classes']} classes"
    elif "r2_log" in model:
        yield "R2 of the log volatility", number(model["r2_log"]), "1 is perfect, 0 as good as a constant"
    else:
        yield "R2 against the training mean", number(model["r2_mean"]), "1 is perfect, 0 as good as the mean"


def _forecast_table(target: TargetReport) -> list[dict[str, Any]]:
    """The model and its baselines: metrics, the best of each column marked, then comparisons with the model and rows.

    Metrics that are written the same are equally good.
    """
    columns, rows = COLUMNS[target["kind"]], rows_cells(target)
    best = {column: _best(column, target["forecasts"]) for column in columns}
    lines = []
    for name, metrics in target["forecasts"].items():
        texts = {column: number(metrics.get(column)) for column in columns}
        cells = [(text, text == best[column]) for column, text in texts.items()]
        comparison = comparison_cells(target["comparisons"].get(name))
        lines.append({"name": name, "cells": cells, "comparison": comparison, "rows": rows[name]})
    return lines


def _best(column: str, forecasts: dict[str, Metrics]) -> str | None:
    values = [metrics[column] for metrics in forecasts.values() if metrics.get(column) is not None]
    best = min if column in LOWER_IS_BETTER else max
    return number(best(values)) if values else None


def _breakdown_table(groups: Sequence[GroupLosses]) -> list[tuple[str, ...]]:
    """Name, rows, losses and skill of each group; losses have as many decimals as the largest of them needs."""
    losses = [loss for group in groups for loss in (group["loss_model"], group["loss_baseline"]) if loss]
    places = max(0, 3 - math.floor(math.log10(max(losses)))) if losses else 0
    return [
        (
            group["name"],
            f"{group['rows']:,}",
            *(_decimals(group[key], places) for key in ("loss_model", "loss_baseline")),
            signed(group["skill"]),
        )
        for group in groups
    ]


def _interval_table(target: TargetReport) -> dict[str, Any] | None:
    """Intervals, or sets of classes, by level, with remarks; None without any."""
    levels = target["intervals"]
    if not levels:
        return None
    columns = {key: column for key, column in INTERVALS.items() if key in next(iter(levels.values()))}
    return {
        "columns": [title for title, _ in columns.values()],
        "lines": {
            f"{level}%": [write(metrics[key]) for key, (_, write) in columns.items()]
            for level, metrics in levels.items()
        },
        "sentence": plain_language.interval_sentence(target, "90" if "90" in levels else next(iter(levels))),
        "remarks": list(_distribution_remarks(target)),
    }


def _distribution_remarks(target: TargetReport) -> Iterator[str]:
    whole = target["distribution"]
    if "crps" in whole:
        yield (
            f"Whole distribution: CRPS {number(whole['crps'])} (lower is better), probability integral transform "
            f"uniform with Kolmogorov-Smirnov p {p_value(whole['pit']['ks_p'])}."
        )
    for name, spread in target["spread"].items():
        yield (
            f"{SPREADS.get(name, name)}: mean {number(spread['mean'])}, rank correlation with the error "
            f"{number(spread['rank_correlation'])}. It measures the model's doubt about itself; it is not an interval."
        )


def _head_remarks(target: TargetReport) -> Iterator[str]:
    head = target["distribution"].get("head")
    if head is not None:
        yield (
            f"Distribution that the model itself forecasts ({head['name']}): CRPS {number(head['crps'])}, probability "
            f"integral transform uniform with Kolmogorov-Smirnov p {p_value(head['pit']['ks_p'])}."
        )


def _tail_risk_table(target: TargetReport) -> dict[str, Any] | None:
    """Tests of value at risk and expected shortfall by level, with a sentence; None without any."""
    levels: Mapping[str, Mapping[str, Any]] = target["tail_risk"]
    if not levels:
        return None
    return {
        "columns": [title for title, _ in TAIL_RISK.values()],
        "lines": {
            f"{level}%": [write(tested[key]) for key, (_, write) in TAIL_RISK.items()]
            for level, tested in levels.items()
        },
        "sentence": plain_language.tail_risk_sentence(target, list(levels)[-1]),
        "rows": plain_language.rows_under_test(target),
    }


def _strategy_table(target: TargetReport) -> dict[str, Any] | None:
    """The strategy next to buying and holding, with remarks; None for a target that is not traded."""
    strategy = target["strategy"]
    if strategy is None:
        return None
    metrics, hold = dict[str, Any](strategy), dict[str, Any](strategy["buy_and_hold"])
    lines = [
        (title, write(metrics[key]), write(hold[key]) if key in hold else "")
        for key, (title, write) in STRATEGY.items()
    ]
    return {"lines": lines, "sentences": list(plain_language.strategy_sentences(strategy))}


def _decimals(value: float | None, places: int = 2) -> str:
    """A number with so many decimals, or a dash."""
    return "-" if value is None else f"{value:.{places}f}"


def _few(names: Sequence[str]) -> str:
    """Names in one line, the first ones of many.

    Example:
        >>> _few(["A", "B"]), _few(["A"] * 42)[-11:]
        ('A, B', ' and 2 more')
    """
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _arguments(spec: Mapping[str, Any]) -> str:
    """Constructor arguments of a spec, or any other settings, in one line.

    Example:
        >>> _arguments({"layers": 2, "kind": "lstm"})
        'layers 2, kind "lstm"'
    """
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in spec.items())
