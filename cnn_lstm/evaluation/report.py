"""The report of `test`: every metric of a predictions table, from that table alone, as plain values.

Shapes: n forecasts of one target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.data.arrow_frames import Frame, as_pandas
from cnn_lstm.data.predictions import TARGETS, TargetInfo, target_infos
from cnn_lstm.data.prices import require_table
from cnn_lstm.data.targets import Floats
from cnn_lstm.data.times import utc_or_dates
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation import json_types
from cnn_lstm.evaluation.forecasts import FEWEST_ROWS, Forecast, divergences, judged_rows, known_forecasts
from cnn_lstm.evaluation.formatting import time_noun
from cnn_lstm.evaluation.json_types import Metrics, Report, TargetReport
from cnn_lstm.evaluation.metrics import distribution
from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.metrics.classes import mcnemar_p, point_metrics, probability_metrics
from cnn_lstm.evaluation.metrics.errors import association_metrics, error_metrics, level_correlation, volatility_metrics
from cnn_lstm.evaluation.metrics.heads import NormalHead, read_head
from cnn_lstm.evaluation.metrics.intervals import interval_metrics, set_metrics
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.evaluation.metrics.tail_risk import tail_risk
from cnn_lstm.evaluation.pooled import pooled_levels
from cnn_lstm.evaluation.power import smallest_skill
from cnn_lstm.evaluation.selection import selection_record, with_effective_trials
from cnn_lstm.evaluation.sequential import kept_of, learnt_from_later, loss_differences, sequential
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.significance import compare
from cnn_lstm.evaluation.verdict import answers, as_plain, dates_needed
from cnn_lstm.inference.adaptive import LEVELS

FORMAT = 1
REGIMES = ("calm", "middle", "turbulent")
SPREADS = ("mc_std", "ensemble_std")


def evaluate(table: Frame) -> Report:
    """Judges a predictions table.

    Args:
        table: Predictions table; its times are read by the one time rule, see `utc_or_dates`. Its `attrs` hold
            `targets` as `predictions_table` writes them, `settings` as `Evaluation.to_plain` gives them, `trials` the
            number of models tried, `failed_checks` the kinds of leakage whose check failed. An Arrow table read from
            predictions.parquet has them in its metadata.

    Returns:
        The report in plain values, as report.json holds it. A metric that has no value is None.

    Raises:
        DataError: If fewer than two truths of a target are known; E338, it is not a table; E390, it does not say what
            it forecasts.
    """
    table = _with_attrs(table)
    settings = Evaluation(**table.attrs["settings"])
    if isinstance(table["as_of"].dtype, pd.DatetimeTZDtype):
        table = table.assign(as_of=utc_or_dates(table["as_of"]))
    targets = {
        name: _target_report(table, name, about, settings, table.attrs["trials"])
        for name, about in target_infos(table).items()
    }
    pooled = pooled_levels(table)
    plain: Report = json_values(
        {"format": FORMAT, "settings": settings.to_plain(), "targets": targets} | ({"pooled": pooled} if pooled else {})
    )
    return plain


def _with_attrs(frame: Frame) -> pd.DataFrame:
    """The table in the form of pandas; refused without what its columns do not say."""
    table = require_table(as_pandas(frame))
    if missing := [name for name in (TARGETS, "settings", "trials") if name not in table.attrs]:
        what = f"the predictions table has no attrs[{missing[0]!r}]"
        fix = "read predictions.parquet by pandas or pyarrow: other libraries leave its metadata out"
        raise DataError(what, "evaluate", fix, code=390)
    return table


def _target_report(
    table: pd.DataFrame, target: str, about: TargetInfo, settings: Evaluation, trials: int
) -> TargetReport:
    rows = judged_rows(table, target, about)
    if len(rows) < FEWEST_ROWS:
        raise DataError(
            "no forecast can be judged: fewer than 2 rows have a known truth", target, "test on later dates", code=336
        )
    forecasts = known_forecasts(rows, about)
    losses = {name: one.loss for name, one in forecasts.items() if one.loss is not None}
    compared, concluded = _conclusion(rows, forecasts, about, settings, table.attrs.get("failed_checks", []))
    model, best = losses["model"], losses[concluded["best_baseline"]]
    known, selection = ~np.isnan(best), selection_record(settings, target, trials)
    return {
        "kind": about.kind,
        "unit": about.unit,
        "horizon": about.horizon,
        "delay": about.delay,
        "classes": about.classes,
        **_extent(table[table["target"] == target], rows, about.horizon),
        "loss": about.quantity.loss,
        "loss_model": float(model.mean()),
        **concluded,
        **_over_time(rows, forecasts, kept_of(table, target), about.horizon),
        "forecasts": {name: _metrics(rows, name, forecasts, about) for name in forecasts},
        "comparisons": compared,
        "selection": selection,
        **_breakdowns(rows[known], model[known], best[known]),
        "intervals": _intervals(rows, about),
        "distribution": _distribution(rows, about),
        "tail_risk": _tail_risk(rows, about, settings),
        "spread": _spreads(rows, forecasts["model"]),
        "strategy": _strategy(rows, about, settings, selection),
    }


def _over_time(
    rows: pd.DataFrame, forecasts: Mapping[str, Forecast], kept: json_types.KeptDifferences | None, horizon: int
) -> json_types.OverTime:
    """The evidence over time, where there is any."""
    if learnt_from_later(rows):
        return {}
    return {"sequential": sequential(loss_differences(rows, forecasts), kept, horizon)}


def _conclusion(
    rows: pd.DataFrame,
    forecasts: Mapping[str, Forecast],
    about: TargetInfo,
    settings: Evaluation,
    failed: Sequence[str],
) -> tuple[dict[str, json_types.ComparedLosses], json_types.Answers]:
    """The model against each baseline that has a loss, and the verdict that follows."""
    losses = {name: one.loss for name, one in forecasts.items() if one.loss is not None}
    model, loss = forecasts["model"], about.quantity.loss
    own = losses.pop("model")
    comparisons = compare(own, losses, rows["as_of"], about.horizon, settings.resamples, settings.seed)
    compared = {
        name: as_plain(one, smallest_skill(one, _divergence(model, forecasts[name]), settings.level))
        for name, one in comparisons.items()
    }
    moments = f"{time_noun(_extent(rows, rows, about.horizon))}s"
    return compared, answers(loss, comparisons, compared, settings.level, about.horizon, len(rows), failed, moments)


def _divergence(model: Forecast, baseline: Forecast) -> float:
    """Mean divergence of the two on the rows that both know."""
    known = baseline.known
    return float(divergences(model.of(known), baseline.of(known)).mean())


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


def _metrics(rows: pd.DataFrame, name: str, forecasts: Mapping[str, Forecast], about: TargetInfo) -> Metrics:
    """Metrics of one forecaster on the rows that it knows, those that suit the kind of the target."""
    known = forecasts[name].known
    if not known.all():
        there = {other: one.of(known) for other, one in forecasts.items()}
        return {"rows": int(known.sum()), **_metrics(rows[known], name, there, about)}
    forecast, true, quantity = forecasts[name], rows["y_true"].to_numpy(), about.quantity
    if quantity.is_class:
        metrics = point_metrics(true, forecast.point, about.classes)
        prior = forecasts["prior"].probabilities
        if forecast.probabilities is not None and prior is not None:
            metrics |= probability_metrics(true, forecast.probabilities, prior)
        if name != "model":
            metrics["mcnemar_p"] = mcnemar_p(true, forecasts["model"].point, forecast.point)
        return metrics
    metrics = error_metrics(true, forecast.point, rows["naive_mae"], rows["naive_mse"], rows["y_mean"])
    if forecast.variance is not None:
        size = quantity.volatility
        metrics |= {
            f"volatility_{key}" if key in metrics else key: value
            for key, value in volatility_metrics(size(true), size(forecast.point), forecast.variance).items()
        }
    if not quantity.is_return:  # nobody forecasts a level, or the logarithm of a volatility, as 0
        del metrics["r2_zero"]
    change, expected, date = true, forecast.point, rows["as_of"]
    if quantity.is_level:  # hardly moves from its last value, which any forecast of it knows
        metrics["corr"] = level_correlation(true, forecast.point, rows["symbol"])
        last = rows["y_last"].to_numpy()
        moved = ~np.isnan(last)
        if moved.sum() < FEWEST_ROWS:
            return metrics
        change, expected = (rounded_change(values[moved], last[moved]) for values in (true, forecast.point))
        date = date[moved]
    association = association_metrics(change, expected, date, about.horizon)
    if not quantity.sign_is_direction:  # the sign of anything else says nothing
        association = {key: association[key] for key in ("ic", "rank_ic", "icir", "ic_t")}
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


def _tail_risk(rows: pd.DataFrame, about: TargetInfo, settings: Evaluation) -> dict[str, json_types.TailRisk]:
    return tail_risk(rows, about.horizon, settings.resamples, settings.seed) if about.quantity.is_return else {}


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
    rows: pd.DataFrame, about: TargetInfo, settings: Evaluation, selection: json_types.Selection
) -> json_types.StrategyMetrics | None:
    if not about.quantity.traded or rows["bar_return"].isna().all():  # labels of a column may have no price
        return None
    book = make_book(rows, about.horizon, rule=settings.position, cost_bp=settings.cost_bp, classes=about.classes)
    metrics = strategy_metrics(book, selection["trials"], draws=settings.resamples, seed=settings.seed)
    return with_effective_trials(metrics, book, selection)


def json_values(value: Any) -> Any:
    """The same in values that JSON can hold; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [json_values(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
