"""Conformal scores of the validation forecasts: how far the truth lay from them, in units of the label's scale.

Shapes: n validation rows, H targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cnn_lstm.model.smearing import LogRatios, log_ratios, smearing

MOST_SCORES = 1001
VOLATILITIES = ("log_volatility", "volatility")


@dataclass(frozen=True)
class Calibration:
    """What a checkpoint keeps of its validation forecasts, in plain values.

    Attributes:
        scores: For each target at most `MOST_SCORES` ascending values: (y_true - y_pred) / scale, or for classes
            1 - p of the true one; evenly spaced order statistics where there are more.
        typical_scale: Median scale of each target.
        smearing: Factor of each target, see `smearing`; empty in checkpoints of older versions.
        linear_smearing: The same for the forecasts of the model's linear part; empty for a model without one.
    """

    scores: Sequence[Sequence[float]]
    typical_scale: Sequence[float]
    smearing: Sequence[float] = ()
    linear_smearing: Sequence[float] = ()


class EpochData(Protocol):
    """What is known of the panel rows of an epoch, (n,)."""

    def surprise_scale(self, rows: Tensor) -> Tensor:
        """Size of each label's surprise, (n, H)."""

    def dates(self, rows: Tensor) -> Tensor:
        """A number of the date of each row, (n,), rising with time."""


def calibrate(
    forecasts: Mapping[str, Tensor],
    scale: Tensor,
    classes: int = 0,
    kinds: Sequence[str] = (),
    training: Mapping[str, Tensor] | None = None,
) -> Calibration:
    """Scores of forecasts against the truth.

    Args:
        forecasts: Columns `y_true` and `y_pred`, `p0`, `p1`, ... for classes, and `y_linear` where the model has a
            linear part, each (n, H); and `date`, (n,), a number that rows of the same date share and that rises with
            time.
        scale: Size of each label's surprise as known at the decision, (n, H); where it is 0 or unknown, the typical
            one is taken.
        classes: Number of classes; 0 for numbers.
        kinds: Kind of each target, `log_volatility` or `volatility` where a variance forecast follows from it.
        training: The same columns of training rows, for the smearing factors; only validation rows count without it.

    Source:
        Sadinle, Lei, Wasserman (2019), Least Ambiguous Set-Valued Classifiers with Bounded Error Levels: the score of
        classes.

    Example:
        >>> columns = {"y_true": torch.tensor([[3.0], [1.0]]), "y_pred": torch.tensor([[1.0], [2.0]])}
        >>> calibrate(columns, torch.tensor([[2.0], [2.0]]))
        Calibration(scores=[[-0.5, 1.0]], typical_scale=[2.0], smearing=[1.0], linear_smearing=())
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
    named = kinds or [""] * len(typical_scale)
    factors = {name: _factors(forecasts, training, named, name) for name in ("y_pred", "y_linear") if name in forecasts}
    ordered = [_order_statistics(column) for column in scores.T]
    return Calibration(ordered, typical_scale, factors["y_pred"], factors.get("y_linear", ()))


def calibrate_epoch(
    data: EpochData,
    validation: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    classes: int,
    kinds: Sequence[str],
) -> Calibration:
    """`calibrate` of the forecasts that an epoch of a fit made anyway.

    Those of its training rows are of weights that still changed, under dropout: near enough for the smearing factors,
    and without a second pass over the rows.

    Args:
        data: What is known of panel rows.
        validation: Columns of the validation rows as for `calibrate`, and their panel rows `row`, (n,).
        training: The same of the training rows.
        classes: Number of classes; 0 for numbers.
        kinds: Kind of each target.
    """
    dated = [{**part, "date": data.dates(part["row"])} for part in (validation, training)]
    return calibrate(dated[0], data.surprise_scale(validation["row"]), classes, kinds, dated[1])


def _factors(
    forecasts: Mapping[str, Tensor], training: Mapping[str, Tensor] | None, kinds: Sequence[str], column: str
) -> list[float]:
    """Smearing factor of each target for a column of point forecasts; 1 where no variance follows from the target."""

    def errors(part: Mapping[str, Tensor], k: int) -> LogRatios:
        return log_ratios(kinds[k], part["y_true"][:, k], part[column][:, k], part.get("date"))

    trained = training if training is not None and column in training else None
    return [
        smearing(errors(forecasts, k), errors(trained, k) if trained is not None else None)
        if kind in VOLATILITIES
        else 1.0
        for k, kind in enumerate(kinds)
    ]


def _order_statistics(scores: Tensor) -> list[float]:
    ordered = scores[torch.isfinite(scores)].sort().values
    if len(ordered) > MOST_SCORES:
        ordered = ordered[torch.linspace(0, len(ordered) - 1, MOST_SCORES, dtype=torch.float64).round().long()]
    return [float(score) for score in ordered.tolist()]
