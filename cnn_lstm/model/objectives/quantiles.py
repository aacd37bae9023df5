"""Quantiles of each target.

Shapes: B batch, H targets, K levels; n training rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnn_lstm.errors import require
from cnn_lstm.model.objectives.base import Objective


class Quantiles(Objective):
    """Quantiles of each target, by pinball loss; sorted when forecast, so that they never cross.

    Args:
        levels: Ascending levels in (0, 1); 0.5 must be one of them, it is the point forecast.

    Source:
        Koenker and Bassett (1978), Regression Quantiles.

    Example:
        >>> import torch
        >>> objective = Quantiles([0.1, 0.5, 0.9])
        >>> list(objective.forecast(torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.ones(1)))
        ['y_pred', 'q10', 'q50', 'q90']
    """

    def __init__(self, levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> None:
        super().__init__()
        sound = 0.5 in levels and sorted(set(levels)) == list(levels) and 0 < levels[0] <= levels[-1] < 1
        fix = "give ascending levels in (0, 1), 0.5 among them"
        require(sound, f"levels={list(levels)}", "model.objective", fix)
        self.levels = tuple(levels)
        self.level: Tensor
        self.n_outputs = len(levels)
        self.register_buffer("level", torch.tensor(levels), persistent=False)

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean pinball loss over batch, targets and levels."""
        error = z[..., None] - raw
        return torch.maximum(self.level * error, (self.level - 1) * error).mean()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Median as `y_pred`, and a column `q05`, `q25`, ... for each level."""
        values = (raw * scale[..., None] + loc[..., None]).sort(dim=-1).values
        columns = {quantile_name(level): values[..., k] for k, level in enumerate(self.levels)}
        return {"y_pred": values[..., self.levels.index(0.5)], **columns}

    @property
    def locations(self) -> range:
        """All levels."""
        return range(self.n_outputs)

    def start(self, residual: Tensor) -> Tensor:
        """Quantiles of the residuals less their median, so that the forecast of the median is the line."""
        values = residual.nanquantile(self.level.to(residual), dim=0).T  # (H, K)
        return (values - values[:, self.levels.index(0.5), None]).float()


def quantile_name(level: float) -> str:
    """Column of the quantile of a level.

    Example:
        >>> quantile_name(0.05), quantile_name(0.025)
        ('q05', 'q02.5')
    """
    return f"q{100 * level:04.1f}".removesuffix(".0")
