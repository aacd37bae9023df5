"""The report as one page of HTML that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation.formatting import COLUMNS, TITLES, number, p_value, percent
from cnn_lstm.evaluation.page_tables import (
    breakdown_table,
    class_table,
    decimals,
    forecast_table,
    interval_table,
    strategy_table,
)
from cnn_lstm.evaluation.plain_language import (
    selection_sentence,
    signed,
    suspicions,
    uses_sentence,
    verdict_sentence,
    worst_p,
)
from cnn_lstm.evaluation.plots import embedded, target_plots
from cnn_lstm.evaluation.record import JudgedModelInfo, Report, TargetReport
from cnn_lstm.pages.environment import page_environment

TEMPLATE = "report.html.jinja"
# in two columns: there are many symbols, but few folds, years and regimes
BREAKDOWNS = ({"symbol": "By symbol"}, {"fold": "By fold", "year": "By year", "regime": "By regime of volatility"})
LISTED = 40  # names of symbols or features that the sheet lists; model_info.json has them all


def render_page(report: Report, table: pd.DataFrame, info: JudgedModelInfo, plots: Sequence[Path] = ()) -> str:
    """The page as text.

    Args:
        report: What `evaluate` returned.
        table: The predictions table that it was made of.
        info: The model information sheet.
        plots: PNG files to show, such as the attention; those that do not exist are left out.
    """
    failed = list(table.attrs.get("failed_checks", []))
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {"number": number, "percent": percent, "few": _few, "p": p_value, "arguments": _arguments}
    targets = [_target(name, target, table, failed) for name, target in report["targets"].items()]
    return environment.get_template(TEMPLATE).render(
        targets=targets,
        info=info,
        uses=uses_sentence(info["test_rows_used"]),
        plots=[embedded(file) for file in plots if file.is_file()],
        settings=report["settings"],
    )


def _target(name: str, target: TargetReport, table: pd.DataFrame, failed: Sequence[str]) -> dict[str, Any]:
    """What the page says of one target, in the order in which it says it."""
    return {
        "name": name,
        "report": target,
        "sentence": verdict_sentence(target, failed),
        "warnings": list(suspicions(target)),
        "selection": selection_sentence(target),
        "key_metrics": list(_key_metrics(target)),
        "columns": [TITLES.get(column, column) for column in COLUMNS[target["kind"]]],
        "forecasts": forecast_table(target),
        "plots": target_plots(table, name, target),
        "breakdowns": [
            {title: breakdown_table(target["breakdowns"].get(key, [])) for key, title in column.items()}
            for column in BREAKDOWNS
        ],
        "intervals": interval_table(target),
        "strategy": strategy_table(target),
        "classes": class_table(target) if quantity(target["kind"]).is_class else None,
    }


def _key_metrics(target: TargetReport) -> Iterator[tuple[str, str, str]]:
    """Title, value and remark of each metric that a reader should see first."""
    best, compared = target["best_baseline"], target["comparisons"][target["best_baseline"]]
    low, high = compared["skill_interval"]
    yield (
        "advantage over the best baseline",
        signed(compared["skill"]),
        f"95% interval {signed(low)} to {signed(high)}",
    )
    yield "p-value of the difference", p_value(worst_p(compared)), "larger of two tests; smaller means less like luck"
    yield "symbols with the lower error", f"{target['win_rate']:.0%}", f"of {target['symbols']:,}, against {best}"
    yield from _key_metric_of_kind(target)
    if "90" in target["intervals"]:
        yield (
            f"truths within the 90% {'sets' if quantity(target['kind']).is_class else 'intervals'}",
            percent(target["intervals"]["90"]["coverage"]),
            "90% was promised",
        )
    strategy = target["strategy"]
    if strategy is not None:
        sharpe = f"Sharpe ratio {decimals(strategy['sharpe'])}, standard error {decimals(strategy['sharpe_se'])}"
        yield "return per year after costs", percent(strategy["net_annual_return"]), sharpe


def _key_metric_of_kind(target: TargetReport) -> Iterator[tuple[str, str, str]]:
    model = target["forecasts"]["model"]
    if quantity(target["kind"]).has_direction:
        yield "right direction", percent(model["directional_accuracy"]), "of the forecasts; 50% is a coin"
    elif quantity(target["kind"]).is_class:
        yield "right class", percent(model["accuracy"]), f"of the forecasts; {target['classes']} classes"
    elif "r2_log" in model:
        yield "R2 of the log volatility", number(model["r2_log"]), "1 is perfect, 0 as good as a constant"
    else:
        yield "R2 against the training mean", number(model["r2_mean"]), "1 is perfect, 0 as good as the mean"


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
