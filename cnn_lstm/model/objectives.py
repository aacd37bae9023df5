"""What is learnt: the meaning of the head's outputs, their loss, and their forecast in original units.

A new objective is one class here. The head gives K outputs per target; losses are computed on standardised targets
z = (y - loc) / scale, so that a loss near 1 means "no better than the mean" whatever the unit.

Shapes: B batch, H targets, K outputs of the head for each target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.errors import require
from cnn_lstm.specs import Serializable


class Objective(nn.Module, Serializable, ABC):
    """Outputs, loss and forecast of one kind.

    Attributes:
        n_outputs: Outputs of the head for each target, K.
        classes: Number of classes; 0 when numbers are forecast.
    """

    n_outputs: int
    classes: int = 0

    @property
    def linear_outputs(self) -> int:
        """Outputs of the linear path for each target, L: the location of a number, the logits of classes."""
        return self.classes or 1

    def shifted(self, raw: Tensor, linear: Tensor) -> Tensor:
        """Raw outputs (B, H, K) around a linear forecast (B, H, L) of the standardised targets."""
        return raw + linear

    def start(self, residual: Tensor) -> Tensor:
        """Raw outputs (H, K) of the best constant distribution of residuals (n, H) around the linear forecast."""
        return residual.new_zeros(residual.shape[1], self.n_outputs)

    @abstractmethod
    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Scalar loss of raw outputs (B, H, K) against standardised targets (B, H)."""

    @abstractmethod
    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Columns of the predictions table in original units, each (B, H); `y_pred` first.

        Args:
            raw: Outputs of the head, (B, H, K).
            loc: What standardisation subtracted, (B, H).
            scale: What it divided by, (H,).
        """

    def learn_classes(self, counts: Tensor) -> None:
        """Takes the class counts of the training labels, (H, C), before training; for class weights."""


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


class Gaussian(Objective):
    """Mean and standard deviation of a normal distribution for each target, by negative log likelihood."""

    n_outputs = 2

    def shifted(self, raw: Tensor, linear: Tensor) -> Tensor:
        """The mean around the linear forecast."""
        return torch.cat([raw[..., :1] + linear, raw[..., 1:]], dim=-1)

    def start(self, residual: Tensor) -> Tensor:
        """The line itself, with the spread of the residuals."""
        spread = residual.square().mean(dim=0).clamp(min=1e-6).log()
        return torch.stack([torch.zeros_like(spread), spread], dim=-1)

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean negative log likelihood, in nats, without its constant."""
        return F.gaussian_nll_loss(raw[..., 0], z, raw[..., 1].exp(), eps=1e-6)

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Mean as `y_pred`, and `std`."""
        return {"y_pred": raw[..., 0] * scale + loc, "std": (0.5 * raw[..., 1]).exp() * scale}


class Quantiles(Objective):
    """Quantiles of each target, by pinball loss; sorted when forecast, so that they never cross.

    Args:
        levels: Ascending levels in (0, 1); 0.5 must be one of them, it is the point forecast.

    Source:
        Koenker and Bassett (1978), Regression Quantiles.
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

    def start(self, residual: Tensor) -> Tensor:
        """Quantiles of the residuals around their median, which is the line."""
        values = torch.quantile(residual, self.level.to(residual.dtype), dim=0).T
        return values - values[:, [self.levels.index(0.5)]]

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean pinball loss over batch, targets and levels."""
        error = z[..., None] - raw
        return torch.maximum(self.level * error, (self.level - 1) * error).mean()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Median as `y_pred`, and a column `q05`, `q25`, ... for each level."""
        values = (raw * scale[:, None] + loc[..., None]).sort(dim=-1).values
        columns = {f"q{100 * level:04.1f}".removesuffix(".0"): values[..., k] for k, level in enumerate(self.levels)}
        return {"y_pred": values[..., self.levels.index(0.5)], **columns}


class Classes(Objective):
    """Probability of each class, by cross-entropy.

    Args:
        classes: Number of classes; two more cuts in `Direction` than one give one more class.
        weighted: Weighs each class by the inverse of its share of the training labels.
    """

    weights: Tensor

    def __init__(self, classes: int = 2, weighted: bool = False) -> None:
        super().__init__()
        require(classes >= 2, f"classes={classes}", "model.objective", "give at least 2")
        self.classes = self.n_outputs = classes
        self.weighted = weighted
        # shaped (C,) until the training labels are known, then (H, C)
        self.register_buffer("weights", torch.ones(classes))

    def learn_classes(self, counts: Tensor) -> None:
        """Sets the class weights from counts (H, C): mean 1 over the training labels."""
        weights = counts.sum(dim=1, keepdim=True) / (self.classes * counts.clamp(min=1))
        self.weights = weights.to(self.weights.device) if self.weighted else torch.ones_like(weights)

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, over batch and targets."""
        losses = F.cross_entropy(raw.transpose(1, 2), z.long(), reduction="none")  # (B, H)
        weights = self.weights.expand(raw.shape[1], -1)  # (H, C)
        picked = weights.gather(1, z.long().T).T  # (B, H)
        return (losses * picked).sum() / picked.sum()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Most probable class as `y_pred`, and a column `p0`, `p1`, ... for each class."""
        probabilities = raw.softmax(dim=-1)
        columns = {f"p{k}": probabilities[..., k] for k in range(self.classes)}
        return {"y_pred": raw.argmax(dim=-1).to(raw.dtype), **columns}
