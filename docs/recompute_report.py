"""Recompute the figures of a run's report from its predictions alone: python docs/recompute_report.py RUN.

It reads RUN/predictions.parquet and uses public libraries and the definitions of the figures, nothing of this package.
So it shows that RUN/report.json follows from the forecasts: all must agree to 1e-9, bootstraps too (same seed, same
draws). A difference is printed with its path, and the exit status is then 1.
"""

import json
import math
import sys
import warnings
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap
from recompute_forecasts import VOLATILITIES, class_figures, compare, number_figures, probabilities
from recompute_risk import distribution, interval_figures, set_figures, strategy_figures

NAMES = {"y_pred": "model", "y_zero": "zero", "y_mean": "training mean", "y_last": "last value"}
NAMES |= {"y_seasonal": "seasonal naive", "y_ridge": "ridge", "y_logistic": "logistic", "y_dlinear": "DLinear"}
NAMES |= {"y_har": "HAR", "y_log_har": "log-HAR", "y_gbm": "gradient boosting"}
LOSS = dict.fromkeys(VOLATILITIES, "QLIKE") | {"class": "log loss"}


def losses(rows: pd.DataFrame, column: str, about: dict) -> pd.Series | None:
    """QLIKE of a volatility, log loss of classes, else squared error."""
    y, f = rows["y_true"], rows[column]
    if about["kind"] == "class":
        p = probabilities(rows, column, about["classes"])
        return None if p is None else -np.log(pd.Series(p[rows.index, y.astype(int)]).clip(lower=2.0**-52))
    if about["kind"] not in VOLATILITIES:
        return (y - f) ** 2
    realized, variance = (np.exp(2 * v) if about["kind"] == "log_volatility" else v.clip(lower=0) ** 2 for v in (y, f))
    ratio = realized / np.maximum(variance * about["smearing"].get(column, 1.0), 1e-4 * realized)
    return ratio - np.log(ratio) - 1


def breakdowns(rows: pd.DataFrame, model: pd.Series, baseline: pd.Series) -> dict:
    """The losses of model and best baseline for each symbol, year and tercile of volatility."""
    keys = {"symbol": rows["symbol"], "year": rows["as_of"].dt.year.astype(str)}
    if "volatility" in rows and rows["volatility"].nunique() > 3:
        ranks = rows["volatility"].rank(method="first")
        keys["regime"] = pd.qcut(ranks, 3, labels=["calm", "middle", "turbulent"])
    found, losses = {}, pd.DataFrame({"loss_model": model, "loss_baseline": baseline, "rows": 1})
    for name, key in keys.items():
        table = losses.groupby(key, observed=True).agg({"loss_model": "mean", "loss_baseline": "mean", "rows": "sum"})
        table["skill"] = 1 - table["loss_model"] / table["loss_baseline"]
        found[name] = table.rename_axis("name").reset_index().astype({"name": str}).to_dict("records")
    wins = [line["loss_model"] < line["loss_baseline"] for line in found["symbol"]]
    return {"win_rate": np.mean(wins), "breakdowns": found}


def target_report(table: pd.DataFrame, target: str, about: dict) -> dict:
    """All figures of one target, on the rows where truth and all forecasts are known."""
    settings, kind, given = table.attrs["settings"], about["kind"], table[table["target"] == target]
    rows = given.dropna(axis=1, how="all")
    rows = rows.dropna(subset=[name for name in rows if name.startswith("y_")])
    rows = rows[rows["y_true"] > 0] if kind == "volatility" else rows
    rows = rows.sort_values(["symbol", "as_of"], ignore_index=True)
    names = NAMES | ({"y_mean": "prior"} if kind == "class" else {})
    names |= {name: name[2:] for name in rows if name.startswith("y_") and name not in (*names, "y_true")}
    names = {column: name for column, name in names.items() if column in rows}
    loss = {name: one for column, name in names.items() if (one := losses(rows, column, about)) is not None}
    date, h, count = rows["as_of"], about["horizon"], rows["as_of"].nunique()
    daily = pd.DataFrame(loss).groupby(date).sum().to_numpy() * count / len(rows)
    bootstrap = StationaryBootstrap(max(2 * h, round(count ** (1 / 3))), daily, seed=settings["seed"])
    draws = bootstrap.apply(lambda drawn: drawn.mean(axis=0), settings["resamples"])
    tests = {name: compare(daily[:, [0, i]], draws[:, [0, i]], h) for i, name in enumerate(loss) if i}
    best = min(tests, key=lambda name: tests[name]["loss_baseline"])
    t = tests[best]
    better = (
        t["dm_statistic"] > 0 and max(t["dm_p"], t["bootstrap_p"]) < settings["level"] and t["skill_interval"][0] > 0
    )
    found = {"rows": len(rows), "left_out": len(given) - len(rows), "symbols": rows["symbol"].nunique(), "dates": count}
    found |= {
        "horizon": h,
        "delay": about["delay"],
        "classes": about["classes"],
        "loss": LOSS.get(kind, "squared error"),
    }
    found |= {
        "best_baseline": best,
        "evidence": bool(better and not table.attrs["failed_checks"]),
        "comparisons": tests,
    }
    figures = class_figures if kind == "class" else number_figures
    found["forecasts"] = {name: figures(rows, column, loss.get(name), about) for column, name in names.items()}
    found |= breakdowns(rows, loss["model"], loss[best])
    levels, judge = (50, 80, 90, 95), set_figures if kind == "class" else interval_figures
    found["intervals"] = {
        str(level): judge(rows, level) for level in levels if {f"lower_{level}", f"set_{level}"} & {*rows}
    }
    found["distribution"] = distribution(rows, about)
    spreads, error = {"mc_std", "ensemble_std"} & {*rows}, (rows["y_true"] - rows["y_pred"]).abs()
    found["spread"] = {
        n: {"mean": rows[n].mean(), "rank_correlation": rows[n].corr(error, "spearman")} for n in spreads
    }
    if kind in ("return", "class"):
        found["strategy"] = strategy_figures(rows, about, settings, table.attrs["trials"])
    return found


def leaves(value: Any, path: str = "") -> dict:
    """Dotted path of each single value; what is not finite has no value."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {p: v for key, item in pairs for p, v in leaves(item, f"{path}.{key}").items()}
    return {path[1:]: None if isinstance(value, Number) and not math.isfinite(value) else value}


def same(a: Any, b: Any) -> bool:
    """Whether two single values agree to 1e-9."""
    both = isinstance(a, Number) and isinstance(b, Number)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) if both else a == b


def main(run: Path) -> bool:
    """Compares what is recomputed with what is reported; True where nothing differs."""
    warnings.simplefilter("ignore")  # of figures that have no value, as the correlation of a constant
    table, reported = (
        pd.read_parquet(run / "predictions.parquet"),
        leaves(json.loads((run / "report.json").read_text())),
    )
    found = {name: target_report(table, name, about) for name, about in table.attrs["targets"].items()}
    found = leaves({"format": 1, "settings": table.attrs["settings"], "targets": found})
    wrong = [path for path in found if not same(found[path], reported.get(path, "nothing"))]
    for path in wrong:
        print(f"{path}: reported {reported.get(path, 'nothing')}, recomputed {found[path]}")
    left = [path for path, value in reported.items() if isinstance(value, Number) and path not in found]
    kinds = sorted({[part for part in path.split(".") if not part.isdigit()][-1] for path in left})
    print(f"{len(found) - len(wrong)} figures are equal, {len(wrong)} differ, {len(left)} are not covered: {kinds}")
    return not wrong


if __name__ == "__main__":
    sys.exit(0 if main(Path(sys.argv[1])) else 1)
