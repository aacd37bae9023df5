"""The tables of the report's page, as plain values that the template writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from cnn_lstm.evaluation.formatting import COLUMNS, comparison_cells, number, p_value, percent
from cnn_lstm.evaluation.plain_language import interval_sentence, probability, signed, strategy_sentences
from cnn_lstm.evaluation.record import GroupLosses, Metrics, TargetReport

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
    "net_annual_return": ("return per year after costs", percent),
    "gross_annual_return": ("return per year before costs", percent),
    "annual_volatility": ("volatility per year", percent),
    "sharpe": ("Sharpe ratio", number),
    "sharpe_se": ("its standard error", number),
    "psr": ("probability that the true Sharpe ratio is above 0 (PSR)", probability),
    "dsr": ("the same after all trials (DSR)", probability),
    "min_track_record_length": ("bars until it could be distinguished from 0", _whole),
    "max_drawdown": ("largest drawdown", percent),
    "calmar": ("Calmar ratio", number),
    "annual_turnover": ("turnover per year, in stakes", number),
    "mean_exposure": ("mean exposure", percent),
    "hit_rate": ("bars that earn before costs", percent),
    "break_even_cost_bp": ("break-even cost, bp per side", number),
    "random_sign_p": ("p-value of random signs", p_value),
}
SPREADS = {"mc_std": "Spread of forecasts under dropout", "ensemble_std": "Spread of the ensemble"}


def forecast_table(target: TargetReport) -> list[dict[str, Any]]:
    """The model and its baselines: metrics, the best of each column marked, then the comparisons with the model."""
    columns = COLUMNS[target["kind"]]
    best = {column: _best(column, target["forecasts"]) for column in columns}
    return [
        {
            "name": name,
            "is_model": name == "model",
            "is_best_baseline": name == target["best_baseline"],
            "cells": [_cell(metrics.get(column), best[column]) for column in columns],
            "comparison": comparison_cells(target["comparisons"].get(name)),
        }
        for name, metrics in target["forecasts"].items()
    ]


def _best(column: str, forecasts: dict[str, Metrics]) -> str | None:
    values = [metrics[column] for metrics in forecasts.values() if metrics.get(column) is not None]
    if not values:
        return None
    return number(min(values) if column in LOWER_IS_BETTER else max(values))


def _cell(value: float | None, best: str | None) -> dict[str, Any]:
    """Metrics that are written the same are equally good."""
    return {"text": number(value), "best": value is not None and number(value) == best}


def breakdown_table(groups: Sequence[GroupLosses]) -> list[dict[str, str]]:
    """Losses by group, with as many decimals as the largest of them needs, so that they can be compared."""
    losses = [loss for group in groups for loss in (group["loss_model"], group["loss_baseline"]) if loss]
    places = max(0, 3 - math.floor(math.log10(max(losses)))) if losses else 0
    return [
        {
            "name": group["name"],
            "rows": f"{group['rows']:,}",
            "model": decimals(group["loss_model"], places),
            "baseline": decimals(group["loss_baseline"], places),
            "skill": signed(group["skill"]),
        }
        for group in groups
    ]


def interval_table(target: TargetReport) -> dict[str, Any] | None:
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
        "sentence": interval_sentence(target, "90" if "90" in levels else next(iter(levels))),
        "remarks": list(_distribution_remarks(target)),
    }


def _distribution_remarks(target: TargetReport) -> Iterator[str]:
    whole = target["distribution"]
    if "crps" in whole:
        yield (
            f"Whole distribution: CRPS {number(whole['crps'])} (lower is better), probability integral transform "
            f"uniform with Kolmogorov-Smirnov p {p_value(whole['pit']['ks_p'])}."
        )
    if "crps_normal" in whole:
        yield f"Normal distribution that the model forecasts: CRPS {number(whole['crps_normal'])}."
    for name, spread in target["spread"].items():
        yield (
            f"{SPREADS.get(name, name)}: mean {number(spread['mean'])}, rank correlation with the error "
            f"{number(spread['rank_correlation'])}. It measures the model's doubt about itself; it is not an interval."
        )


def strategy_table(target: TargetReport) -> dict[str, Any] | None:
    """The strategy next to buying and holding, with remarks; None for a target that is not traded."""
    strategy = target["strategy"]
    if strategy is None:
        return None
    metrics, hold = dict[str, Any](strategy), dict[str, Any](strategy["buy_and_hold"])
    lines = [
        (title, write(metrics[key]), write(hold[key]) if key in hold else "")
        for key, (title, write) in STRATEGY.items()
    ]
    return {"lines": lines, "sentences": list(strategy_sentences(strategy))}


def class_table(target: TargetReport) -> dict[str, Any]:
    """The model's confusion matrix with the share of each row, and how well its probabilities are calibrated."""
    model = target["forecasts"]["model"]
    lines = []
    for number_of, counts in enumerate(model["confusion"]):
        total = max(sum(counts), 1)
        cells = [{"count": count, "share": count / total} for count in counts]
        lines.append({"cells": cells, "precision": model["precision"][number_of], "recall": model["recall"][number_of]})
    return {"lines": lines, "ece": model.get("ece"), "spiegelhalter_p": model.get("spiegelhalter_p")}


def decimals(value: float | None, places: int = 2) -> str:
    """A number with so many decimals, or a dash."""
    return "-" if value is None else f"{value:.{places}f}"
