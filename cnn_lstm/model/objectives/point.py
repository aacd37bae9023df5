"""One number for each target.

Shapes: B batch, H targets, K = 1 output.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from cnn_lstm.errors import require
from cnn_lstm.model.objectives.base import Objective


class Point(Objective):
    """One number for each target.

    Args:
        loss: Squared error (forecasts the mean), absolute error (the median), or Huber's mix of both.
        delta: Where Huber's loss turns linear, in standard deviations of the target.
    """

    n_outputs = 1

    def __init__(self, loss: Literal["mse", "mae", "huber"] = "mse", delta: float = 1.0) -> None:
        super().__init__()
        require(loss in ("mse", "mae", "huber"), f"loss={loss!r}", "model.objective", "one of mse, mae, huber")
        require(not delta <= 0, f"delta={delta}", "model.objective", "give a number above 0")
        self.kind, self.delta = loss, delta

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean loss over batch and targets."""
        point = raw[..., 0]
        if self.kind == "mse":
            return F.mse_loss(point, z)
        if self.kind == "mae":
            return F.l1_loss(point, z)
        return F.huber_loss(point, z, delta=self.delta)

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """The number itself."""
        return {"y_pred": raw[..., 0] * scale + loc}
