"""The smearing factor: what makes a variance forecast of a forecast volatility.

The square of a volatility forecast is too low for the variance, by the spread of the forecast's errors. The factor is
estimated from the errors on training and validation rows together, see `smearing`.

Shapes: n rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

BLOCKS = 10  # of the time that the validation part spans; those of the training part are as long


class LogRatios(NamedTuple):
    """Logarithms of realised variance / squared forecast, (n,), and a number of the date of each, (n,)."""

    values: Tensor
    date: Tensor


def log_ratios(kind: str, truth: Tensor, forecast: Tensor, date: Tensor | None = None) -> LogRatios:
    """The errors of volatility forecasts, as logarithms of variance ratios.

    Args:
        kind: `log_volatility` or `volatility`.
        truth: Truth in the unit of the kind, (n,).
        forecast: Forecast in the same unit, (n,).
        date: Number of the date of each row, (n,), rising with time; by default each row has a date of its own.

    Returns:
        The rows that have a finite ratio: a volatility of 0 or below has none.

    Example:
        >>> log_ratios("volatility", torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0])).values.exp()
        tensor([4.], dtype=torch.float64)
    """
    logs = [part.double() if kind == "log_volatility" else part.double().log() for part in (truth, forecast)]
    values = 2.0 * (logs[0] - logs[1])
    usable = torch.isfinite(values)
    dates = torch.arange(len(values)) if date is None else date
    return LogRatios(values[usable], dates[usable])


def smearing(validation: LogRatios, training: LogRatios | None = None) -> float:
    """Factor f that makes f * volatility forecast^2 a variance forecast of low QLIKE.

    The best factor for given rows is the mean ratio of realised variance to squared forecast. Its logarithm has two
    parts. The *level* is the mean log ratio: it is near 0 for any fitted model on its training rows, and elsewhere it
    follows the regime of the market, so that two years say little of it. The *dispersion* is what is left: the spread
    of the errors. Training rows show too little of it where a model is overfitted, which validation rows do not, but a
    few days of a crisis can double it there.

    So the level is the mean of both parts, each with the weight of the time that it spans. The dispersion of the
    validation rows, V, is shrunk towards that of the training rows, T: T + w (V - T), w = (b + t) / (b + t + v). Here v
    and t are the variances of V and T, from the differences between blocks of time, which keep together what overlaps
    or shares a date; and b = max(0, (V - T)^2 - v - t) is what the two differ by more than chance explains, as by
    overfitting. A V that agrees with T within its error is mostly replaced by T; one that is clearly larger is kept.

    Args:
        validation: Errors on validation rows.
        training: Errors on training rows; without them the factor is the mean ratio of the validation rows.

    Returns:
        The factor; 1 without any row.

    Source:
        Duan (1983), Smearing Estimate; Green and Strawderman (1991), A James-Stein Type Estimator for Combining
        Unbiased and Possibly Biased Estimators; Patton (2011), Volatility forecast comparison using imperfect proxies.

    Example:
        >>> validation = log_ratios("volatility", torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
        >>> round(smearing(validation), 6)
        5.0
        >>> training = log_ratios("volatility", torch.tensor([1.0, 1.1, 0.9, 1.0]), torch.ones(4))
        >>> 1.0 < smearing(validation, training) < 5.0
        True
    """
    parts = [part for part in (validation, training) if part is not None and len(part.values)]
    if not parts:
        return 1.0
    spans = [_span(part) for part in parts]
    level = sum(float(part.values.mean()) * span for part, span in zip(parts, spans, strict=True)) / sum(spans)
    estimates = [_dispersion(part, spans[0] / BLOCKS) for part in parts]
    dispersion, variance = estimates[0]
    if len(parts) > 1:
        other, other_variance = estimates[1]
        dispersion = other + _weight(dispersion - other, variance, other_variance) * (dispersion - other)
    return math.exp(level + dispersion)


def _weight(difference: float, variance: float, other_variance: float) -> float:
    """Weight of an unbiased estimate next to one whose bias is not known; infinite variances are unknown ones."""
    if math.isinf(variance):
        return 0.0
    if math.isinf(other_variance) or variance == 0:
        return 1.0
    doubt = max(0.0, difference**2 - variance - other_variance) + other_variance
    return doubt / (doubt + variance)


def _span(ratios: LogRatios) -> float:
    """Time from the first date to one step behind the last one, in the unit of the dates."""
    dates = ratios.date.unique().double()
    return float(dates[-1] - dates[0]) * len(dates) / (len(dates) - 1) if len(dates) > 1 else 1.0


def _dispersion(ratios: LogRatios, block: float) -> tuple[float, float]:
    """Log of the mean ratio - mean log ratio, and its variance from blocks of so much time; infinite for one block."""
    ratio, log = ratios.values.exp(), ratios.values
    value = float(ratio.mean().log() - log.mean())
    numbers = ((ratios.date - ratios.date.min()).double() / block).floor().long()
    blocks, codes = numbers.unique(return_inverse=True)
    count = len(blocks)
    if count < 2:
        return value, math.inf
    influence = (ratio / ratio.mean() - 1) - (log - log.mean())
    totals = influence.new_zeros(count).index_add(0, codes, influence)
    return value, float((totals**2).sum() * count / (count - 1) / len(log) ** 2)
