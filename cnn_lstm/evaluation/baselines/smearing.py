"""From a volatility forecast to a variance forecast without bias."""

from __future__ import annotations

import numpy as np

from cnn_lstm.data.targets import Target
from cnn_lstm.evaluation.baselines.material import Floats


def smearing(true_vol: Floats, forecast_vol: Floats) -> float:
    """Factor f that makes f * forecast^2 the best variance forecast: the mean of true^2 / forecast^2.

    A forecast of the volatility, or of its logarithm, when squared is too low for the variance. This factor has the
    lowest QLIKE of all on the rows given; take validation rows.

    Args:
        true_vol: Realised volatilities, (n,).
        forecast_vol: Forecast volatilities, (n,); rows without a positive finite forecast are left out.

    Returns:
        The factor; 1 without any row.

    Source:
        Duan (1983), Smearing Estimate; Patton (2011), Volatility forecast comparison using imperfect proxies.

    Example:
        >>> smearing(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
        5.0
    """
    usable = np.isfinite(true_vol) & np.isfinite(forecast_vol) & (forecast_vol > 0)
    if not usable.any():
        return 1.0
    return float(np.mean((true_vol[usable] / forecast_vol[usable]) ** 2))


def volatility_of(target: Target, values: Floats) -> Floats:
    """Volatilities from values in the unit of a volatility target, logarithmic or not."""
    return np.exp(values) if target.kind == "log_volatility" else values
