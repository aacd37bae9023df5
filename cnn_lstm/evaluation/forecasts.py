"""The forecasts of a predictions table: the model's and its baselines', with the loss that each is judged by.

Shapes: n forecasts of one target, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.metrics.classes import log_losses
from cnn_lstm.evaluation.metrics.errors import LOWEST_SHARE, qlike

# column -> name in tables; any further column that begins with y_ is a baseline too, named after its column
NAMES = {
    "y_pred": "model",
    "y_linear": "linear part",
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
LINEAR = NAMES["y_linear"]
FEWEST_ROWS = 2  # a forecaster that knows fewer is left out
# forecasts that nothing is fitted for but a mean
NAIVE = ("zero", "training mean", "prior", "last value", "seasonal naive")


@dataclass(frozen=True)
class Forecast:
    """One forecaster's forecasts of one target.

    A baseline need not know all rows: what it does not know is NaN.

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

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which rows it forecasts, (n,)."""
        return ~np.isnan(self.point if self.loss is None else self.loss)

    def of(self, rows: NDArray[np.bool_]) -> Forecast:
        """The same on chosen rows, (n,)."""
        columns = (self.point, self.loss, self.probabilities, self.variance)
        point, loss, probabilities, variance = (None if column is None else column[rows] for column in columns)
        assert point is not None, "every forecaster has point forecasts"
        return Forecast(point, loss, probabilities, variance)


def judged_rows(table: pd.DataFrame, target: str, about: TargetInfo) -> pd.DataFrame:
    """Rows of a target on which the model can be judged: its truth and the model's forecast are known.

    For volatilities, rows without any movement are left out, since QLIKE is undefined there. A baseline may lack some
    of the rows; one that has none of them belongs to another target, and its column is left out.
    """
    rows = table[table["target"] == target]
    forecasts = [name for name in rows.columns if name.startswith("y_") and name != "y_true"]
    rows = rows.drop(columns=[name for name in forecasts if rows[name].isna().all()])
    rows = rows[rows["y_true"] > 0] if about.quantity.is_positive else rows[rows["y_true"].notna()]
    return rows[_forecast(rows, "y_pred", about).known] if "y_pred" in rows else rows[:0]


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


def known_forecasts(rows: pd.DataFrame, about: TargetInfo) -> dict[str, Forecast]:
    """Those of `read_forecasts` that know enough rows to be judged."""
    return {name: one for name, one in read_forecasts(rows, about).items() if one.known.sum() >= FEWEST_ROWS}


def divergences(model: Forecast, baseline: Forecast) -> Floats:
    """How much lower the expected loss of a model is than that of a baseline if the model is right, row by row, (n,).

    Each loss has its own divergence: squared error the squared distance of the two forecasts, QLIKE that of their
    variances, the log loss the information of Kullback and Leibler.

    Args:
        model: The forecasts that are taken to be right.
        baseline: Other forecasts of the same rows; both have losses.

    Source:
        Gneiting and Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation.
    """
    if model.probabilities is not None and baseline.probabilities is not None:
        least = np.finfo(np.float64).eps
        p, q = np.maximum(model.probabilities, least), np.maximum(baseline.probabilities, least)
        return np.asarray((p * np.log(p / q)).sum(axis=1))
    if model.variance is not None and baseline.variance is not None:
        return qlike(np.maximum(model.variance, LOWEST_SHARE * baseline.variance), baseline.variance)
    return (model.point - baseline.point) ** 2


def _forecast(rows: pd.DataFrame, column: str, about: TargetInfo) -> Forecast:
    quantity, true, point = about.quantity, rows["y_true"].to_numpy(np.float64), rows[column].to_numpy(np.float64)
    if quantity.is_class:
        stem = PROBABILITIES.get(column, f"{column.removeprefix('y_')}_p")
        names = [f"{stem}{number}" for number in range(about.classes)]
        if not set(names) <= set(rows.columns):
            return Forecast(point, None)
        probabilities = rows[names].to_numpy(np.float64)
        missing = np.isnan(probabilities).any(axis=1) | np.isnan(point)
        return Forecast(point, np.where(missing, np.nan, log_losses(true, probabilities)), probabilities)
    if quantity.is_volatility:
        known = variance_name(column)
        variance = rows[known].to_numpy(np.float64) if known in rows else quantity.variance(point)
        losses = np.where(np.isnan(point), np.nan, qlike(quantity.variance(true), variance))
        return Forecast(point, losses, variance=variance)
    return Forecast(point, (true - point) ** 2)


def variance_name(column: str) -> str:
    """Column of the variance forecasts that belong to a column of point forecasts.

    Example:
        >>> variance_name("y_log_har")
        'variance_log_har'
    """
    return f"variance_{column.removeprefix('y_')}"
