"""The forecasts of a predictions table: the model's and its baselines', with the loss that each is judged by.

Shapes: n forecasts of one target, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.metrics.classes import log_losses
from cnn_lstm.evaluation.metrics.errors import qlike

# column -> name in tables; any further column that begins with y_ is a baseline too, named after its column
NAMES = {
    "y_pred": "model",
    "y_zero": "zero",
    "y_mean": "training mean",
    "y_last": "last value",
    "y_seasonal": "seasonal naive",
    "y_ridge": "ridge",
    "y_logistic": "logistic",
    "y_dlinear": "DLinear",
    "y_har": "HAR",
    "y_log_har": "log-HAR",
    "y_gbm": "gradient boosting",
}
PROBABILITIES = {"y_pred": "p", "y_mean": "prior_p"}  # else the name without y_, with _p


@dataclass(frozen=True)
class Forecast:
    """One forecaster's forecasts of one target.

    Attributes:
        point: Point forecasts, (n,).
        loss: Loss of each row that the verdict rests on, (n,); None for classes without probabilities.
        probabilities: Probability of each class, (n, C); None for numbers and for hard classes.
        variance: Variance forecasts, (n,); None unless the target is a volatility.
    """

    point: Floats
    loss: Floats | None
    probabilities: Floats | None = None
    variance: Floats | None = None


def judged_rows(table: pd.DataFrame, target: str, about: TargetInfo) -> pd.DataFrame:
    """Rows of a target on which every forecaster can be judged: truth known, no forecast missing.

    For volatilities, rows without any movement are left out, since QLIKE is undefined there.
    """
    rows = table[table["target"] == target]
    forecasts = [name for name in rows.columns if name.startswith("y_") and name != "y_true"]
    foreign = [name for name in forecasts if rows[name].isna().all()]  # baselines of other targets
    rows = rows.drop(columns=foreign)
    kept = rows[["y_true", *(name for name in forecasts if name not in foreign)]].notna().all(axis=1)
    if about.quantity.is_positive:
        kept &= rows["y_true"] > 0
    return rows[kept]


def read_forecasts(rows: pd.DataFrame, about: TargetInfo) -> dict[str, Forecast]:
    """All forecasters of a target, the model first.

    Args:
        rows: Rows of one target, as `judged_rows` gives them.
        about: What the table says of the target.

    A volatility forecast without a variance column is judged by its square.
    """
    columns = sorted(
        (name for name in rows.columns if name.startswith("y_") and name != "y_true"),
        key=lambda name: list(NAMES).index(name) if name in NAMES else len(NAMES),
    )
    names = NAMES | ({"y_mean": "prior"} if about.quantity.is_class else {})
    return {names.get(column, column.removeprefix("y_")): _forecast(rows, column, about) for column in columns}


def _forecast(rows: pd.DataFrame, column: str, about: TargetInfo) -> Forecast:
    quantity, true, point = about.quantity, rows["y_true"].to_numpy(np.float64), rows[column].to_numpy(np.float64)
    if quantity.is_class:
        stem = PROBABILITIES.get(column, f"{column.removeprefix('y_')}_p")
        names = [f"{stem}{number}" for number in range(about.classes)]
        if not set(names) <= set(rows.columns):
            return Forecast(point, None)
        probabilities = rows[names].to_numpy(np.float64)
        return Forecast(point, log_losses(true, probabilities), probabilities)
    if quantity.is_volatility:
        known = variance_name(column)
        variance = rows[known].to_numpy(np.float64) if known in rows else quantity.variance(point)
        return Forecast(point, qlike(quantity.variance(true), variance), variance=variance)
    return Forecast(point, (true - point) ** 2)


def variance_name(column: str) -> str:
    """Column of the variance forecasts that belong to a column of point forecasts.

    Example:
        >>> variance_name("y_log_har")
        'variance_log_har'
    """
    return f"variance_{column.removeprefix('y_')}"
