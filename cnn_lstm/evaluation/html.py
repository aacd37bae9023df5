"""The report as one page of HTML that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation.formatting import number, p_value, percent
from cnn_lstm.evaluation.plain_language import (
    interval_sentence,
    probability,
    selection_sentence,
    signed,
    strategy_sentences,
    uses_sentence,
    verdict_sentence,
    worst_p,
)
from cnn_lstm.evaluation.plots import embedded, target_plots
from cnn_lstm.evaluation.text import COLUMNS, TITLES, warnings
from cnn_lstm.files import write_text_whole
from cnn_lstm.pages.environment import page_environment

Target = Mapping[str, Any]
Cell = dict[str, Any]
TEMPLATE = "report.html.jinja"
LOWER_IS_BETTER = {"rmse", "mae", "mase", "qlike", "log_loss", "brier", "ece"}


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


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
STRATEGY = {
    "net_annual_return": ("return a year after costs", percent),
    "gross_annual_return": ("return a year before costs", percent),
    "annual_volatility": ("volatility a year", percent),
    "sharpe": ("Sharpe ratio", number),
    "sharpe_se": ("its standard error", number),
    "psr": ("probability that the true Sharpe ratio is above 0 (PSR)", probability),
    "dsr": ("the same after all trials (DSR)", probability),
    "min_track_record_length": ("bars until it could be told from 0", _whole),
    "max_drawdown": ("largest drawdown", percent),
    "calmar": ("Calmar ratio", number),
    "annual_turnover": ("turnover a year, in stakes", number),
    "mean_exposure": ("mean exposure", percent),
    "hit_rate": ("bars that earn before costs", percent),
    "break_even_cost_bp": ("break-even cost, bp a side", number),
    "random_sign_p": ("p-value of random signs", p_value),
}
SPREADS = {"mc_std": "Spread of forecasts under dropout", "ensemble_std": "Spread of the ensemble"}
# side by side: many symbols, few folds, years and regimes
BREAKDOWNS = ({"symbol": "By symbol"}, {"fold": "By fold", "year": "By year", "regime": "By regime of volatility"})
LISTED = 40  # names of symbols or features in the sheet; model_info.json has them all


def write_page(
    path: Path,
    report: Mapping[str, Any],
    table: pd.DataFrame,
    info: Mapping[str, Any],
    plots: Sequence[Path] = (),
) -> None:
    """Writes report.html.

    Args:
        path: The file to write.
        report: What `evaluate` returned.
        table: The predictions table that it was made of.
        info: The model information sheet, with `test_rows_used` (`times`, `models`).
        plots: PNG files to show, such as the attention; those that do not exist are left out.

    Raises:
        ResourceError: If the file cannot be written.
    """
    write_text_whole(path, render_page(report, table, info, plots))


def render_page(
    report: Mapping[str, Any], table: pd.DataFrame, info: Mapping[str, Any], plots: Sequence[Path] = ()
) -> str:
    """The page as text; arguments as for `write_page`."""
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


def _target(name: str, target: Target, table: pd.DataFrame, failed: Sequence[str]) -> dict[str, Any]:
    """What the page says of one target, in the order in which it says it."""
    return {
        "name": name,
        "report": target,
        "sentence": verdict_sentence(target, failed),
        "warnings": list(warnings(target)),
        "selection": selection_sentence(target),
        "key_metrics": list(_key_metrics(target)),
        "columns": [TITLES.get(column, column) for column in COLUMNS[target["kind"]]],
        "forecasts": _forecasts(target),
        "plots": target_plots(table, name, target),
        "breakdowns": [
            {title: _breakdown(target["breakdowns"].get(key, [])) for key, title in column.items()}
            for column in BREAKDOWNS
        ],
        "intervals": _intervals(target),
        "strategy": _strategy(target),
        "classes": _classes(target) if quantity(target["kind"]).is_class else None,
    }


def _key_metrics(target: Target) -> Iterator[tuple[str, str, str]]:
    """Title, figure and remark of what to see first."""
    best, beside = target["best_baseline"], target["comparisons"][target["best_baseline"]]
    low, high = beside["skill_interval"]
    yield (
        "advantage over the best baseline",
        signed(beside["skill"]),
        f"95% interval {signed(low)} to {signed(high)}",
    )
    yield "p-value of the difference", p_value(worst_p(beside)), "larger of two tests; the smaller, the less like luck"
    yield "symbols with the lower error", f"{target['win_rate']:.0%}", f"of {target['symbols']:,}, against {best}"
    yield from _key_figures_of_kind(target)
    if "90" in target["intervals"]:
        yield (
            f"truths within the 90% {'sets' if quantity(target['kind']).is_class else 'intervals'}",
            percent(target["intervals"]["90"]["coverage"]),
            "90% was promised",
        )
    found = target["strategy"]
    if found is not None:
        sharpe = f"Sharpe ratio {_decimals(found['sharpe'])}, standard error {_decimals(found['sharpe_se'])}"
        yield "return a year after costs", percent(found["net_annual_return"]), sharpe


def _key_figures_of_kind(target: Target) -> Iterator[tuple[str, str, str]]:
    model = target["forecasts"]["model"]
    if quantity(target["kind"]).has_direction:
        yield "right direction", percent(model["directional_accuracy"]), "of the forecasts; 50% is a coin"
    elif quantity(target["kind"]).is_class:
        yield "right class", percent(model["accuracy"]), f"of the forecasts; {target['classes']} classes"
    elif "r2_log" in model:
        yield "R2 of the log volatility", number(model["r2_log"]), "1 is perfect, 0 as good as a constant"
    else:
        yield "R2 against the training mean", number(model["r2_mean"]), "1 is perfect, 0 as good as the mean"


def _forecasts(target: Target) -> list[dict[str, Any]]:
    """The model and its baselines: metrics, the best of each column marked, then the comparisons with the model."""
    columns = COLUMNS[target["kind"]]
    best = {column: _best(column, target["forecasts"]) for column in columns}
    return [
        {
            "name": name,
            "is_model": name == "model",
            "is_best_baseline": name == target["best_baseline"],
            "cells": [_cell(metrics.get(column), best[column]) for column in columns],
            "beside": _beside(target["comparisons"].get(name, {})),
        }
        for name, metrics in target["forecasts"].items()
    ]


def _beside(comparison: Mapping[str, Any]) -> list[str]:
    return [number(comparison.get("skill")), p_value(comparison.get("dm_p")), p_value(comparison.get("bootstrap_p"))]


def _best(column: str, forecasts: Mapping[str, Any]) -> str | None:
    values = [metrics[column] for metrics in forecasts.values() if metrics.get(column) is not None]
    if not values:
        return None
    return number(min(values) if column in LOWER_IS_BETTER else max(values))


def _cell(value: float | None, best: str | None) -> Cell:
    """Metrics that read the same are equally good."""
    return {"text": number(value), "best": value is not None and number(value) == best}


def _breakdown(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Lines of a breakdown; losses with as many decimals as the largest of them needs, so that they can be compared."""
    losses = [line[key] for line in lines for key in ("loss_model", "loss_baseline") if line[key]]
    decimals = max(0, 3 - math.floor(math.log10(max(losses)))) if losses else 0
    return [
        {
            "name": line["name"],
            "rows": f"{line['rows']:,}",
            "model": _decimals(line["loss_model"], decimals),
            "baseline": _decimals(line["loss_baseline"], decimals),
            "skill": signed(line["skill"]),
        }
        for line in lines
    ]


def _intervals(target: Target) -> dict[str, Any] | None:
    given = target["intervals"]
    if not given:
        return None
    columns = {key: column for key, column in INTERVALS.items() if key in next(iter(given.values()))}
    return {
        "columns": [title for title, _ in columns.values()],
        "lines": {
            f"{level}%": [write(metrics[key]) for key, (_, write) in columns.items()]
            for level, metrics in given.items()
        },
        "sentence": interval_sentence(target, "90" if "90" in given else next(iter(given))),
        "remarks": list(_distribution_remarks(target)),
    }


def _distribution_remarks(target: Target) -> Iterator[str]:
    found = target["distribution"]
    if "crps" in found:
        yield (
            f"Whole distribution: CRPS {number(found['crps'])} (lower is better), probability integral transform "
            f"uniform with Kolmogorov-Smirnov p {p_value(found['pit']['ks_p'])}."
        )
    if "crps_normal" in found:
        yield f"The model's own normal distribution: CRPS {number(found['crps_normal'])}."
    for name, metrics in target["spread"].items():
        yield (
            f"{SPREADS.get(name, name)}: mean {number(metrics['mean'])}, rank correlation with the error "
            f"{number(metrics['rank_correlation'])}. This is doubt of the model about itself, not an interval."
        )


def _strategy(target: Target) -> dict[str, Any] | None:
    found = target["strategy"]
    if found is None:
        return None
    hold = found["buy_and_hold"]
    lines = [
        (title, write(found[key]), write(hold[key]) if key in hold else "") for key, (title, write) in STRATEGY.items()
    ]
    return {"lines": lines, "sentences": list(strategy_sentences(found))}


def _classes(target: Target) -> dict[str, Any]:
    """The model's confusion matrix with the share of each row, and how well its probabilities are calibrated."""
    model = target["forecasts"]["model"]
    lines = []
    for number_of, counts in enumerate(model["confusion"]):
        total = max(sum(counts), 1)
        cells = [{"count": count, "share": count / total} for count in counts]
        lines.append({"cells": cells, "precision": model["precision"][number_of], "recall": model["recall"][number_of]})
    return {"lines": lines, "ece": model.get("ece"), "spiegelhalter_p": model.get("spiegelhalter_p")}


def _decimals(value: float | None, decimals: int = 2) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


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
