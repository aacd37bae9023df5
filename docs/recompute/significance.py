"""Is the model better than a baseline, where, and does it go where the truth goes?"""

import math

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.diagnostic import pesaran_timmermann


def standard_error(values: np.ndarray, lags: int, kernel: str = "bartlett") -> float:
    """Of a mean whose neighbours are related; NaN for a constant or too short series."""
    if len(values) <= lags + 1 or not np.ptp(values) > 1e-12 * np.abs(values).max():
        return math.nan
    settings = {"maxlags": lags, "kernel": kernel}
    return float(OLS(np.asarray(values), np.ones(len(values))).fit(cov_type="HAC", cov_kwds=settings).bse[0])


def compare(daily: np.ndarray, draws: np.ndarray, horizon: int) -> dict:
    """Diebold-Mariano test (all lags in full, small-sample correction) and bootstrap of model and baseline losses."""
    n, (model, baseline) = len(daily), daily.mean(axis=0)
    difference, drawn = daily[:, 1] - daily[:, 0], draws[:, 1] - draws[:, 0]
    error = standard_error(difference, horizon - 1, "uniform")
    error = error if error > 0 else standard_error(difference, horizon - 1)
    error /= math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    dm = difference.mean() / error
    values = {"loss_model": model, "loss_baseline": baseline, "skill": 1 - model / baseline}
    values["skill_interval"] = np.percentile(1 - draws[:, 0] / draws[:, 1], [2.5, 97.5]).tolist()
    values["difference_interval"] = np.percentile(drawn, [2.5, 97.5]).tolist()
    dm = dm if error > 0 else 0.0  # equal losses: no evidence
    values |= {"dm_statistic": dm, "dm_p": 2 * stats.t.sf(abs(dm), n - 1)}
    values["standard_error"] = error if error > 0 else 0.0
    extreme = np.sum(abs(drawn - difference.mean()) >= abs(difference.mean()))
    return values | {"bootstrap_p": (1 + extreme) / (1 + len(draws))}


def holds_up(comparison: dict, level: float) -> bool:
    """Whether both tests and the whole interval of the skill say that the model is better."""
    significant = comparison["dm_p"] < level and comparison["bootstrap_p"] < level
    return bool(significant and comparison["dm_statistic"] > 0 and comparison["skill_interval"][0] > 0)


def association(y: pd.Series, f: pd.Series, date: pd.Series, horizon: int) -> dict:
    """Correlations across the symbols of a date (at least 5), or of all rows if no two dates have them; signs."""
    date_of_wide = date[date.groupby(date).transform("size") >= 5]
    pooled = date_of_wide.nunique() < 2
    pairs, group = pd.DataFrame({"y": y, "f": f}), pd.Series(0, y.index) if pooled else date_of_wide
    pairs, product = pairs.loc[group.index], (y - y.mean()) * (f - f.mean())
    rank_ic = pairs.groupby(group).rank().groupby(group).corr().iloc[::2, 1].dropna()
    ic = pairs.groupby(group).corr().iloc[::2, 1][rank_ic.index]
    series = product.groupby(date).sum() * date.nunique() / len(y) if pooled else ic
    t = series.mean() / standard_error(series.to_numpy(), horizon - 1) if len(ic) else math.nan
    values = {"ic": ic.mean(), "rank_ic": rank_ic.mean(), "ic_t": t}
    varies = not pooled and standard_error(ic.to_numpy(), 0) > 0
    values["icir"] = ic.mean() / ic.std() if varies else math.nan
    up = pd.DataFrame({"y": y, "f": f})[(y != 0) & (f != 0)]
    values["directional_accuracy"] = ((up["y"] > 0) == (up["f"] > 0)).mean()
    both = (up > 0).nunique().eq(2).all()
    p = pesaran_timmermann(up["y"], up["f"], alternative="larger").pvalue if both else math.nan
    return values | {"pesaran_timmermann_p": p}


def breakdowns(rows: pd.DataFrame, model: pd.Series, baseline: pd.Series) -> dict:
    """The losses of model and best baseline for each symbol, year, fold and tercile of volatility."""
    keys = {"symbol": rows["symbol"], "year": rows["as_of"].dt.year.astype(str)}
    if "fold" in rows:
        keys["fold"] = rows["fold"]
    if "volatility" in rows and rows["volatility"].nunique() > 3:
        ranks = rows["volatility"].rank(method="first")
        keys["regime"] = pd.qcut(ranks, 3, labels=["calm", "middle", "turbulent"])
    groups, losses = {}, pd.DataFrame({"loss_model": model, "loss_baseline": baseline, "rows": 1})
    for name, key in keys.items():
        table = losses.groupby(key, observed=True).agg({"loss_model": "mean", "loss_baseline": "mean", "rows": "sum"})
        table["skill"] = 1 - table["loss_model"] / table["loss_baseline"]
        groups[name] = table.rename_axis("name").reset_index().astype({"name": str}).to_dict("records")
    wins = [line["loss_model"] < line["loss_baseline"] for line in groups["symbol"]]
    return {"win_rate": np.mean(wins), "breakdowns": groups}
