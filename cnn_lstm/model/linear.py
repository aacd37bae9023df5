"""The linear path of a forecast: the best line through the training windows, in closed form, next to the network.

Ridge regression for numbers, logistic regression for classes. Every line is a weighted sum of the standardised window,
whatever inputs it was fitted on, so that one matrix holds it in checkpoints, exports and streams.

Shapes: B batch, n windows, T window length, F features, H targets, L outputs per target (1 for numbers, the classes
otherwise), I candidate inputs, P penalties.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnn_lstm.model.objectives import Objective
from cnn_lstm.model.training_data import Part

log = logging.getLogger(__name__)
Mode = Literal["off", "fixed", "fine_tuned"]
Pairs = Iterable[tuple[Tensor, Tensor]]  # standardised windows (n, T, F), standardised labels (n, H)
MAX_WINDOWS = 50_000
MAX_LOGISTIC_WINDOWS = 20_000  # scikit-learn holds all of them at once
MAX_INPUTS = 2048  # the eigendecomposition of more takes longer than most fits
PENALTIES = 10.0 ** np.arange(-4, 3.5, 0.5)  # per window; the penalty of the sum of squares is n times as large
LEAST_PROBABILITY = 1e-6  # a class without a training row must not make the log loss infinite
SHORT = (1, 5, 22)  # rows of the shorter windows: a day, a week and a month of daily bars
SPANS = (1, 2, 5, 10, 22, 44, 88, 176, 352)  # rows of the averages: those three, and about twice as many each time
AVERAGES = "averages"


@dataclass(frozen=True)
class Line:
    """A fitted line for each target.

    Attributes:
        weight: Coefficients of the standardised window, (T, F, H L) float32.
        bias: Intercepts, (H L,) float32.
        inputs: What each target's line was fitted on, such as `last 5 rows` or `averages`.
        penalties: Chosen penalty of each target: sum of squared errors + penalty * sum of squared coefficients; for
            classes the inverse strength.
    """

    weight: Tensor
    bias: Tensor
    inputs: list[str]
    penalties: list[float]

    @classmethod
    def joined(cls, lines: Sequence[Line]) -> Line:
        """The lines of several targets as one."""
        return cls(
            torch.cat([line.weight for line in lines], dim=-1),
            torch.cat([line.bias for line in lines]),
            [name for line in lines for name in line.inputs],
            [penalty for line in lines for penalty in line.penalties],
        )

    def __call__(self, windows: Tensor) -> Tensor:
        """Standardised forecasts, (n, H L), of standardised windows, (n, T, F)."""
        return torch.addmm(self.bias, windows.flatten(1), self.weight.flatten(0, 1))


class LinearPath(nn.Module):
    """A line that is added to the network's outputs; it forecasts zeros until it is learnt or loaded.

    Args:
        n_targets: Number of targets, H.
        n_outputs: Outputs of the line for each target, L.
        mode: `fine_tuned` lets training go on with the coefficients.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_targets: int, n_outputs: int = 1, mode: Mode = "fixed") -> None:
        super().__init__()
        self.shape, self.mode = (n_targets, n_outputs), mode
        self._set(torch.zeros(0), torch.zeros(0))

    @property
    def learnt(self) -> bool:
        """Whether it has coefficients."""
        return self.weight.numel() > 0

    def take(self, line: Line) -> None:
        """Uses a line from now on."""
        self._set(line.weight, line.bias)

    def learn(self, pairs: Callable[[Part, int], Pairs], objective: Objective, head: nn.Linear) -> None:
        """Takes the best line, unless it is off; a head that is not trained yet starts as that line alone.

        Args:
            pairs: Gives at most so many standardised windows and labels of a part, in chunks.
            objective: Meaning of the head's outputs.
            head: What turns embeddings, (B, D), into outputs, (B, H K).
        """
        if self.mode == "off":
            return
        classes = objective.classes
        most = MAX_LOGISTIC_WINDOWS if classes else MAX_WINDOWS
        line = fit_line(pairs("train", most), pairs("validation", most), classes)
        if not self.learnt:
            residual = torch.zeros(1, self.shape[0])
            if not classes:
                residual = torch.cat([labels.float() - line(windows) for windows, labels in pairs("train", most)])
            nn.init.zeros_(head.weight)
            with torch.no_grad():
                head.bias.copy_(objective.start(residual).flatten())
        self.take(line)
        log.info("the linear path reads %s", ", ".join(line.inputs))

    def forward(self, windows: Tensor) -> Tensor:
        """Standardised forecasts, (B, H, L), of standardised windows, (B, T, F)."""
        if not self.learnt:
            return windows.new_zeros(len(windows), *self.shape)
        return torch.addmm(self.bias, windows.flatten(1), self.weight.flatten(0, 1)).view(-1, *self.shape)

    def _set(self, weight: Tensor, bias: Tensor) -> None:
        for name, values in (("weight", weight), ("bias", bias)):
            if self.mode == "fine_tuned":
                self.register_parameter(name, nn.Parameter(values.clone()))
            elif values.numel():
                self.register_buffer(name, values.clone())
            else:  # a forecaster without a line has a checkpoint without a line
                self.register_buffer(name, values, persistent=False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Takes the size of what is loaded; a checkpoint of before there was a line has none."""
        saved = (state_dict.get(f"{prefix}{name}", torch.zeros(0)) for name in ("weight", "bias"))
        self._set(*(values.to(self.weight.device) for values in saved))


def line_columns(line: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Forecast columns of the line alone, each (B, H): `y_linear`, for classes `linear_p0`, `linear_p1`, ... too.

    Args:
        line: Standardised forecasts or logits, (B, H, L).
        loc: What standardisation subtracted, (B, H).
        scale: What it divided by, (H,).
    """
    if line.shape[-1] == 1:
        return {"y_linear": line[..., 0] * scale + loc}
    probabilities = line.softmax(dim=-1)
    columns = {f"linear_p{k}": probabilities[..., k] for k in range(line.shape[-1])}
    return {"y_linear": line.argmax(dim=-1).to(line.dtype), **columns}


def fit_line(train: Pairs, validation: Pairs, classes: int = 0) -> Line:
    """The best line: logistic regression for classes, ridge regression for numbers.

    Args:
        train: Standardised windows and labels to fit on, in chunks.
        validation: The same, to choose on.
        classes: Number of classes; 0 for numbers.
    """
    if classes:
        from cnn_lstm.model.logistic import fit_logistic

        return fit_logistic(train, validation, classes)
    return fit_ridge(train, validation)


# -- the search --------------------------------------------------------------------------------------------------------


def input_maps(length: int, features: int) -> dict[str, Tensor]:
    """Which weighted sums over the rows of a window a line may read, by name.

    They are the last rows alone, all of the rows that `MAX_INPUTS` allows, and averages over spans from one row to the
    whole window, among them the day, the week and the month of a heterogeneous autoregression. Doubling spans had a
    lower validation error than these three alone on four stocks and on twenty, with windows of 22, 60 and 120 rows.

    Args:
        length: Rows of a window, T.
        features: Features in a row, F.

    Returns:
        By name the weights of each row in each input, (inputs, T) float64.

    Source:
        Corsi (2009), A Simple Approximate Long-Memory Model of Realized Volatility: averages over 1, 5 and 22 rows.

    Example:
        >>> {name: len(rows) for name, rows in input_maps(60, 14).items()}
        {'averages': 7, 'last 1 rows': 1, 'last 5 rows': 5, 'last 22 rows': 22, 'last 60 rows': 60}
    """
    spans = [span for span in SPANS if span < length] + [length]
    averages = torch.zeros(len(spans), length, dtype=torch.float64)
    for row, span in enumerate(spans):
        averages[row, -span:] = 1.0 / span
    most = max(1, MAX_INPUTS // features - len(spans))
    rows = torch.eye(length, dtype=torch.float64)
    lengths = dict.fromkeys(min(span, most) for span in (*SHORT, length) if span <= length)
    return {AVERAGES: averages, **{f"last {span} rows": rows[length - span :] for span in lengths}}


def fit_ridge(train: Pairs, validation: Pairs) -> Line:
    """Ridge regressions of all targets, for all inputs and penalties from one pass over the windows.

    For each target the inputs and the penalty with the lowest mean squared error on the validation rows are chosen.

    Args:
        train: Standardised windows and labels to fit on, in chunks; the windows are never in memory together.
        validation: The same, to choose on.

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
    paths = {
        name: _path(*(part.mixed(mixing, features) for part in (fitted, held_out))) for name, mixing in mixings.items()
    }
    errors = torch.stack([errors for _, errors in paths.values()])  # (maps, P, H)
    lines = []
    for target in range(errors.shape[2]):
        which, penalty = divmod(int(errors[..., target].argmin()), len(PENALTIES))
        name = list(paths)[which]
        of_inputs = paths[name][0][:, penalty, target].view(-1, features)
        weight = mixings[name].T @ of_inputs  # of the joint inputs, (I, F)
        bias = fitted.y_mean[[target]] - weight.flatten() @ fitted.x_mean
        of_rows = (base.T @ weight)[..., None]  # (T, F, 1)
        lines.append(Line(of_rows.float(), bias.float(), [name], [float(PENALTIES[penalty]) * fitted.rows]))
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


def _path(train: _Moments, held_out: _Moments) -> tuple[Tensor, Tensor]:
    """Coefficients of each penalty, (K, P, H), and mean squared errors on the held-out rows, (P, H)."""
    penalties = torch.from_numpy(PENALTIES) * train.rows
    roots, vectors = torch.linalg.eigh(train.gram)
    shrunk = (vectors.T @ train.cross)[:, None] / (roots.clamp(min=0)[:, None, None] + penalties[None, :, None])
    weights = torch.einsum("ij,jph->iph", vectors, shrunk)
    intercepts = train.y_mean - torch.einsum("i,iph->ph", train.x_mean, weights)
    explained = torch.einsum("iph,ih->ph", weights, held_out.cross)
    squares = torch.einsum("iph,iph->ph", weights, torch.einsum("ij,jph->iph", held_out.gram, weights))
    bias = held_out.y_mean - intercepts - torch.einsum("i,iph->ph", held_out.x_mean, weights)
    return weights, (held_out.squares - 2 * explained + squares) / held_out.rows + bias.square()
