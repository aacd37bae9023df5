"""A normal distribution for each target.

Shapes: B batch, H targets, K = 2 outputs: mean and log variance; n training rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn_lstm.model.objectives.base import Objective

LEAST_VARIANCE = 1e-6  # of a standardised target


class Gaussian(Objective):
    """Mean and standard deviation of a normal distribution for each target, by negative log likelihood.

    Example:
        >>> import torch
        >>> columns = Gaussian().forecast(torch.zeros(1, 1, 2), torch.ones(1, 1), torch.full((1,), 3.0))
        >>> {name: float(values) for name, values in columns.items()}
        {'y_pred': 1.0, 'std': 3.0}
    """

    n_outputs = 2

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean negative log likelihood, in nats, without its constant."""
        return F.gaussian_nll_loss(raw[..., 0], z, raw[..., 1].exp(), eps=LEAST_VARIANCE)

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Mean as `y_pred`, and `std`."""
        return {"y_pred": raw[..., 0] * scale + loc, "std": (0.5 * raw[..., 1]).exp() * scale}

    def start(self, residual: Tensor) -> Tensor:
        """No offset, and the log of the mean squared residual."""
        variance = residual.square().nanmean(dim=0).clamp(min=LEAST_VARIANCE)
        return torch.stack([torch.zeros_like(variance), variance.log()], dim=-1).float()
