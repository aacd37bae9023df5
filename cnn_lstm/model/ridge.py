"""Ridge regression of numbers on the window in closed form: the linear path of a forecaster, and a baseline.

Shapes: n windows, T window length, F features, H targets, I joint inputs, K = I F, P penalties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.model.line import AVERAGES, Line, Pairs, input_maps

BLOCKS = 20
EVIDENCE = 0.05  # the chance that one of the targets of a market with nothing to find gets a line
PENALTIES = 10.0 ** np.arange(-4, 3.5, 0.5)  # per window; the penalty of the sum of squares is n times as large


def fit_ridge(train: Pairs, validation: Pairs, refit: bool = False) -> Line:
    """Ridge regressions of all targets, for all inputs and penalties from one pass over the windows.

    For each target the inputs and the penalty with the lowest mean squared error on the validation rows are chosen.
    Without evidence there, at 5 % for all targets together, that this error is below that of the forecast 0, the line
    reads nothing and forecasts 0: the training mean of a target that is standardised, the last value of one that is
    anchored.

    Args:
        train: Standardised windows and labels to fit on, in chunks; the windows are never in memory together.
        validation: The same, to choose on; it is read twice.
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
    found = []
    for target in range(errors.shape[2]):  # (maps, P, H)
        which, penalty = divmod(int(errors[..., target].argmin()), len(PENALTIES))
        name = list(maps)[which]
        found.append(_Choice(name, float(PENALTIES[penalty]), mixings[name], paths[name][:, penalty, target]))
    lines = [choice.line(fitted, base, target) for target, choice in enumerate(found)]
    held = _better_than_nothing(Line.joined(lines), validation)
    if refit:
        both = fitted.joined(held_out)
        lines = [choice.solved_on(both, target).line(both, base, target) for target, choice in enumerate(found)]
    return Line.joined(
        [line if holds else Line.nothing(length, features) for line, holds in zip(lines, held, strict=True)]
    )


@dataclass(frozen=True)
class _Choice:
    """Inputs of one target, as weighted sums, (inputs, I), of the joint ones; its penalty and coefficients (K,)."""

    name: str
    penalty: float
    mixing: Tensor
    weight: Tensor

    def solved_on(self, known: _Moments, target: int) -> _Choice:
        """With the coefficients of other rows."""
        inputs = known.mixed(self.mixing, len(self.weight) // len(self.mixing))
        return replace(self, weight=inputs.solved(np.array([self.penalty]))[:, 0, target])

    def line(self, known: _Moments, base: Tensor, target: int) -> Line:
        """The line, with the intercept of some rows."""
        weight = self.mixing.T @ self.weight.view(len(self.mixing), -1)  # of the joint inputs, (I, F)
        bias = known.y_mean[[target]] - weight.flatten() @ known.x_mean
        of_rows = (base.T @ weight)[..., None]  # (T, F, 1)
        return Line(of_rows.float(), bias.float(), [self.name], [self.penalty * known.rows])


def _better_than_nothing(line: Line, validation: Pairs) -> list[bool]:
    """For each target whether there is evidence that a line's squared error is below that of the forecast 0.

    The standard error of the difference is that of the means of up to 20 blocks of rows that follow each other: the
    errors of overlapping labels depend on each other. All targets together are tested at 5 %, each at its share of it
    (Bonferroni): among many, one line would look good by chance.
    """
    from scipy.special import stdtrit

    gains = torch.cat([labels.square() - (labels - line(x.float())).square() for x, labels in validation]).double()
    means = torch.stack([block.mean(dim=0) for block in gains.tensor_split(min(BLOCKS, len(gains)))])
    error = means.std(dim=0, correction=len(means) > 1) / len(means) ** 0.5
    least = float(stdtrit(BLOCKS - 1, 1.0 - EVIDENCE / means.shape[1]))
    better: list[bool] = (means.mean(dim=0) >= least * error.clamp(min=torch.finfo().tiny)).tolist()
    return better


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
