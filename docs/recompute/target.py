"""All metrics of one target."""

import pandas as pd
from recompute.forecasts import VOLATILITIES, class_metrics, losses, number_metrics
from recompute.intervals import distribution, interval_metrics, set_metrics, spreads
from recompute.sequential import sequential
from recompute.significance import breakdowns
from recompute.strategy import strategy_metrics
from recompute.tail_risk import tail_risk
from recompute.verdict import compare_all, conclusion, divergence, smallest_skill

NAMES = {
    "y_pred": "model",
    "y_linear": "linear part",
    "y_zero": "zero",
    "y_mean": "training mean",
    "y_last": "last value",
}
NAMES |= {"y_seasonal": "seasonal naive", "y_ridge": "ridge", "y_logistic": "logistic", "y_dlinear": "DLinear"}
NAMES |= {"y_har": "HAR", "y_log_har": "log-HAR", "y_gbm": "gradient boosting"}
LOSS = dict.fromkeys(VOLATILITIES, "QLIKE") | {"class": "log loss"}


def target_report(table: pd.DataFrame, target: str, about: dict) -> dict:
    """All metrics of one target: the model's on the rows that it knows, each baseline's on those that both know."""
    settings, kind, given = table.attrs["settings"], about["kind"], table[table["target"] == target]
    rows = given.dropna(axis=1, how="all").dropna(subset=["y_true", "y_pred"])
    rows = rows[(losses(rows, "y_pred", about).notna()) & ((rows["y_true"] > 0) | (kind != "volatility"))]
    rows = rows.sort_values(["symbol", "as_of"], ignore_index=True)
    names = NAMES | ({"y_mean": "prior"} if kind == "class" else {})
    names |= {name: name[2:] for name in rows if name.startswith("y_") and name not in (*names, "y_true")}
    loss = {name: losses(rows, column, about) for column, name in names.items() if column in rows}
    known = {
        name: rows[c].notna() if (one := loss.get(name)) is None else one.notna()
        for c, name in names.items()
        if c in rows
    }
    names = {column: name for column, name in names.items() if name in known and known[name].sum() > 1}
    loss = {name: loss[name] for name in names.values() if loss[name] is not None}
    date, h = rows["as_of"], about["horizon"]
    tests = compare_all(rows, loss, h, settings)
    for column, name in names.items():
        if name in tests:
            saving = divergence(rows[known[name]], column, about)
            tests[name]["smallest_skill"] = smallest_skill(tests[name], saving, settings["level"])
    concluded = conclusion(tests, len(rows), h, settings, table.attrs.get("failed_checks") or [])
    best = known[concluded["best_baseline"]]
    report = {name: about[name] for name in ("kind", "unit", "horizon", "delay", "classes")} | concluded
    report |= {"first": date.min().isoformat(), "last": date.max().isoformat(), "dates": date.nunique()}
    report |= {"rows": len(rows), "left_out": len(given) - len(rows), "symbols": rows["symbol"].nunique()}
    report |= {"dates_needed": max(30, 5 * h), "loss": LOSS.get(kind, "squared error"), "comparisons": tests}
    report["sequential"] = sequential(rows, loss, h, (table.attrs.get("kept_losses") or {}).get(target))
    report["loss_model"] = loss["model"].mean()
    report["selection"] = {"trials": table.attrs["trials"], "spa_p": (settings.get("spa") or {}).get(target)}
    report["forecasts"] = {
        name: metrics(rows, column, loss.get(name), about, known[name]) for column, name in names.items()
    }
    report |= breakdowns(rows[best], loss["model"][best], loss[concluded["best_baseline"]][best])
    levels = [level for level in (50, 80, 90, 95) if {f"lower_{level}", f"set_{level}"} & {*rows}]
    judge = set_metrics if kind == "class" else interval_metrics
    report["intervals"] = {str(level): judge(rows, level) for level in levels}
    report["distribution"] = distribution(rows, about)
    report["spread"] = spreads(rows)
    report["tail_risk"] = tail_risk(rows, about, settings) if kind == "return" else {}
    if kind in ("return", "class") and "bar_return" in rows:
        report["strategy"] = strategy_metrics(rows, about, settings, table.attrs["trials"])
    return report


def metrics(rows: pd.DataFrame, column: str, loss: pd.Series | None, about: dict, known: pd.Series) -> dict:
    """Metrics of one forecaster on the rows that it knows."""
    judge = class_metrics if about["kind"] == "class" else number_metrics
    values = judge(rows[known], column, None if loss is None else loss[known], about)
    return values if known.all() else {"rows": known.sum()} | values
