"""Metrics of volatility forecasts.

Shapes: n rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_lstm.evaluation.series import is_constant

Floats = NDArray[np.float64]
# share of the realised variance, a hundredth of the volatility: lower forecasts count as this one
LOWEST_SHARE = 1e-4


def qlike(realized_variance: ArrayLike, forecast_variance: ArrayLike) -> Floats:
    """QLIKE loss of variance forecasts: r - log(r) - 1 with r = realised / forecast (Patton 2011).

    The loss ranks forecasts as the true variance would even though realised variance is a noisy measure of it. A
    forecast below a ten-thousandth of the realised variance, even a negative one, costs as much as one of that size.
    The limit depends on the truth of the row alone, so it is the same for every forecast and every selection of rows.

    Args:
        realized_variance: Realised variance, (n,), above 0: leave out rows without any movement.
        forecast_variance: Forecast of it in the same unit, (n,).

    Returns:
        Losses, (n,); 0 for a perfect forecast, at most about 10,000.

    Example:
        >>> qlike([0.04, 0.04], [0.04, 0.02]).round(4)
        array([0.    , 0.3069])
    """
    realized = np.asarray(realized_variance, dtype=np.float64)
    forecast = np.maximum(np.asarray(forecast_variance, dtype=np.float64), LOWEST_SHARE * realized)
    ratio = realized / forecast
    loss: Floats = ratio - np.log(ratio) - 1
    return loss


def volatility_metrics(true: ArrayLike, forecast: ArrayLike, forecast_variance: ArrayLike) -> dict[str, float]:
    """Metrics of volatility forecasts.

    Args:
        true: Realised volatility, (n,), above 0.
        forecast: Forecast of it, (n,).
        forecast_variance: Forecast of the squared volatility, (n,): the square of a volatility forecast is too small
            on average, so this is a separate forecast.

    Returns:
        qlike: mean QLIKE loss of `forecast_variance`.
        r2_log: R2 of the log volatility, against the mean of these rows; a `forecast` below a hundredth of the truth
        counts as one of that size; NaN where the truth is constant.
        mae, rmse: in the unit of the volatility.

    Example:
        >>> metrics = volatility_metrics([0.1, 0.2, 0.4], [0.1, 0.2, 0.2], [0.01, 0.04, 0.04])
        >>> {name: round(value, 4) for name, value in metrics.items()}
        {'qlike': 0.5379, 'r2_log': 0.5, 'mae': 0.0667, 'rmse': 0.1155}
    """
    y, f = np.asarray(true, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    error = y - f
    return {
        "qlike": float(qlike(y**2, forecast_variance).mean()),
        "r2_log": _r2_log(y, f),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }


def _r2_log(y: Floats, f: Floats) -> float:
    log_true = np.log(y)
    log_forecast = np.log(np.maximum(f, np.sqrt(LOWEST_SHARE) * y))
    if is_constant(log_true):
        return float("nan")
    squared = ((log_true - log_forecast) ** 2).sum()
    return float(1 - squared / ((log_true - log_true.mean()) ** 2).sum())
