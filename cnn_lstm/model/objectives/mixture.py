"""Mixtures of normal distributions, for targets whose distribution has no simple shape.

Shapes: B batch, H targets, k components, K = 3 k outputs for each target; n training rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from cnn_lstm.errors import require
from cnn_lstm.model.objectives.base import Objective
from cnn_lstm.model.objectives.spread import fitted, log_spread, raw_of_spread, root_mean_square, single

MOST_COMPONENTS = 32
APART = 0.1  # where the outermost components start, in root mean squares of the residuals
LOG_ROOT = 0.5 * math.log(2 * math.pi)
COMPONENT_COLUMNS = ("weight", "mean", "std")  # and the number of the component, as in `weight_0`


class Mixture(Objective):
    """Weights, means and standard deviations of k normal distributions, whose mixture is the forecast.

    Columns `weight_0`, `mean_0`, `std_0`, ... describe the components, `std` is that of the whole mixture.

    Args:
        components: Number of components, k; 2 to 32.
        loss: `nll`, the negative log likelihood, or `crps`, the continuous ranked probability score: it has the unit
            of the target, and outliers weigh less in it.

    Source:
        Bishop (1994), Mixture Density Networks; Grimit, Gneiting, Berrocal and Johnson (2006), The continuous ranked
        probability score for circular variables and its application to mesoscale forecast ensemble verification,
        equation 5: the score of a normal mixture in closed form.

    Example:
        >>> import torch
        >>> objective = Mixture(components=2)
        >>> list(objective.forecast(torch.zeros(1, 1, 6), torch.zeros(1, 1), torch.ones(1)))
        ['y_pred', 'std', 'weight_0', 'weight_1', 'mean_0', 'mean_1', 'std_0', 'std_1']
    """

    def __init__(self, components: int = 4, loss: Literal["nll", "crps"] = "nll") -> None:
        super().__init__()
        sound = 2 <= components <= MOST_COMPONENTS
        require(sound, f"components={components}", "model.objective", f"give 2 to {MOST_COMPONENTS}")
        require(loss in ("nll", "crps"), f"loss={loss!r}", "model.objective", "one of nll, crps")
        self.components, self.kind = components, loss
        self.n_outputs = 3 * components

    @property
    def locations(self) -> range:
        """The means of all components."""
        return range(self.components, 2 * self.components)

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean negative log likelihood, in nats, or mean CRPS in the unit of z, over batch and targets."""
        logits, means, log_std = self._parts(raw)
        if self.kind == "crps":
            return mixture_crps(logits.softmax(dim=-1), means, log_std.exp(), z).mean()
        surprise = (z[..., None] - means) * (-log_std).exp()
        densities = logits.log_softmax(dim=-1) - log_std - 0.5 * surprise**2 - LOG_ROOT
        return -densities.logsumexp(dim=-1).mean()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Mean as `y_pred`, `std`, and the weights, means and standard deviations of the components."""
        logits, means, log_std = self._parts(raw)
        weights, spreads = logits.softmax(dim=-1), log_std.exp()
        # relative to one component: equal means have exactly their mean, though weights add up to 1 only nearly
        mean = means[..., 0] + (weights * (means - means[..., :1])).sum(dim=-1)
        variance = (weights * (spreads**2 + (means - mean[..., None]) ** 2)).sum(dim=-1)
        columns = {"y_pred": mean * scale + loc, "std": variance.sqrt() * scale}
        values = weights, means * scale[..., None] + loc[..., None], spreads * scale[..., None]
        each = {
            f"{name}_{k}": part[..., k]
            for name, part in zip(COMPONENT_COLUMNS, values, strict=True)
            for k in range(self.components)
        }
        return columns | each

    def start(self, residual: Tensor) -> Tensor:
        """Means spread around the line, with the weights and standard deviations of the lowest loss."""
        found = fitted(self, residual, self._first_guess)
        logits, means, _ = found.split(self.components, dim=-1)
        centre = (logits.softmax(dim=-1) * means).sum(dim=-1, keepdim=True)
        return self.shifted(found[None], -centre[None])[0]

    def _first_guess(self, residual: Tensor) -> Tensor:
        """Equal weights; means and standard deviations that differ, or all components would learn the same."""
        size, k = root_mean_square(residual), self.components
        means = torch.linspace(-APART, APART, k).to(residual) * size
        spreads = raw_of_spread(size * torch.linspace(0.7, 1.3, k).to(residual))
        return torch.cat([torch.zeros_like(means), means, spreads])

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the weights, means and log standard deviations, (B, H, k) each."""
        logits, means, spreads = single(raw).split(self.components, dim=-1)
        return logits, means, log_spread(spreads)


def is_component(column: str) -> bool:
    """Whether a forecast column describes a component of a mixture.

    Example:
        >>> [is_component(name) for name in ("weight_0", "std_12", "std", "mc_std")]
        [True, True, False, False]
    """
    name, _, number = column.rpartition("_")
    return name in COMPONENT_COLUMNS and number.isdecimal()


def components_of(columns: Collection[str]) -> int:
    """Number of components of a mixture that columns describe; 0 without any.

    Example:
        >>> components_of(["y_pred", "weight_0", "weight_1", "mean_0", "mean_1", "std_0", "std_1"])
        2
    """
    return sum(name.startswith("weight_") and is_component(name) for name in columns)


def mixture_crps(weights: Tensor, means: Tensor, spreads: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of normal mixtures, (B, H).

    Args:
        weights: Weights of the components, (B, H, k), that add up to 1.
        means: Their means, (B, H, k).
        spreads: Their standard deviations, (B, H, k).
        truth: Truth, (B, H).

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> round(float(mixture_crps(one, 0 * one, one, torch.zeros(1, 1))), 6)
        0.233695
    """
    error = _absolute_mean(truth[..., None] - means, spreads)
    pairs = _absolute_mean(
        means[..., :, None] - means[..., None, :],
        (spreads[..., :, None] ** 2 + spreads[..., None, :] ** 2).sqrt(),
    )
    between = (weights[..., :, None] * weights[..., None, :] * pairs).sum(dim=(-2, -1))
    return (weights * error).sum(dim=-1) - 0.5 * between


def _absolute_mean(mean: Tensor, std: Tensor) -> Tensor:
    """Mean of |X| for a normal X."""
    surprise = mean / std
    return std * math.sqrt(2 / math.pi) * (-0.5 * surprise**2).exp() + mean * torch.erf(surprise / math.sqrt(2))
