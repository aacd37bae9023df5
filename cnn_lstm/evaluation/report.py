"""The report of `test`: every metric of a predictions table, from that table alone, as plain values.

Shapes: n forecasts of one target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.data.targets import Floats
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation import json_types
from cnn_lstm.evaluation.forecasts import Forecast, judged_rows, read_forecasts
from cnn_lstm.evaluation.json_types import Metrics, Report, TargetReport
from cnn_lstm.evaluation.metrics import distribution
from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.metrics.classes import mcnemar_p, point_metrics, probability_metrics
from cnn_lstm.evaluation.metrics.errors import association_metrics, error_metrics, volatility_metrics
from cnn_lstm.evaluation.metrics.heads import NormalHead, read_head
from cnn_lstm.evaluation.metrics.intervals import interval_metrics, set_metrics
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.evaluation.metrics.tail_risk import tail_risk
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.significance import compare, verdict
from cnn_lstm.inference.adaptive import LEVELS

FORMAT = 1
REGIMES = ("calm", "middle", "turbulent")
# on fewer dates the Diebold-Mariano test and the bootstrap reject two to four times as often as they should
FEWEST_DATES, FEWEST_HORIZONS = 30, 5
SPREADS = ("mc_std", "ensemble_std")


def evaluate(table: pd.DataFrame) -> Report:
    """Judges a predictions table.

    Args:
        table: Predictions table with its `attrs`: `targets` as `predictions_table` writes them, `settings` as
            `Evaluation.to_plain` gives them, `trials` the number of models tried, `failed_checks` the kinds of
            leakage whose check failed.

    Returns:
        The report in plain values, as report.json holds it. A metric that has no value is None.

    Raises:
        DataError: If fewer than two truths of a target are known.
    """
    settings = Evaluation(**table.attrs["settings"])
    targets = {
        name: _target_report(table, name, about, settings, table.attrs["trials"])
        for name, about in target_infos(table).items()
    }
    plain: Report = json_values({"format": FORMAT, "settings": settings.to_plain(), "targets": targets})
    return plain


def _target_report(
    table: pd.DataFrame, target: str, about: TargetInfo, settings: Evaluation, trials: int
) -> TargetReport:
    rows = judged_rows(table, target, about)
    if len(rows) < 2:
        raise DataError(
            "no forecast can be judged: fewer than 2 rows have a known truth", target, "test on later dates", code=336
        )
    forecasts = read_forecasts(rows, about)
    losses = {name: forecast.loss for name, forecast in forecasts.items() if forecast.loss is not None}
    model = losses.pop("model")
    comparisons = compare(model, dict(losses), rows["as_of"], about.horizon, settings.resamples, settings.seed)
    best = min(losses, key=lambda name: comparisons[name].loss_baseline)
    loss, is_return = about.quantity.loss, about.quantity.is_return
    extent = _extent(table[table["target"] == target], rows, about.horizon)
    # leakage, and fewer dates than the tests need to keep their level, rule out evidence
    failed, dates, needed = table.attrs.get("failed_checks", []), extent["dates"], extent["dates_needed"]
    objections = [f"leakage found: {', '.join(failed)}"] if failed else []
    objections += [f"too few dates: {dates}, at least {needed} are needed"] if dates < needed else []
    return {
        "kind": about.kind,
        "unit": about.unit,
        "horizon": about.horizon,
        "delay": about.delay,
        "classes": about.classes,
        **extent,
        "loss": loss,
        "best_baseline": best,
        **verdict(loss, best, comparisons[best], settings.level, objections),
        "forecasts": {name: _metrics(rows, forecast, forecasts, about) for name, forecast in forecasts.items()},
        "comparisons": {
            name: cast(json_types.ComparedLosses, asdict(comparison)) for name, comparison in comparisons.items()
        },
        "selection": json_types.Selection(trials=trials, spa_p=(settings.spa or {}).get(target)),
        **_breakdowns(rows, model, losses[best]),
        "intervals": _intervals(rows, about),
        "distribution": _distribution(rows, about),
        "tail_risk": tail_risk(rows, about.horizon, settings.resamples, settings.seed) if is_return else {},
        "spread": _spreads(rows, forecasts["model"]),
        "strategy": _strategy(rows, about, settings, trials),
    }


def dates_needed(horizon: int) -> int:
    """Fewest dates that a test of targets of that many steps may rest on.

    Example:
        >>> dates_needed(1), dates_needed(20)
        (30, 100)
    """
    return max(FEWEST_DATES, FEWEST_HORIZONS * horizon)


def _extent(given: pd.DataFrame, rows: pd.DataFrame, horizon: int) -> json_types.Extent:
    return {
        "rows": len(rows),
        "left_out": len(given) - len(rows),
        "symbols": int(rows["symbol"].nunique()),
        "dates": int(rows["as_of"].nunique()),
        "dates_needed": dates_needed(horizon),
        "first": rows["as_of"].min().isoformat(),
        "last": rows["as_of"].max().isoformat(),
    }


def _metrics(rows: pd.DataFrame, forecast: Forecast, forecasts: Mapping[str, Forecast], about: TargetInfo) -> Metrics:
    """Metrics of one forecaster, those that suit the kind of the target."""
    true, quantity = rows["y_true"].to_numpy(), about.quantity
    if quantity.is_class:
        metrics = point_metrics(true, forecast.point, about.classes)
        prior = forecasts["prior"].probabilities
        if forecast.probabilities is not None and prior is not None:
            metrics |= probability_metrics(true, forecast.probabilities, prior)
        if forecast is not forecasts["model"]:
            metrics["mcnemar_p"] = mcnemar_p(true, forecasts["model"].point, forecast.point)
        return metrics
    metrics = error_metrics(true, forecast.point, rows["naive_mae"], rows["naive_mse"], rows["y_mean"])
    if forecast.variance is not None:
        size = quantity.volatility
        metrics |= {
            f"volatility_{name}" if name in metrics else name: value
            for name, value in volatility_metrics(size(true), size(forecast.point), forecast.variance).items()
        }
    if not quantity.is_return:  # nobody forecasts a level, or the logarithm of a volatility, as 0
        del metrics["r2_zero"]
    change, expected = true, forecast.point
    if quantity.is_level:  # hardly moves from its last value, which any forecast of it knows
        last = rows["y_last"].to_numpy()
        change, expected = (rounded_change(values, last) for values in (true, forecast.point))
    association = association_metrics(change, expected, rows["as_of"], about.horizon)
    if not quantity.sign_is_direction:  # the sign of anything else says nothing
        association = {name: association[name] for name in ("ic", "rank_ic", "icir", "ic_t")}
    return metrics | association


def rounded_change(values: Floats, last: Floats) -> Floats:
    """Change from the last value, (n,), without the rounding noise of a difference of two levels.

    Example:
        >>> change = rounded_change(np.array([0.7, 1.3]) + 0.1, np.array([0.7, 1.3]))
        >>> bool(change[0] == change[1])
        True
    """
    unit = 1e-12 * np.abs(last).max()
    return np.asarray(np.round((values - last) / unit) * unit)


def _breakdowns(rows: pd.DataFrame, model: Floats, baseline: Floats) -> json_types.Breakdowns:
    """Losses of the model and the best baseline, (n,), by symbol, year, fold and regime of volatility."""
    keys = {"symbol": rows["symbol"], "year": rows["as_of"].dt.year.astype(str)}
    if "fold" in rows:
        keys["fold"] = rows["fold"]
    if "volatility" in rows and rows["volatility"].nunique() > len(REGIMES):
        keys["regime"] = pd.qcut(rows["volatility"].rank(method="first"), len(REGIMES), labels=REGIMES)
    losses = pd.DataFrame({"model": model, "baseline": baseline}, index=rows.index)
    breakdowns = {
        name: [_group_losses(str(group), lines) for group, lines in losses.groupby(key, observed=True)]
        for name, key in keys.items()
    }
    symbols = losses.groupby(rows["symbol"]).mean()
    return {"win_rate": float((symbols["model"] < symbols["baseline"]).mean()), "breakdowns": breakdowns}


def _group_losses(name: str, losses: pd.DataFrame) -> json_types.GroupLosses:
    """Mean losses of a group; without skill where the baseline has no loss, as zero on a suspended symbol."""
    model, baseline = float(losses["model"].mean()), float(losses["baseline"].mean())
    skill = 1.0 - model / baseline if baseline > 0 else math.nan
    return {"name": name, "rows": len(losses), "loss_model": model, "loss_baseline": baseline, "skill": skill}


def _intervals(rows: pd.DataFrame, about: TargetInfo) -> dict[str, Metrics]:
    true = rows["y_true"].to_numpy()
    if about.quantity.is_class:
        given = {level: f"set_{level}" for level in LEVELS if f"set_{level}" in rows}
        return {
            str(level): set_metrics(true, list(rows[name]), about.classes, level / 100) for level, name in given.items()
        }
    symbol, date = (pd.factorize(rows[name], sort=True)[0] for name in ("symbol", "as_of"))
    return {
        str(level): interval_metrics(
            true,
            rows[f"lower_{level}"].to_numpy(),
            rows[f"upper_{level}"].to_numpy(),
            level / 100,
            symbol=symbol,
            as_of=date,
            volatility=rows["volatility"].to_numpy(),
        )
        for level in LEVELS
        if f"lower_{level}" in rows
    }


def _distribution(rows: pd.DataFrame, about: TargetInfo) -> json_types.Distribution:
    """CRPS and PIT of the distribution that the calibration scores span, and of the one that the head forecasts."""
    scored: json_types.Distribution = {}
    if about.scores is not None and not about.quantity.is_class:
        parts = _with_scores(rows, about.scores)
        crps, ranks = (
            np.concatenate([score(*part) for part in parts])
            for score in (distribution.crps_of_scores, distribution.pit)
        )
        scored = {"crps": float(np.mean(crps)), "pit": distribution.pit_metrics(ranks)}
    head = None if about.quantity.is_class else read_head(rows)
    if head is not None:
        true = rows["y_true"].to_numpy(np.float64)
        score = float(np.mean(head.crps(true)))
        scored["head"] = {"name": head.name, "crps": score, "pit": distribution.pit_metrics(head.cdf(true))}
        if isinstance(head, NormalHead):
            scored["crps_normal"] = score
    return scored


def _with_scores(rows: pd.DataFrame, scores: Sequence[float] | Mapping[str, Sequence[float]]) -> list[list[Floats]]:
    """Truth, forecast, scale, each (n,), and calibration scores, (m,); one part per fold of a stitched table."""
    by_fold = scores if isinstance(scores, Mapping) else {"": scores}
    parts = [(rows[rows["fold"] == int(fold)] if fold else rows, known) for fold, known in by_fold.items()]
    return [
        [*(part[name].to_numpy(np.float64) for name in ("y_true", "y_pred", "scale")), np.asarray(known, np.float64)]
        for part, known in parts
        if len(part)
    ]


def _spreads(rows: pd.DataFrame, model: Forecast) -> dict[str, json_types.Spread]:
    """Epistemic spreads: their mean, and whether they are larger where errors are."""
    error = np.abs(rows["y_true"].to_numpy() - model.point)
    return {
        name: json_types.Spread(
            mean=float(rows[name].mean()),
            rank_correlation=distribution.spread_error_rank_correlation(rows[name].to_numpy(), error),
        )
        for name in SPREADS
        if name in rows and rows[name].notna().all()
    }


def _strategy(
    rows: pd.DataFrame, about: TargetInfo, settings: Evaluation, trials: int
) -> json_types.StrategyMetrics | None:
    if not about.quantity.traded:
        return None
    book = make_book(rows, about.horizon, rule=settings.position, cost_bp=settings.cost_bp, classes=about.classes)
    return strategy_metrics(book, trials, draws=settings.resamples, seed=settings.seed)


def json_values(value: Any) -> Any:
    """The same in values that JSON can hold; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [json_values(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
