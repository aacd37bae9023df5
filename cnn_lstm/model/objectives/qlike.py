"""QLIKE, the loss by which volatility forecasts are judged, as the loss that is trained on.

Shapes: B batch, H targets, K = 1 output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnn_lstm.errors import require
from cnn_lstm.model.objectives.base import Objective
from cnn_lstm.model.objectives.spread import single

LOG, PLAIN = "log_volatility", "volatility"  # kinds of targets, as data/quantities.py names them
MOST_LOG_RATIO = 10.0
FLOOR = 0.1  # of the target's scale


class Qlike(Objective):
    """One volatility for each target, or its logarithm, whose square is the best forecast of the variance.

    The loss is r - log r - 1 for the ratio r of the realised variance to the forecast one. Its best forecast is the
    mean of the variance, where that of squared errors of a logarithm is lower and needs a smearing factor. Beyond a
    ratio of e^10 the loss goes on as a straight line in log r, so that no outlier makes it infinite. A row without any
    movement has no QLIKE and does not count.

    A target that is not a logarithm is forecast as positive(loc + scale * output): the number itself above a tenth of
    the target's scale, below it a curve that stays above 0.

    Source:
        Patton (2011), Volatility forecast comparison using imperfect volatility proxies.

    Example:
        >>> import torch
        >>> objective, zero = Qlike(), torch.zeros(1, 1)
        >>> objective.learn_kinds(["log_volatility"])
        >>> round(float(objective.loss_of(torch.zeros(1, 1, 1), zero + 0.5, zero, torch.ones(1))), 4)  # e - 2
        0.7183
    """

    n_outputs = 1
    is_log: Tensor

    def __init__(self) -> None:
        super().__init__()
        # shaped (1,) until the number of targets is known, then (H,)
        self.register_buffer("is_log", torch.ones(1, dtype=torch.bool))

    def prepare(self, n_targets: int) -> None:
        """Takes all targets for logarithms until their kinds are known."""
        self.is_log = torch.ones(n_targets, dtype=torch.bool, device=self.is_log.device)

    def learn_kinds(self, kinds: Sequence[str]) -> None:
        """Takes which targets are logarithms of volatilities; refuses any that is not a volatility."""
        strangers = [kind for kind in kinds if kind not in (LOG, PLAIN)]
        what = f"Qlike for targets of kind {', '.join(strangers) or 'unknown'}"
        fix = "use Qlike for RealizedVolatility targets only, another objective for others"
        require(bool(kinds) and not strangers, what, "model.objective", fix)
        self.is_log = torch.tensor([kind == LOG for kind in kinds], device=self.is_log.device)

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean QLIKE of targets that are not standardised: location 0, scale 1."""
        return self.loss_of(raw, z, torch.zeros_like(z), torch.ones_like(z))

    def loss_of(self, raw: Tensor, y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """Mean QLIKE of the variance forecasts against the realised variances, over the rows with movement."""
        forecast = single(raw[..., 0]) * scale + loc
        moved = self.is_log | (y > 0)
        truth = torch.where(self.is_log, y, torch.where(moved, y, 1.0).abs().log())
        log_ratio = 2 * torch.where(
            moved, truth - torch.where(self.is_log, forecast, positive(forecast, scale).log()), 0.0
        )
        near = log_ratio.clamp(max=MOST_LOG_RATIO)
        ratio = near.exp() * (1 + log_ratio - near)
        return (ratio - log_ratio - 1).sum() / moved.expand_as(y).sum().clamp(min=1)

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """The volatility, or its logarithm."""
        value = raw[..., 0] * scale + loc
        return {"y_pred": torch.where(self.is_log, value, positive(value, scale))}


def positive(value: Tensor, scale: Tensor) -> Tensor:
    """The value where it is above a tenth of the scale, f; below it f^2 / (2 f - value), which never reaches 0.

    Unlike an exponential, the curve neither vanishes in single precision nor loses its gradient far below 0.

    Example:
        >>> [round(value, 3) for value in positive(torch.tensor([3.0, 0.1, -0.8]), torch.tensor(1.0)).tolist()]
        [3.0, 0.1, 0.01]
    """
    floor = FLOOR * scale
    return torch.where(value > floor, value, floor**2 / (2 * floor - torch.minimum(value, floor)))
