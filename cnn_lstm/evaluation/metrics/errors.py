"""Metrics of forecasts of numbers: errors with and without the unit of the target, association with the truth, QLIKE.

Shapes: n rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.diagnostic import pesaran_timmermann

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.series import clustered_by_date, is_constant, newey_west_t

# a correlation across fewer symbols is too noisy to count as one of its date
CROSS_SECTION = 5
# share of the realised variance, a hundredth of the volatility: lower forecasts count as this one
LOWEST_SHARE = 1e-4
NAN = float("nan")


def error_metrics(
    true: ArrayLike, forecast: ArrayLike, naive_mae: ArrayLike, naive_mse: ArrayLike, mean: ArrayLike
) -> dict[str, float]:
    """How far the forecasts are off.

    Args:
        true: Truth, (n,), known in all rows.
        forecast: Forecast of it, (n,).
        naive_mae: Training-set mean absolute error of the last value as a forecast, for the symbol of the row, (n,).
        naive_mse: The same of the squared error.
        mean: Training-set mean of the target, (n,).

    Returns:
        mae and rmse in the unit of the target.
        mase: mean absolute error in units of `naive_mae` (Hyndman and Koehler 2006); rmsse: root of the mean squared
        error in units of `naive_mse` (M5). Both leave out the rows whose naive error is 0, which have no scale.
        rse: root of the squared errors / squared distances of the truth from its mean over these rows (LSTNet, Lai et
        al. 2018). Its square is 1 - the R2 of a regression.
        r2_zero and r2_mean: 1 - squared errors / squared errors of zero, of the training mean (Campbell and Thompson
        2008). A metric that is undefined is NaN.

    Example:
        >>> error_metrics([1.0, -2.0], [0.5, -1.0], [0.5, 0.5], [0.25, 1.0], [0.0, 0.0])["mase"]
        1.5
    """
    y, naive_mae, naive_mse = (np.asarray(values, dtype=np.float64) for values in (true, naive_mae, naive_mse))
    error = y - np.asarray(forecast, dtype=np.float64)
    squared = error**2
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(squared.mean())),
        "mase": _mean_in_units(np.abs(error), naive_mae),
        "rmsse": float(np.sqrt(_mean_in_units(squared, naive_mse))),
        "rse": root_relative_error(y, forecast),
        "r2_zero": _share_explained(squared, y),
        "r2_mean": _share_explained(squared, y - np.asarray(mean, dtype=np.float64)),
    }


def root_relative_error(true: ArrayLike, forecast: ArrayLike) -> float:
    """Root of the squared errors over the squared distances of the truth from its mean; NaN for a constant truth.

    Args:
        true: Truth, (n,), of one series or of several together.
        forecast: Forecast of it, (n,).

    Example:
        >>> root_relative_error([0.0, 1.0, 2.0], [0.0, 1.0, 1.0]).__round__(4)
        0.7071
    """
    y = np.asarray(true, dtype=np.float64)
    spread = ((y - y.mean()) ** 2).sum()
    return float(np.sqrt(((y - np.asarray(forecast, dtype=np.float64)) ** 2).sum() / spread)) if spread > 0 else NAN


def level_correlation(true: ArrayLike, forecast: ArrayLike, series: Any) -> float:
    """Pearson correlation of the levels themselves, averaged over the series; NaN where no series has one.

    It is near 1 for any forecast close to the last value, so it compares models with published tables and with the last
    value, and says nothing alone.

    Args:
        true: Truth, (n,).
        forecast: Forecast of it, (n,).
        series: Series of each row, (n,).
    """
    y, f = np.asarray(true, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    each = _correlations(y, f, pd.factorize(pd.Index(series))[0])["pearson"]
    return float(np.nanmean(each)) if np.isfinite(each).any() else NAN


def _mean_in_units(loss: Floats, unit: Floats) -> float:
    usable = unit > 0
    return float((loss[usable] / unit[usable]).mean()) if usable.any() else NAN


def _share_explained(squared: Floats, benchmark_error: Floats) -> float:
    benchmark = (benchmark_error**2).sum()
    return float(1 - squared.sum() / benchmark) if benchmark > 0 else NAN


def association_metrics(true: ArrayLike, forecast: ArrayLike, date: Any, horizon: int) -> dict[str, float]:
    """Whether the forecasts go where the truth goes, whatever their size.

    The information coefficient is the correlation across the symbols of a date, averaged over the dates that have at
    least 5 symbols. With fewer than two such dates it is one correlation of all rows.

    Args:
        true: Truth, (n,), known in all rows.
        forecast: Forecast of it, (n,).
        date: Date of each row, (n,); one row per symbol and date.
        horizon: Steps that a target spans, at least 1.

    Returns:
        ic and rank_ic: mean Pearson and Spearman correlation.
        icir: mean / standard deviation of the daily Pearson correlations; NaN for one correlation of all rows.
        ic_t: t-statistic of the mean daily correlation, or of the mean product of the deviations from the means,
        clustered by date, for one correlation of all rows; both with the variance of Newey and West, horizon - 1 lags.
        directional_accuracy: share of forecasts with the right sign, of rows where neither truth nor forecast is 0.
        pesaran_timmermann_p: one-sided p-value that the signs are related (Pesaran and Timmermann 1992). It takes the
        rows as independent, so it is too small where targets overlap or symbols share a date.
        A metric that is undefined is NaN, as for a constant forecast.
    """
    y, f = np.asarray(true, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    return _information(y, f, date, horizon) | _direction(y, f)


def _information(y: Floats, f: Floats, date: Any, horizon: int) -> dict[str, float]:
    codes, dates = pd.factorize(pd.Index(date), sort=True)
    wide = np.bincount(codes, minlength=len(dates)) >= CROSS_SECTION
    if wide.sum() >= 2:
        rows = wide[codes]
        daily = _correlations(y[rows], f[rows], np.unique(codes[rows], return_inverse=True)[1])
        return _daily_metrics(daily["pearson"], daily["spearman"], horizon)
    pooled = _correlations(y, f, np.zeros(len(y), dtype=np.intp))
    ic, rank_ic = float(pooled["pearson"][0]), float(pooled["spearman"][0])
    product = clustered_by_date((y - y.mean()) * (f - f.mean()), codes)
    ic_t = NAN if np.isnan(ic) else newey_west_t(product, horizon - 1)
    return {"ic": ic, "rank_ic": rank_ic, "icir": NAN, "ic_t": ic_t}


def _daily_metrics(pearson: Floats, spearman: Floats, horizon: int) -> dict[str, float]:
    """Metrics of the dates whose correlations, (dates,), are defined."""
    ic, rank_ic = pearson[np.isfinite(pearson)], spearman[np.isfinite(spearman)]
    if len(ic) == 0:
        return dict.fromkeys(("ic", "rank_ic", "icir", "ic_t"), NAN)
    icir = NAN if is_constant(ic) else float(ic.mean() / ic.std(ddof=1))
    return {
        "ic": float(ic.mean()),
        "rank_ic": float(rank_ic.mean()),
        "icir": icir,
        "ic_t": newey_west_t(ic, horizon - 1),
    }


def _correlations(y: Floats, f: Floats, group: NDArray[np.intp]) -> dict[str, Floats]:
    """Pearson and Spearman correlation of each group, numbered from 0 on; NaN where either side is constant."""
    ranks = pd.DataFrame({"y": y, "f": f}).groupby(group).rank().to_numpy()
    spearman = _pearson(ranks[:, 0], ranks[:, 1], group)
    # equal values have equal ranks, whose variance is exactly 0; the variance of the values may be a rounding error
    return {"pearson": np.where(np.isnan(spearman), np.nan, _pearson(y, f, group)), "spearman": spearman}


def _pearson(y: Floats, f: Floats, group: NDArray[np.intp]) -> Floats:
    rows = np.bincount(group)
    y, f = (values - (np.bincount(group, values) / rows)[group] for values in (y, f))
    size = np.sqrt(np.bincount(group, y * y)) * np.sqrt(np.bincount(group, f * f))
    return np.bincount(group, y * f) / np.where(size > 0, size, np.nan)


def _direction(y: Floats, f: Floats) -> dict[str, float]:
    """A truth or forecast of exactly 0 has no direction, so its row is left out."""
    rows = (y != 0) & (f != 0)
    up, up_forecast = y[rows] > 0, f[rows] > 0
    accuracy = float((up == up_forecast).mean()) if rows.any() else NAN
    one_sided = len(np.unique(up)) < 2 or len(np.unique(up_forecast)) < 2
    p = NAN if one_sided else float(pesaran_timmermann(y[rows], f[rows], alternative="larger").pvalue)
    return {"directional_accuracy": accuracy, "pesaran_timmermann_p": p}


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
