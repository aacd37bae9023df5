"""The report as text: the verdict first, then tables that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation.formatting import number, p_value, percent
from cnn_lstm.evaluation.plain_language import selection_sentence

Target = Mapping[str, Any]
ERRORS = ("rmse", "mae", "mase", "r2_mean")
COLUMNS = {
    "return": (*ERRORS, "r2_zero", "ic", "rank_ic", "directional_accuracy"),
    "volatility": ("qlike", "r2_log", *ERRORS),
    "log_volatility": ("qlike", "r2_log", *ERRORS),
    "class": ("log_loss", "brier", "accuracy", "balanced_accuracy", "f1", "mcc", "roc_auc", "ece"),
    "level": (*ERRORS, "ic", "directional_accuracy"),
    "value": (*ERRORS, "ic", "rank_ic"),
}
TITLES = {
    "qlike": "QLIKE",
    "r2_log": "R2 log",
    "rmse": "RMSE",
    "mae": "MAE",
    "mase": "MASE",
    "r2_mean": "R2",
    "r2_zero": "R2 zero",
    "ic": "IC",
    "rank_ic": "rank IC",
    "directional_accuracy": "hit rate",
    "log_loss": "log loss",
    "brier": "Brier",
    "balanced_accuracy": "balanced",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "AUC",
    "ece": "ECE",
}
STRATEGY_FIGURES = ("cost_bp", "sharpe", "sharpe_se", "psr", "dsr", "annual_turnover", "break_even_cost_bp")
STRATEGY_SHARES = ("net_annual_return", "gross_annual_return", "annual_volatility", "max_drawdown")
SUSPICIOUS_IC = 0.1


def render_report(report: Mapping[str, Any]) -> str:
    """The report as text.

    Args:
        report: What `evaluate` returned.
    """
    targets = report["targets"]
    verdicts = "\n".join(f"{target['verdict']}: {name}\n  {target['reason']}" for name, target in targets.items())
    return "\n\n".join([verdicts, *(_target(name, target) for name, target in targets.items())]) + "\n"


def _target(name: str, target: Target) -> str:
    blocks = [_headline(name, target), _forecasts(target), selection_sentence(target), *warnings(target)]
    blocks += [_breakdown(target), _intervals(target), *_strategy(target)]
    return "\n\n".join(block for block in blocks if block)


def _headline(name: str, target: Target) -> str:
    left_out = f", {target['left_out']:,} left out" if target["left_out"] else ""
    symbols, dates = _count(target["symbols"], "symbol"), _count(target["dates"], "date")
    return (
        f"{name}: {target['rows']:,} forecasts of {symbols} on {dates}, "
        f"{target['first'][:10]}..{target['last'][:10]}{left_out}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _forecasts(target: Target) -> str:
    """The model and its baselines on the same rows; skill and p-values are the model's against each baseline."""
    columns = COLUMNS[target["kind"]]
    lines = {}
    for name, metrics in target["forecasts"].items():
        line = {TITLES.get(column, column): number(metrics.get(column)) for column in columns}
        beside = target["comparisons"].get(name, {})
        line |= {"skill": number(beside.get("skill")), "DM p": p_value(beside.get("dm_p"))}
        line |= {"boot p": p_value(beside.get("bootstrap_p"))}
        lines[f"{name} *" if name == target["best_baseline"] else name] = line
    return (
        f"{pd.DataFrame(lines).T.to_string()}\n* best baseline by {target['loss']}; skill is the model's against each"
    )


def warnings(target: Target) -> Iterator[str]:
    """What should make a reader suspicious of a target's metrics."""
    ic = target["forecasts"]["model"].get("ic")
    if quantity(target["kind"]).is_return and ic is not None and ic > SUSPICIOUS_IC:
        yield f"IC {ic:.2f} is suspiciously high for returns: look for a leak before anything else"


def _breakdown(target: Target) -> str:
    lines = [
        {
            "": f"{kind} {line['name']}",
            "rows": f"{line['rows']:,}",
            "model": number(line["loss_model"]),
            target["best_baseline"]: number(line["loss_baseline"]),
            "skill": number(line["skill"]),
        }
        for kind in ("fold", "year", "regime")
        for line in target["breakdowns"].get(kind, [])
    ]
    symbols = f"lower {target['loss']} than {target['best_baseline']} for {target['win_rate']:.0%} of the symbols"
    return f"{pd.DataFrame(lines).to_string(index=False)}\n{symbols}"


def _intervals(target: Target) -> str:
    if not target["intervals"]:
        return ""
    lines = {
        f"{level}%": {
            "coverage": number(metrics["coverage"]),
            "width" if "mean_width" in metrics else "classes": number(
                metrics.get("mean_width", metrics.get("mean_size"))
            ),
            **({"Winkler": number(metrics["winkler"])} if "winkler" in metrics else {}),
            "Kupiec p": p_value(metrics["kupiec_p"]),
        }
        for level, metrics in target["intervals"].items()
    }
    text = pd.DataFrame(lines).T.to_string()
    found = target["distribution"]
    scores = ""
    if "crps" in found:
        scores = f"CRPS {number(found['crps'])}, PIT Kolmogorov-Smirnov p {p_value(found['pit']['ks_p'])}"
    spreads = [
        f"{name}: mean {number(metrics['mean'])}, rank correlation with the error "
        f"{number(metrics['rank_correlation'])}; epistemic spread, not an interval"
        for name, metrics in target["spread"].items()
    ]
    return "\n".join(line for line in ("conformal intervals", text, scores, *spreads) if line)


def _strategy(target: Target) -> Iterator[str]:
    found = target["strategy"]
    if found is None:
        return
    hold = found["buy_and_hold"]
    metrics = {name: number(found[name]) for name in STRATEGY_FIGURES}
    shares = {name: percent(found[name]) for name in STRATEGY_SHARES}
    yield "\n".join(
        [
            f"strategy after {metrics['cost_bp']} bp a side: {found['rule']}",
            f"net return {shares['net_annual_return']} a year (gross {shares['gross_annual_return']}), "
            f"volatility {shares['annual_volatility']}, drawdown {shares['max_drawdown']}",
            f"Sharpe {metrics['sharpe']} (standard error {metrics['sharpe_se']}), PSR {metrics['psr']}, "
            f"DSR {metrics['dsr']} for the best of {found['trials']}",
            f"turnover {metrics['annual_turnover']} a year, break-even cost {metrics['break_even_cost_bp']} bp a "
            f"side, random signs earn as much with p {p_value(found['random_sign_p'])}",
            f"buy and hold at the same exposure: {percent(hold['net_annual_return'])} a year, "
            f"Sharpe {number(hold['sharpe'])}, drawdown {percent(hold['max_drawdown'])}",
        ]
    )
