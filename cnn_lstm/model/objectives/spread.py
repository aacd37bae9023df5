"""What the objectives of a whole distribution share: bounded log scales, and the distribution that they start from.

Shapes: H targets, K outputs of the head for each target, n training rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnn_lstm.model.objectives.base import Objective

MOST = 8.0  # a standard deviation lies between e^-8 and e^8 of the target's
MOST_START = 7.0  # further out the bound leaves hardly any gradient
MOST_ROWS = 20_000
STEPS = 100


def single(values: Tensor) -> Tensor:
    """The values in single precision or better: half precision has too few digits for a likelihood."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_spread(raw: Tensor) -> Tensor:
    """Log of a spread in (-8, 8) of any real output; near 0 the output itself.

    Example:
        >>> [round(value, 3) for value in log_spread(torch.tensor([0.1, -4.0, 100.0])).tolist()]
        [0.1, -3.697, 8.0]
    """
    return MOST * torch.tanh(raw / MOST)


def raw_of_spread(spread: Tensor) -> Tensor:
    """Output whose `log_spread` is the log of a spread; of one near the bounds or beyond, a usable one.

    Example:
        >>> log_spread(raw_of_spread(torch.tensor([2.0]))).exp().round(decimals=4).tolist()
        [2.0]
    """
    return MOST * torch.atanh(spread.log().clamp(-MOST_START, MOST_START) / MOST)


def root_mean_square(residual: Tensor) -> Tensor:
    """Root mean square of residuals of one target, (n,), none of them NaN; a tiny number where all are 0."""
    return residual.square().mean().sqrt().clamp(min=1e-12)


def fitted(objective: Objective, residual: Tensor, first: Callable[[Tensor], Tensor]) -> Tensor:
    """Raw outputs, (H, K), of the constant distribution with the lowest loss whose locations are those of `first`.

    Each target is fitted alone by L-BFGS, on at most 20,000 evenly spaced rows.

    Args:
        objective: Its loss is used, and its `locations`.
        residual: Standardised targets less their linear forecast, (n, H); rows of NaN are left out.
        first: First guess, (K,), from the residuals of one target, (m,), in double precision.
    """
    with torch.inference_mode(False), torch.enable_grad():
        starts = [_fitted(objective, column, first) for column in residual.detach().double().clone().T]
    return torch.stack(starts).float()


def _fitted(objective: Objective, residual: Tensor, first: Callable[[Tensor], Tensor]) -> Tensor:
    known = residual[residual.isfinite()]
    if not len(known):
        return residual.new_zeros(objective.n_outputs)
    rows = torch.linspace(0, len(known) - 1, min(len(known), MOST_ROWS), dtype=torch.float64).round().long()
    guess, z = first(known), known[rows.to(known.device), None]
    free = torch.ones_like(guess)
    free[objective.locations.start : objective.locations.stop] = 0.0
    change = torch.zeros_like(guess, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective.loss((guess + free * change).expand(len(z), 1, -1), z)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = (guess + free * change).detach()
    return found if bool(found.isfinite().all()) else guess
