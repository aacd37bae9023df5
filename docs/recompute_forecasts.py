"""Second part of recompute_report.py: figures of forecasts, of numbers and of classes, and their comparison."""

import math

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.diagnostic import pesaran_timmermann

VOLATILITIES = ("volatility", "log_volatility")


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
    dm = difference.mean() / error * math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    found = {"loss_model": model, "loss_baseline": baseline, "skill": 1 - model / baseline}
    found["skill_interval"] = np.percentile(1 - draws[:, 0] / draws[:, 1], [2.5, 97.5]).tolist()
    found["difference_interval"] = np.percentile(drawn, [2.5, 97.5]).tolist()
    found |= (
        {"dm_statistic": dm, "dm_p": 2 * stats.t.sf(abs(dm), n - 1)} if error > 0 else {"dm_statistic": 0, "dm_p": 1}
    )
    extreme = np.sum(abs(drawn - difference.mean()) >= abs(difference.mean()))
    return found | {"bootstrap_p": (1 + extreme) / (1 + len(draws))}


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
    found = {
        "ic": ic.mean(),
        "rank_ic": rank_ic.mean(),
        "icir": math.nan if pooled else ic.mean() / ic.std(),
        "ic_t": t,
    }
    up = pd.DataFrame({"y": y, "f": f})[(y != 0) & (f != 0)]
    found["directional_accuracy"] = ((up["y"] > 0) == (up["f"] > 0)).mean()
    both = (up > 0).nunique().eq(2).all()
    p = pesaran_timmermann(up["y"], up["f"], alternative="larger").pvalue if both else math.nan
    return found | {"pesaran_timmermann_p": p}


def number_figures(rows: pd.DataFrame, column: str, loss: pd.Series, about: dict) -> dict:
    """Errors, in the target's unit and free of scale, and association of one forecaster of numbers."""
    f = rows[column]
    y, kind, mae, mse = rows["y_true"], about["kind"], metrics.mean_absolute_error, metrics.mean_squared_error
    found = {"mae": mae(y, f), "rmse": math.sqrt(mse(y, f))}
    found["mase"] = ((y - f).abs() / rows["naive_mae"])[rows["naive_mae"] > 0].mean()
    found["rmsse"] = math.sqrt(((y - f) ** 2 / rows["naive_mse"])[rows["naive_mse"] > 0].mean())
    found |= {f"r2_{n}": 1 - mse(y, f) / np.mean((y - b) ** 2) for n, b in (("zero", 0), ("mean", rows["y_mean"]))}
    if kind in VOLATILITIES:
        true, size = (np.exp(y), np.exp(f)) if kind == "log_volatility" else (y, f)
        found |= {
            "volatility_mae": mae(true, size),
            "volatility_rmse": math.sqrt(mse(true, size)),
            "qlike": loss.mean(),
        }
        found["r2_log"] = metrics.r2_score(np.log(true), np.log(np.maximum(size, 0.01 * true)))
    base = rows["y_last"] if kind == "level" else 0.0
    names = ["directional_accuracy", "pesaran_timmermann_p"] if kind not in ("return", "level") else []
    related = association(y - base, f - base, rows["as_of"], about["horizon"])
    return found | {name: value for name, value in related.items() if name not in names}


def probabilities(rows: pd.DataFrame, column: str, classes: int) -> np.ndarray | None:
    """Class probabilities that belong to a column of chosen classes, if it has any."""
    stem = {"y_pred": "p", "y_mean": "prior_p"}.get(column, f"{column[2:]}_p")
    names = [f"{stem}{number}" for number in range(classes)]
    return rows[names].to_numpy() if set(names) <= set(rows) else None


def class_figures(rows: pd.DataFrame, column: str, loss: pd.Series | None, about: dict) -> dict:
    """Figures of the chosen classes and, where there are any, of their probabilities."""
    y, f, classes = rows["y_true"].astype(int), rows[column].astype(int), about["classes"]
    labels, hot = list(range(classes)), np.eye(classes)[y]
    p, prior = (probabilities(rows, name, classes) for name in (column, "y_mean"))
    scores = metrics.precision_recall_fscore_support(y, f, labels=labels, zero_division=np.nan)
    found = {"accuracy": metrics.accuracy_score(y, f), "balanced_accuracy": metrics.balanced_accuracy_score(y, f)}
    found |= {"f1": metrics.f1_score(y, f, average="macro"), "mcc": metrics.matthews_corrcoef(y, f)}
    found |= {"precision": scores[0].tolist(), "recall": scores[1].tolist()}
    found["confusion"] = metrics.confusion_matrix(y, f, labels=labels).tolist()
    if column != "y_pred":  # exact McNemar test: a coin for each row that only one has right
        ours, theirs = (np.sum((rows[a] == y) & (rows[b] != y)) for a, b in (("y_pred", column), (column, "y_pred")))
        found["mcnemar_p"] = stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    if p is None:
        return found
    areas = {"roc_auc": metrics.roc_auc_score, "pr_auc": metrics.average_precision_score}
    found |= {name: area(hot, p) if hot.any(axis=0).all() else math.nan for name, area in areas.items()}
    brier, brier_prior = (((q - hot) ** 2).sum(axis=1).mean() for q in (p, prior))
    found |= {"log_loss": loss.mean(), "brier": brier, "brier_skill": 1 - brier / brier_prior}
    bins = pd.DataFrame({"confidence": p.max(axis=1), "accuracy": p.argmax(axis=1) == y, "rows": 1})
    c, right = bins["confidence"], bins["accuracy"]
    edges = np.sort(c)[(len(c) - 1) * np.arange(1, 15) // 15]
    z = ((right - c) * (1 - 2 * c)).sum() / np.sqrt(((1 - 2 * c) ** 2 * c * (1 - c)).sum())
    table = bins.groupby(np.searchsorted(edges, c)).agg({"confidence": "mean", "accuracy": "mean", "rows": "sum"})
    gap = (table["accuracy"] - table["confidence"]).abs()
    found |= {"ece": (gap * table["rows"]).sum() / len(c), "reliability": table.to_dict("records")}
    return found | {"spiegelhalter_p": 2 * stats.norm.sf(abs(z))}
