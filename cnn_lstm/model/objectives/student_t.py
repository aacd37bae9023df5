"""Student's t distributions, symmetric and skewed, for targets with heavy tails such as returns.

Both are standardised: the outputs are mean and standard deviation of the distribution itself, whatever its shape.
Shapes: B batch, H targets, K outputs for each target; n training rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnn_lstm.model.objectives.base import Objective
from cnn_lstm.model.objectives.spread import fitted, log_spread, raw_of_spread, root_mean_square, single

# at 2 the variance is infinite; above 200 no table of this size can tell the distribution from a normal one
FEWEST_DF, MOST_DF = 2.1, 200.0
MOST_SKEW = 0.98
MOST_START = 4.0  # of an output that bounds squeeze, so that training can still move it


class StudentT(Objective):
    """Mean, standard deviation and degrees of freedom of a Student's t distribution, by negative log likelihood.

    `df` lies between 2.1 and 200: small values have heavy tails, large ones are nearly normal.

    Source:
        Bollerslev (1987), A Conditionally Heteroskedastic Time Series Model for Speculative Prices and Rates of Return,
        equation 1: the t distribution by its standard deviation.

    Example:
        >>> import torch
        >>> columns = StudentT().forecast(torch.zeros(1, 1, 3), torch.ones(1, 1), torch.full((1,), 3.0))
        >>> {name: round(float(values), 2) for name, values in columns.items()}
        {'y_pred': 1.0, 'std': 3.0, 'df': 4.16}
    """

    n_outputs = 3

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean negative log likelihood, in nats, over batch and targets."""
        raw = single(raw)
        log_std, df = log_spread(raw[..., 1]), degrees(raw[..., 2])
        square = ((z - raw[..., 0]) * (-log_std).exp()) ** 2 / (df - 2)
        return (log_std - log_peak(df) + (df + 1) / 2 * square.log1p()).mean()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Mean as `y_pred`, `std`, and the degrees of freedom `df`."""
        std = log_spread(raw[..., 1]).exp() * scale
        return {"y_pred": raw[..., 0] * scale + loc, "std": std, "df": degrees(raw[..., 2])}

    def start(self, residual: Tensor) -> Tensor:
        """No offset, and the spread and the tails with the highest likelihood."""
        return _start(self, residual)


class SkewStudentT(Objective):
    """Mean, standard deviation, degrees of freedom and skew of Hansen's skewed t distribution, by its likelihood.

    `skew` is Hansen's lambda, between -0.98 and 0.98: below 0 the left tail is the heavier one, and at 0 the
    distribution is that of `StudentT`. `df` lies between 2.1 and 200.

    Source:
        Hansen (1994), Autoregressive Conditional Density Estimation, equations 10 to 13.

    Example:
        >>> import torch
        >>> columns = SkewStudentT().forecast(torch.zeros(1, 1, 4), torch.ones(1, 1), torch.full((1,), 3.0))
        >>> {name: round(float(values), 2) for name, values in columns.items()}
        {'y_pred': 1.0, 'std': 3.0, 'df': 4.16, 'skew': 0.0}
    """

    n_outputs = 4

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean negative log likelihood, in nats, over batch and targets."""
        raw = single(raw)
        log_std, df, skew = log_spread(raw[..., 1]), degrees(raw[..., 2]), lean(raw[..., 3])
        peak = log_peak(df)
        # a and b of the paper: they make the mean 0 and the variance 1
        a = 4 * skew * peak.exp() * (df - 2) / (df - 1)
        b = (1 + 3 * skew**2 - a**2).sqrt()
        centred = b * (z - raw[..., 0]) * (-log_std).exp() + a
        side = torch.where(centred < 0, 1 - skew, 1 + skew)
        square = (centred / side) ** 2 / (df - 2)
        return (log_std - b.log() - peak + (df + 1) / 2 * square.log1p()).mean()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Mean as `y_pred`, `std`, the degrees of freedom `df`, and `skew`."""
        std = log_spread(raw[..., 1]).exp() * scale
        shape = {"df": degrees(raw[..., 2]), "skew": lean(raw[..., 3])}
        return {"y_pred": raw[..., 0] * scale + loc, "std": std, **shape}

    def start(self, residual: Tensor) -> Tensor:
        """No offset, and the spread, the tails and the skew with the highest likelihood."""
        return _start(self, residual)


def degrees(raw: Tensor) -> Tensor:
    """Degrees of freedom of any real output; their inverse is bounded, so that none runs away on normal data.

    Example:
        >>> [round(value, 2) for value in degrees(torch.tensor([-100.0, 0.0, 100.0])).tolist()]
        [200.0, 4.16, 2.1]
    """
    return 1 / (1 / MOST_DF + (1 / FEWEST_DF - 1 / MOST_DF) * torch.sigmoid(raw))


def lean(raw: Tensor) -> Tensor:
    """Skew in (-0.98, 0.98) of any real output."""
    return MOST_SKEW * torch.tanh(raw)


def log_peak(df: Tensor) -> Tensor:
    """Log density at its mean of a t distribution with variance 1."""
    return torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (math.pi * (df - 2)).log()


def _start(objective: Objective, residual: Tensor) -> Tensor:
    """What `Objective.start` returns; the first guess has the spread of the residuals and middling tails."""

    def first(column: Tensor) -> Tensor:
        guess = column.new_zeros(objective.n_outputs)
        guess[1] = raw_of_spread(root_mean_square(column))
        return guess

    found = fitted(objective, residual, first)
    found[:, 2:] = found[:, 2:].clamp(-MOST_START, MOST_START)
    return found
