"""The report follows from the predictions alone, by a program that shares nothing with the package."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.evaluation.json_types import Report
from cnn_lstm.evaluation.report import evaluate
from tests.evaluation.tables import predictions_table

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "recompute_report.py"
PARTS = sorted((DOCS / "recompute").glob("*.py"))
INTERVALS = [f"{end}_{level}" for end in ("lower", "upper") for level in (50, 80, 90, 95)]


def one_target(kind: str, **options: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A small table, and what its attrs say of its only target."""
    table = predictions_table((kind,), dates=260, resamples=100, **options)
    return table, next(iter(table.attrs["targets"].values()))


def returns() -> pd.DataFrame:
    return one_target("return")[0]


def few_symbols() -> pd.DataFrame:
    """Too few symbols for correlations across them, no evidence, fewer dates than a rolling window."""
    table = predictions_table(("return",), symbols=("AAA", "BBB"), dates=200, skill=0.0, resamples=100)
    table.loc[table["symbol"] == "AAA", "naive_mae"] = 0.0  # no scale
    return table


def ranked_weeks() -> pd.DataFrame:
    """Overlapping returns, traded by rank, of symbols with holes, unknown returns and truths, and a failed check."""
    table, about = one_target("return", symbols=tuple("ABCDEFG"))
    table.attrs["settings"] |= {"position": "rank", "fee_bp": 1.5, "seed": 3}
    table.attrs |= {"trials": 1, "failed_checks": ["L3.1 temporal leakage"]}
    about["horizon"] = 5
    table.attrs["settings"]["spa"] = dict.fromkeys(table.attrs["targets"], 0.2)
    late = table["as_of"] > table["as_of"].max() - pd.Timedelta(days=4)
    table.loc[late | (table.index % 97 == 5), "bar_return"] = np.nan
    table.loc[table.index % 53 == 7, "y_true"] = np.nan
    table.loc[table.index % 59 == 9, ["volatility", "lower_80"]] = np.nan
    kept: pd.DataFrame = table[(table["symbol"] != "G") | (table["as_of"] > table["as_of"].iloc[100])].reset_index(
        drop=True
    )
    kept.attrs = table.attrs
    return kept


def log_volatilities() -> pd.DataFrame:
    return one_target("log_volatility")[0]


def volatilities() -> pd.DataFrame:
    """Volatilities, some of them 0, some forecasts below 0."""
    table, about = one_target("log_volatility")
    about["kind"] = "volatility"
    columns = [str(name) for name in table if str(name).startswith("y_")] + INTERVALS
    table[columns] = np.exp(table[columns])
    table.loc[table.index % 101 == 3, "y_true"] = 0.0
    table.loc[table.index % 89 == 4, "y_har"] *= -1
    table = table.drop(columns="variance_har")  # judged by its square, and not where it is below 0
    table.loc[table.index % 71 == 4, "scale"] = 0.0
    return table


def suspended() -> pd.DataFrame:
    """A symbol whose price stands still: zero, the best baseline, has no loss there."""
    table, _ = one_target("return", skill=0.0)
    table.loc[table["symbol"] == "CCC", "y_true"] = 0.0
    table["y_zero"] = 0.5 * table["y_true"]
    return table


def folds() -> pd.DataFrame:
    """Stitched from three folds, each with calibration scores of its own."""
    table, about = one_target("return")
    table["fold"] = pd.qcut(table["as_of"].rank(method="first"), 3, labels=False)
    scores = about["scores"]
    about["scores"] = {str(fold): [(fold + 1.0) * score for score in scores[fold:]] for fold in range(3)}
    return table


def classes() -> pd.DataFrame:
    return one_target("class")[0]


def levels() -> pd.DataFrame:
    table, about = one_target("return")
    about["kind"] = "level"
    columns = [str(name) for name in table if str(name).startswith("y_")] + INTERVALS
    table[columns] = 100.0 * (1.0 + table[columns])
    table[["scale", "std"]] *= 100.0
    return table


def pools() -> pd.DataFrame:
    """Two levels of one distance, one of another, and a return; one of them lacks a baseline and some truths."""
    parts, about = [], {}
    for name, horizon in (("a", 3), ("b", 3), ("c", 5)):
        one, of_one = levels(), one_target("return")[1]
        one["target"], about[name] = name, of_one | {"kind": "level", "horizon": horizon}
        parts.append(one)
    parts[1].loc[parts[1].index % 31 == 3, "y_true"] = np.nan
    parts[1]["y_ridge"] = np.nan
    table = pd.concat([*parts, returns()], ignore_index=True)
    table.attrs = parts[0].attrs | {"targets": about | parts[0].attrs["targets"]}
    table.attrs["targets"]["return_1"] = one_target("return")[1]
    return table


def labels_without_a_price() -> pd.DataFrame:
    return one_target("class")[0].assign(bar_return=np.nan)


def numbers_without_a_price() -> pd.DataFrame:
    """Plain values, of which no volatility is known."""
    table, about = one_target("return")
    about["kind"] = "value"
    table.attrs["targets"] = dict.fromkeys(table.attrs["targets"], about)
    return table.assign(volatility=np.nan, bar_return=np.nan)


def holes() -> pd.DataFrame:
    """Baselines that lack rows, one of them most; the best one knows two thirds. A linear part that knows all."""
    table, _ = one_target("log_volatility")
    attrs = table.attrs
    linear = 0.5 * table["y_har"] + 0.5 * table["y_mean"]
    own, few = (0.7 * table["y_true"] + 0.3 * table[name] for name in ("y_har", "y_mean"))
    table = table.assign(y_linear=linear, variance_linear=1.3 * np.exp(2 * linear))
    table = table.assign(y_own=own.where(table.index % 3 != 0), y_few=few.where(table.index % 3 == 0))
    table.loc[table.index % 5 == 1, ["y_har", "y_pred"]] = np.nan
    table.loc[table.index % 7 == 1, "y_last"] = np.nan
    table.attrs = attrs
    return table


def classes_with_holes() -> pd.DataFrame:
    """Probabilities that are known without a point, and points without probabilities."""
    table = one_target("class")[0]
    table.loc[table.index % 5 == 1, "y_logistic"] = np.nan
    table.loc[table.index % 5 == 2, "logistic_p1"] = np.nan
    table.loc[table.index % 5 == 3, "y_last"] = np.nan
    table.loc[table.index % 50 == 4, "p2"] = np.nan
    return table


def heads(*columns: str) -> pd.DataFrame:
    """Returns with the columns of another head than the normal one."""
    table, random = returns(), np.random.default_rng(0)
    table = table[table["symbol"] < "CCC"].reset_index(drop=True)
    count, size = len(table), table["std"].to_numpy()
    values = {"df": 3.0 + random.random(count), "skew": random.uniform(-0.5, 0.3, count)}
    for k, share in enumerate((0.3, 0.7)):
        values |= {f"weight_{k}": np.full(count, share), f"mean_{k}": (k - 0.5) * size, f"std_{k}": (0.5 + k) * size}
    values["q05"] = table["y_pred"].to_numpy() - 1.5 * size
    attrs = table.attrs
    table = table.assign(**{name: values[name] for name in columns})
    table.attrs = attrs
    return table


def student_t() -> pd.DataFrame:
    return heads("df")


def skewed_t() -> pd.DataFrame:
    table = heads("df", "skew")
    table.attrs["targets"]["return_1"]["horizon"] = 5
    return table


def mixture() -> pd.DataFrame:
    return heads(*(f"{name}_{k}" for name in ("weight", "mean", "std") for k in range(2)))


def quantiles() -> pd.DataFrame:
    table = heads("q05")
    attrs = table.attrs
    table = table.drop(columns="std")
    table.attrs = attrs
    return table


TABLES = [
    student_t,
    skewed_t,
    mixture,
    quantiles,
    returns,
    few_symbols,
    suspended,
    ranked_weeks,
    log_volatilities,
    volatilities,
    folds,
    classes,
    levels,
]
TABLES += [pools, labels_without_a_price, numbers_without_a_price, holes, classes_with_holes]


def write(run: Path, table: pd.DataFrame, report: Report) -> None:
    table.to_parquet(run / "predictions.parquet")
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")


def recompute(run: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), str(run)], capture_output=True, text=True, timeout=120)


def numbers(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, int | float):
        yield path[1:]


def change(report: Report, path: str, changed: Callable[[Any], Any]) -> None:
    *parents, last = path.split(".")
    place: Any = report
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    key: int | str = int(last) if isinstance(place, list) else last
    place[key] = changed(place[key])


@pytest.mark.parametrize("table", TABLES, ids=lambda make: make.__name__)
def test_every_number_of_the_report_is_recomputed(tmp_path: Path, table: Callable[[], pd.DataFrame]) -> None:
    given = table()
    report = evaluate(given)
    write(tmp_path, given, report)
    done = recompute(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    equal = int(done.stdout.split()[0])
    assert equal >= len(list(numbers(report)))
    assert done.stdout == f"{equal} metrics are equal, 0 differ, 0 are not covered: []\n"


def test_any_changed_number_is_named(tmp_path: Path) -> None:
    given = predictions_table(("return", "log_volatility", "class"), dates=260, resamples=100)
    report = evaluate(given)
    paths = list(numbers(report))
    for path in paths:
        change(report, path, lambda value: not value if isinstance(value, bool) else value * (1 + 1e-8) + 1e-11)
    write(tmp_path, given, report)
    done = recompute(tmp_path)
    named = {line.partition(": reported ")[0] for line in done.stdout.splitlines() if ": reported " in line}
    assert (done.returncode, named) == (1, set(paths))


def test_one_changed_number_is_named_with_both_values(tmp_path: Path) -> None:
    given = returns()
    report = evaluate(given)
    strategy: Any = report["targets"]["return_1"]["strategy"]
    value, strategy["dsr"] = strategy["dsr"], 0.123
    strategy["luck"] = [1.0, 2.0]
    write(tmp_path, given, report)
    done = recompute(tmp_path)
    assert done.returncode == 1
    first, last = done.stdout.splitlines()
    path, _, recomputed = first.partition(": reported 0.123, recomputed ")
    assert path == "targets.return_1.strategy.dsr"
    assert float(recomputed) == pytest.approx(value, rel=1e-9)
    assert last.endswith("metrics are equal, 1 differ, 2 are not covered: ['luck']")


def test_one_changed_forecast_and_a_missing_metric_are_named(tmp_path: Path) -> None:
    given = returns()
    report = evaluate(given)
    del report["targets"]["return_1"]["forecasts"]["zero"]["mae"]
    given.loc[[77], "y_pred"] += 1e-4
    write(tmp_path, given, report)
    done = recompute(tmp_path)
    assert done.returncode == 1
    assert "targets.return_1.forecasts.model.mae: reported " in done.stdout
    assert "targets.return_1.forecasts.zero.mae: reported nothing, recomputed " in done.stdout
    assert "targets.return_1.forecasts.zero.rmse" not in done.stdout


@pytest.mark.parametrize("path", [SCRIPT, *PARTS], ids=lambda path: path.stem)
def test_each_file_is_short_and_independent(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    nodes = list(ast.walk(ast.parse(text)))
    modules = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    public = {"numpy", "pandas", "scipy", "sklearn", "statsmodels", "arch"}
    assert {module.partition(".")[0] for module in modules} <= public | {"recompute"} | sys.stdlib_module_names
