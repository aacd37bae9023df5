"""Losses and metrics of the forecasts of numbers and of classes."""

import math

import numpy as np
import pandas as pd
from recompute.significance import association
from recompute.values import pearson
from scipy import stats
from sklearn import metrics

VOLATILITIES = ("volatility", "log_volatility")


def probabilities(rows: pd.DataFrame, column: str, classes: int) -> np.ndarray | None:
    """Class probabilities that belong to a column of chosen classes, if it has any."""
    stem = {"y_pred": "p", "y_mean": "prior_p"}.get(column, f"{column[2:]}_p")
    names = [f"{stem}{number}" for number in range(classes)]
    return rows[names].to_numpy() if set(names) <= set(rows) else None


def variances(rows: pd.DataFrame, column: str, kind: str) -> pd.Series:
    """Variance forecasts that belong to a column of volatilities: their own column, else the square."""
    square = np.exp(2 * rows[column]) if kind == "log_volatility" else rows[column].clip(lower=0) ** 2
    return rows.get(f"variance_{column[2:]}", square)


def losses(rows: pd.DataFrame, column: str, about: dict) -> pd.Series | None:
    """QLIKE of a volatility, log loss of classes, else squared error; NaN where nothing is forecast."""
    y, f = rows["y_true"], rows[column]
    if about["kind"] == "class":
        p = probabilities(rows, column, about["classes"])
        if p is None:
            return None
        chosen = pd.Series(p[np.arange(len(y)), y.astype(int)], rows.index)
        return -np.log(chosen.clip(lower=2.0**-52)).where(f.notna() & ~np.isnan(p).any(axis=1))
    if about["kind"] not in VOLATILITIES:
        return (y - f) ** 2
    realized = variances(rows[["y_true"]], "y_true", about["kind"])
    ratio = realized / np.maximum(variances(rows, column, about["kind"]), 1e-4 * realized)
    return (ratio - np.log(ratio) - 1).where(f.notna())


def number_metrics(rows: pd.DataFrame, column: str, loss: pd.Series, about: dict) -> dict:
    """Errors, in the target's unit and free of scale, and association of one forecaster of numbers."""
    y, f, kind = rows["y_true"], rows[column], about["kind"]
    mae, mse = metrics.mean_absolute_error, metrics.mean_squared_error
    values = {"mae": mae(y, f), "rmse": math.sqrt(mse(y, f))}
    values["mase"] = ((y - f).abs() / rows["naive_mae"])[rows["naive_mae"] > 0].mean()
    values["rmsse"] = math.sqrt(((y - f) ** 2 / rows["naive_mse"])[rows["naive_mse"] > 0].mean())
    values["rse"] = math.sqrt(mse(y, f) / np.var(y)) if np.ptp(y) else math.nan
    if kind == "level":  # correlation of the levels themselves
        each = [pearson(part, column) for _, part in rows.groupby("symbol")]
        values["corr"] = np.mean([r for r in each if r == r] or math.nan)
    values |= {f"r2_{n}": 1 - mse(y, f) / np.mean((y - b) ** 2) for n, b in (("zero", 0), ("mean", rows["y_mean"]))}
    if kind in VOLATILITIES:
        true, size = (np.exp(y), np.exp(f)) if kind == "log_volatility" else (y, f)
        values |= {"volatility_mae": mae(true, size), "volatility_rmse": math.sqrt(mse(true, size))}
        values["qlike"] = loss.mean()
        r2 = metrics.r2_score(np.log(true), np.log(np.maximum(size, 0.01 * true)))
        values["r2_log"] = r2 if true.nunique() > 1 else math.nan
    unit = 1e-12 * rows["y_last"].abs().max()  # a difference of two levels has rounding noise
    change = [np.round((x - rows["y_last"]) / unit) * unit if kind == "level" else x for x in (y, f)]
    values = values if kind == "return" else {name: value for name, value in values.items() if name != "r2_zero"}
    names = ["directional_accuracy", "pesaran_timmermann_p"] if kind not in ("return", "level") else []
    moved = rows["y_last"].notna() if kind == "level" else y.notna()
    related = association(*(x[moved] for x in change), rows["as_of"][moved], about["horizon"])
    return values | {name: value for name, value in related.items() if name not in names}


def class_metrics(rows: pd.DataFrame, column: str, loss: pd.Series | None, about: dict) -> dict:
    """Metrics of the chosen classes and, where there are any, of their probabilities."""
    y, f, classes = rows["y_true"].astype(int), rows[column].astype(int), about["classes"]
    labels, hot = list(range(classes)), np.eye(classes)[y]
    p, prior = (probabilities(rows, name, classes) for name in (column, "y_mean"))
    scores = metrics.precision_recall_fscore_support(y, f, labels=labels, zero_division=np.nan)
    values = {"accuracy": metrics.accuracy_score(y, f), "balanced_accuracy": metrics.balanced_accuracy_score(y, f)}
    values |= {"f1": metrics.f1_score(y, f, average="macro"), "mcc": metrics.matthews_corrcoef(y, f)}
    values |= {"precision": scores[0].tolist(), "recall": scores[1].tolist()}
    values["confusion"] = metrics.confusion_matrix(y, f, labels=labels).tolist()
    if column != "y_pred":  # exact McNemar test: a coin for each row that only one has right
        ours, theirs = (np.sum((rows[a] == y) & (rows[b] != y)) for a, b in (("y_pred", column), (column, "y_pred")))
        values["mcnemar_p"] = stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    if p is None:
        return values
    areas = {"roc_auc": metrics.roc_auc_score, "pr_auc": metrics.average_precision_score}
    values |= {name: area(hot, p) if hot.any(axis=0).all() else math.nan for name, area in areas.items()}
    brier, brier_prior = (((q - hot) ** 2).sum(axis=1).mean() for q in (p, prior))
    values |= {"log_loss": loss.mean(), "brier": brier, "brier_skill": 1 - brier / brier_prior}
    bins = pd.DataFrame({"confidence": p.max(axis=1), "accuracy": p.argmax(axis=1) == y, "rows": 1})
    c, right = bins["confidence"], bins["accuracy"]
    edges = np.sort(c)[(len(c) - 1) * np.arange(1, 15) // 15]
    z = ((right - c) * (1 - 2 * c)).sum() / np.sqrt(((1 - 2 * c) ** 2 * c * (1 - c)).sum())
    table = bins.groupby(np.searchsorted(edges, c)).agg({"confidence": "mean", "accuracy": "mean", "rows": "sum"})
    gap = (table["accuracy"] - table["confidence"]).abs()
    values |= {"ece": (gap * table["rows"]).sum() / len(c), "reliability": table.to_dict("records")}
    return values | {"spiegelhalter_p": 2 * stats.norm.sf(abs(z))}
