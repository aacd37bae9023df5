"""A fitted line: a forecast that is a weighted sum of the standardised window; and what it may be fitted on.

Whatever inputs a line was fitted on, one matrix holds it in checkpoints, exports and streams.

Shapes: n windows, T window length, F features, H targets, L outputs per target (1 for numbers, the classes otherwise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

Pairs = Iterable[tuple[Tensor, Tensor]]  # standardised windows (n, T, F), standardised labels (n, H)
MAX_INPUTS = 2048  # the eigendecomposition of more takes longer than most fits
SHORT = (1, 5, 22)  # rows of the shorter windows: a day, a week and a month of daily bars
SPANS = (1, 2, 5, 10, 22, 44, 88, 176, 352)  # rows of the averages: those three, and about twice as many each time
AVERAGES = "averages"
LEAST_PROBABILITY = 1e-6  # a class without a training row must not make the log loss infinite


@dataclass(frozen=True)
class Repeatable:
    """Chunks that are made each time they are read, so that all of them are never in memory together."""

    make: Callable[[], Pairs]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.make())


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
    def nothing(cls, length: int, features: int) -> Line:
        """A line that reads nothing of windows (n, T, F), and forecasts 0."""
        return cls(torch.zeros(length, features, 1), torch.zeros(1), ["no inputs"], [inf])

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
