"""Recompute the metrics of a run's report from its predictions alone: python docs/recompute_report.py RUN.

It reads RUN/predictions.parquet and uses public libraries and the definitions in docs/recompute, nothing of cnn_lstm.
So it shows that RUN/report.json follows from the forecasts: every number must agree to 1e-9, bootstraps too (same seed,
same draws). It names each metric that differs and each kind that it does not cover. It exits with 1 if one differs.
"""

import json
import sys
import warnings
from numbers import Number
from pathlib import Path

import pandas as pd
from arch.bootstrap import StationaryBootstrap
from recompute.forecasts import VOLATILITIES, class_metrics, losses, number_metrics
from recompute.intervals import distribution, interval_metrics, set_metrics, spreads
from recompute.significance import breakdowns, compare, holds_up
from recompute.strategy import strategy_metrics
from recompute.tail_risk import tail_risk
from recompute.values import leaves, same

NAMES = {"y_pred": "model", "y_zero": "zero", "y_mean": "training mean", "y_last": "last value"}
NAMES |= {"y_seasonal": "seasonal naive", "y_ridge": "ridge", "y_logistic": "logistic", "y_dlinear": "DLinear"}
NAMES |= {"y_har": "HAR", "y_log_har": "log-HAR", "y_gbm": "gradient boosting"}
LOSS = dict.fromkeys(VOLATILITIES, "QLIKE") | {"class": "log loss"}


def target_report(table: pd.DataFrame, target: str, about: dict) -> dict:
    """All metrics of one target, on the rows where truth and all forecasts are known."""
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
    evidence = holds_up(tests[best], settings["level"]) and not table.attrs.get("failed_checks")
    evidence = evidence and count >= max(30, 5 * h)
    report = {name: about[name] for name in ("kind", "unit", "horizon", "delay", "classes")}
    report |= {"first": date.min().isoformat(), "last": date.max().isoformat()}
    report |= {"dates": count, "dates_needed": max(30, 5 * h)}
    report |= {"rows": len(rows), "left_out": len(given) - len(rows), "symbols": rows["symbol"].nunique()}
    report |= {"loss": LOSS.get(kind, "squared error"), "best_baseline": best, "comparisons": tests}
    report |= {"evidence": evidence, "verdict": "EVIDENCE OF SKILL" if evidence else "NO EVIDENCE OF SKILL"}
    report["selection"] = {"trials": table.attrs["trials"], "spa_p": (settings.get("spa") or {}).get(target)}
    metrics = class_metrics if kind == "class" else number_metrics
    report["forecasts"] = {name: metrics(rows, column, loss.get(name), about) for column, name in names.items()}
    report |= breakdowns(rows, loss["model"], loss[best])
    levels = [level for level in (50, 80, 90, 95) if {f"lower_{level}", f"set_{level}"} & {*rows}]
    judge = set_metrics if kind == "class" else interval_metrics
    report["intervals"] = {str(level): judge(rows, level) for level in levels}
    report |= {"distribution": distribution(rows, about), "spread": spreads(rows)}
    report["tail_risk"] = tail_risk(rows, about, settings) if kind == "return" else {}
    if kind in ("return", "class"):
        report["strategy"] = strategy_metrics(rows, about, settings, table.attrs["trials"])
    return report


def main(run: Path) -> bool:
    """Compares the recomputed metrics with the reported ones; True if none differs."""
    warnings.simplefilter("ignore")  # of metrics that have no value, as the correlation of a constant
    table = pd.read_parquet(run / "predictions.parquet")
    reported = leaves(json.loads((run / "report.json").read_text()))
    redone = {name: target_report(table, name, about) for name, about in table.attrs["targets"].items()}
    redone = leaves({"format": 1, "settings": table.attrs["settings"], "targets": redone})
    wrong = [path for path in redone if not same(redone[path], reported.get(path, "nothing"))]
    for path in wrong:
        print(f"{path}: reported {reported.get(path, 'nothing')}, recomputed {redone[path]}")
    left = [path for path, value in reported.items() if isinstance(value, Number) and path not in redone]
    kinds = sorted({[part for part in path.split(".") if not part.isdigit()][-1] for path in left})
    print(f"{len(redone) - len(wrong)} metrics are equal, {len(wrong)} differ, {len(left)} are not covered: {kinds}")
    return not wrong


if __name__ == "__main__":
    sys.exit(0 if main(Path(sys.argv[1])) else 1)
