"""Ridge regression of numbers on the window in closed form: the linear path of a forecaster, and a baseline.

Shapes: n windows, T window length, F features, H targets, I joint inputs, K = I F, P penalties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.model.line import AVERAGES, Line, Pairs, input_maps

PENALTIES = 10.0 ** np.arange(-4, 3.5, 0.5)  # per window; the penalty of the sum of squares is n times as large


def fit_ridge(train: Pairs, validation: Pairs, refit: bool = False) -> Line:
    """Ridge regressions of all targets, for all inputs and penalties from one pass over the windows.

    For each target the inputs and the penalty with the lowest mean squared error on the validation rows are chosen. No
    inputs at all are a choice too: the forecast is then 0, which is the training mean of a target that is standardised,
    and the last value of one that is anchored.

    Args:
        train: Standardised windows and labels to fit on, in chunks; the windows are never in memory together.
        validation: The same, to choose on.
        refit: Whether the chosen line is fitted again on both.

    Source:
        Hoerl, Kennard (1970), Ridge Regression; the path of penalties as in Hastie, Tibshirani, Friedman (2009), 3.4.
    """
    # Not scikit-learn's Ridge: it holds all windows at once (50,000 of 2,048 inputs: 0.4 GB, and a centred copy) and
    # solves again for each penalty. The Gram matrix is summed over chunks and serves all inputs and penalties.
    first, train = peeked(train)
    length, features = first[0].shape[1:]
    maps = input_maps(length, features)
    base = _joint(maps)
    fitted, held_out = (_Moments.of(part, base) for part in (train, validation))
    # each map as weighted sums of the joint inputs: rows = mixing @ base, exactly
    mixings = {name: torch.linalg.lstsq(base.T, rows.T).solution.T for name, rows in maps.items()}
    paths = {name: fitted.mixed(mixing, features).solved(PENALTIES) for name, mixing in mixings.items()}
    errors = torch.stack(
        [
            _errors(fitted.mixed(one, features), held_out.mixed(one, features), paths[name])
            for name, one in mixings.items()
        ]
    )
    nothing = held_out.squares / held_out.rows + held_out.y_mean.square()
    known = fitted.joined(held_out) if refit else fitted
    lines = []
    for target in range(errors.shape[2]):  # (maps, P, H)
        if nothing[target] <= errors[..., target].min():
            lines.append(Line.nothing(length, features))
            continue
        which, penalty = divmod(int(errors[..., target].argmin()), len(PENALTIES))
        name = list(maps)[which]
        weight = paths[name][:, penalty, target]
        if refit:
            weight = known.mixed(mixings[name], features).solved(PENALTIES[[penalty]])[:, 0, target]
        weight = mixings[name].T @ weight.view(-1, features)  # of the joint inputs, (I, F)
        bias = known.y_mean[[target]] - weight.flatten() @ known.x_mean
        of_rows = (base.T @ weight)[..., None]  # (T, F, 1)
        lines.append(Line(of_rows.float(), bias.float(), [name], [float(PENALTIES[penalty]) * known.rows]))
    return Line.joined(lines)


def peeked(pairs: Pairs) -> tuple[tuple[Tensor, Tensor], Pairs]:
    """The first of some pairs, and all of them."""
    pairs = iter(pairs)
    first = next(pairs)
    return first, chain([first], pairs)


def _joint(maps: Mapping[str, Tensor]) -> Tensor:
    """Inputs from which those of all maps are weighted sums, (I, T): the most rows, and the averages over more."""
    longest = max((name for name in maps if name != AVERAGES), key=lambda name: len(maps[name]))
    rows, averages = maps[longest], maps[AVERAGES]
    beyond = averages[(averages > 0).sum(dim=1) > len(rows)]
    return torch.cat([rows, beyond])


@dataclass(frozen=True)
class _Moments:
    """Centred sums over windows: of inputs (K, K), of inputs and labels (K, H), of labels (H,); and the means."""

    rows: int
    gram: Tensor
    cross: Tensor
    squares: Tensor
    x_mean: Tensor
    y_mean: Tensor

    @classmethod
    def of(cls, pairs: Pairs, base: Tensor) -> _Moments:
        """Of weighted sums of the windows' rows, K = I F, in float64."""
        rows = 0
        gram, cross, squares, x_sum, y_sum = (torch.zeros(1, dtype=torch.float64) for _ in range(5))
        for windows, labels in pairs:
            x, y = torch.einsum("it,ntf->nif", base, windows.double()).flatten(1), labels.double()
            rows += len(x)
            gram, cross, squares = gram + x.T @ x, cross + x.T @ y, squares + y.square().sum(dim=0)
            x_sum, y_sum = x_sum + x.sum(dim=0), y_sum + y.sum(dim=0)
        x_mean, y_mean = x_sum / rows, y_sum / rows
        centred = gram - rows * torch.outer(x_mean, x_mean), cross - rows * torch.outer(x_mean, y_mean)
        return cls(rows, *centred, squares - rows * y_mean.square(), x_mean, y_mean)

    def joined(self, other: _Moments) -> _Moments:
        """Of the rows of both, merged as Chan, Golub and LeVeque (1983) do."""
        rows = self.rows + other.rows
        x, y, share = other.x_mean - self.x_mean, other.y_mean - self.y_mean, self.rows * other.rows / rows
        return _Moments(
            rows,
            self.gram + other.gram + share * torch.outer(x, x),
            self.cross + other.cross + share * torch.outer(x, y),
            self.squares + other.squares + share * y.square(),
            self.x_mean + x * (other.rows / rows),
            self.y_mean + y * (other.rows / rows),
        )

    def solved(self, penalties: NDArray[np.float64]) -> Tensor:
        """Coefficients of each penalty, (K, P, H)."""
        roots, vectors = torch.linalg.eigh(self.gram)
        added = torch.from_numpy(penalties) * self.rows
        shrunk = (vectors.T @ self.cross)[:, None] / (roots.clamp(min=0)[:, None, None] + added[None, :, None])
        return torch.einsum("ij,jph->iph", vectors, shrunk)

    def mixed(self, mixing: Tensor, features: int) -> _Moments:
        """The moments of weighted sums, (inputs, I), of these inputs."""
        gram = self.gram.view(-1, features, len(self.gram) // features, features)
        gram = torch.einsum("ai,ifjg,bj->afbg", mixing, gram, mixing)
        cross = torch.einsum("ai,ifh->afh", mixing, self.cross.view(-1, features, len(self.y_mean)))
        mean = mixing @ self.x_mean.view(-1, features)
        size = mean.numel()
        return _Moments(
            self.rows, gram.reshape(size, size), cross.flatten(0, 1), self.squares, mean.flatten(), self.y_mean
        )


def _errors(train: _Moments, held_out: _Moments, weights: Tensor) -> Tensor:
    """Mean squared errors on the held-out rows, (P, H), of the coefficients of each penalty, (K, P, H)."""
    intercepts = train.y_mean - torch.einsum("i,iph->ph", train.x_mean, weights)
    explained = torch.einsum("iph,ih->ph", weights, held_out.cross)
    squares = torch.einsum("iph,iph->ph", weights, torch.einsum("ij,jph->iph", held_out.gram, weights))
    bias = held_out.y_mean - intercepts - torch.einsum("i,iph->ph", held_out.x_mean, weights)
    return (held_out.squares - 2 * explained + squares) / held_out.rows + bias.square()
