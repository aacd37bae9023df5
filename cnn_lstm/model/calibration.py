"""Conformal scores of the validation forecasts: how far the truth lay from them, in units of the label's scale.

Shapes: n validation rows, H targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SCORES = 1001


@dataclass(frozen=True)
class Calibration:
    """What a checkpoint keeps of its validation forecasts, in plain values.

    Attributes:
        scores: For each target at most `MOST_SCORES` ascending values: (y_true - y_pred) / scale, or for classes
            1 - p of the true one; evenly spaced order statistics where there are more.
        typical_scale: Median scale of each target.
        smearing: Factor of each target, see `smearing`; empty in checkpoints of older versions.
    """

    scores: Sequence[Sequence[float]]
    typical_scale: Sequence[float]
    smearing: Sequence[float] = ()


def calibrate(
    forecasts: Mapping[str, Tensor], scale: Tensor, classes: int = 0, kinds: Sequence[str] = ()
) -> Calibration:
    """Scores of forecasts against the truth.

    Args:
        forecasts: Columns `y_true` and `y_pred`, and `p0`, `p1`, ... for classes, each (n, H).
        scale: Size of each label's surprise as known at the decision, (n, H); where it is 0 or unknown, the typical
            one is taken.
        classes: Number of classes; 0 for numbers.
        kinds: Kind of each target, `log_volatility` or `volatility` where a variance forecast follows from it.

    Source:
        Sadinle, Lei, Wasserman (2019), Least Ambiguous Set-Valued Classifiers with Bounded Error Levels: the score of
        classes.

    Example:
        >>> columns = {"y_true": torch.tensor([[3.0], [1.0]]), "y_pred": torch.tensor([[1.0], [2.0]])}
        >>> calibrate(columns, torch.tensor([[2.0], [2.0]]))
        Calibration(scores=[[-0.5, 1.0]], typical_scale=[2.0], smearing=[1.0])
    """
    columns = [column[torch.isfinite(column) & (column > 0)] for column in scale.double().T]
    typical_scale = [float(known.median()) if len(known) else 1.0 for known in columns]
    truth = forecasts["y_true"].double()
    if classes:
        probability = torch.stack([forecasts[f"p{k}"] for k in range(classes)]).double()  # (C, n, H)
        scores = 1.0 - probability.gather(0, truth.long()[None])[0]
    else:
        typical = torch.tensor(typical_scale, dtype=torch.float64)
        known = torch.isfinite(scale) & (scale > 0)
        scores = (truth - forecasts["y_pred"].double()) / torch.where(known, scale.double(), typical)
    pairs = zip(kinds or [""] * len(typical_scale), truth.T, forecasts["y_pred"].double().T, strict=True)
    ordered = [_order_statistics(column) for column in scores.T]
    return Calibration(ordered, typical_scale, [smearing(*pair) for pair in pairs])


def smearing(kind: str, truth: Tensor, forecast: Tensor) -> float:
    """Factor f that makes f * volatility forecast^2 the best variance forecast: the mean of realised over forecast.

    A forecast of the volatility, or of its logarithm, when squared is too low for the variance. This factor has the
    lowest QLIKE of all on the rows given; take validation rows.

    Args:
        kind: `log_volatility` or `volatility`; other kinds have the factor 1.
        truth: Truth in the unit of the kind, (n,).
        forecast: Forecast in the same unit, (n,); rows without a finite one, or one above 0, are left out.

    Returns:
        The factor; 1 without any row.

    Source:
        Duan (1983), Smearing Estimate; Patton (2011), Volatility forecast comparison using imperfect proxies.

    Example:
        >>> smearing("volatility", torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
        5.0
    """
    if kind == "log_volatility":
        ratio = torch.exp(2.0 * (truth - forecast))
    elif kind == "volatility":
        ratio = torch.where(forecast > 0, (truth / forecast) ** 2, torch.nan)
    else:
        return 1.0
    usable = ratio[torch.isfinite(ratio)]
    return float(usable.mean()) if len(usable) else 1.0


def _order_statistics(scores: Tensor) -> list[float]:
    ordered = scores[torch.isfinite(scores)].sort().values
    if len(ordered) > MOST_SCORES:
        ordered = ordered[torch.linspace(0, len(ordered) - 1, MOST_SCORES, dtype=torch.float64).round().long()]
    return [float(score) for score in ordered.tolist()]
