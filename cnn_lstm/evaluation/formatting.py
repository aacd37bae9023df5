"""How metrics are written, in the terminal and on the page: numbers, titles of columns, aligned tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cnn_lstm.evaluation.json_types import ComparedLosses, Extent, TargetReport

ERRORS = ("rmse", "mae", "mase", "r2_mean")
# kind of the target -> metrics of its table of forecasts
COLUMNS = {
    "return": (*ERRORS, "r2_zero", "ic", "rank_ic", "directional_accuracy"),
    "volatility": ("qlike", "r2_log", *ERRORS),
    "log_volatility": ("qlike", "r2_log", *ERRORS),
    "class": ("log_loss", "brier", "accuracy", "balanced_accuracy", "f1", "mcc", "roc_auc", "ece"),
    "level": (*ERRORS, "rse", "corr", "ic", "directional_accuracy"),
    "value": (*ERRORS, "ic", "rank_ic"),
}
# a metric without a title is written by its name
TITLES = {
    "qlike": "QLIKE",
    "r2_log": "R2 log",
    "rmse": "RMSE",
    "mae": "MAE",
    "mase": "MASE",
    "rse": "RSE",
    "corr": "CORR",
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


def number(value: float | None) -> str:
    """A metric with four significant digits, or a dash.

    Example:
        >>> number(0.0123456), number(12.3456), number(-1e-7), number(None)
        ('0.01235', '12.35', '-1e-07', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def p_value(value: float | None) -> str:
    """A p-value with three digits, or a dash.

    Example:
        >>> p_value(0.0321), p_value(1e-9), p_value(None)
        ('0.032', '<0.001', '-')
    """
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share in percent with one decimal, or a dash.

    Example:
        >>> percent(0.1234), percent(None)
        ('12.3%', '-')
    """
    return "-" if value is None else f"{value:.1%}"


def comparison_cells(compared: ComparedLosses | None) -> list[str]:
    """Skill and the two p-values of a comparison with a baseline; dashes without one."""
    if compared is None:
        return ["-", "-", "-"]
    return [number(compared["skill"]), p_value(compared["dm_p"]), p_value(compared["bootstrap_p"])]


def rows_cells(target: TargetReport) -> dict[str, list[str]]:
    """For each forecaster the number of its rows, as cells of a column of its own; no cells where all are equal.

    Example:
        >>> rows_cells({"rows": 1200, "forecasts": {"model": {}, "ridge": {"rows": 900}}})
        {'model': ['1,200'], 'ridge': ['900']}
        >>> rows_cells({"rows": 1200, "forecasts": {"model": {}, "ridge": {}}})
        {'model': [], 'ridge': []}
    """
    rows = {name: metrics.get("rows", target["rows"]) for name, metrics in target["forecasts"].items()}
    return {name: [f"{count:,}"] if min(rows.values()) < target["rows"] else [] for name, count in rows.items()}


def aligned(rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """Rows of cells as a text table with two blanks between the columns.

    Args:
        rows: The rows, all with the same number of cells; the first may be the heading.
        left: How many columns, from the left, are left-aligned; the others are right-aligned. All of them by default.

    Example:
        >>> print(aligned([("", "mean", "std"), ("mae", "0.5", "0.125")], left=1))
             mean    std
        mae   0.5  0.125
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    styles = [f"{'<' if left is None or k < left else '>'}{width}" for k, width in enumerate(widths)]
    return "\n".join("  ".join(map(format, row, styles)).rstrip() for row in rows)


def time_noun(extent: Extent | TargetReport) -> str:
    """What the moments of decisions are called: dates, where no day has two; timestamps of bars within the day.

    Args:
        extent: `first`, `last` and `dates` of the rows.

    Example:
        >>> days = {"first": "2024-01-01T00:00:00", "last": "2024-01-12T00:00:00"}
        >>> [time_noun(Extent(rows=9, left_out=0, symbols=1, dates=n, dates_needed=9, **days)) for n in (9, 13)]
        ['date', 'timestamp']
    """
    if not extent.get("first"):
        return "date"
    first, last = (datetime.fromisoformat(extent[name]) for name in ("first", "last"))
    return "timestamp" if extent["dates"] > (last.date() - first.date()).days + 1 else "date"
