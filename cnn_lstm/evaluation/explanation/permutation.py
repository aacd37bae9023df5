"""Permutation importance: how much the loss rises when a feature's windows are those of other dates.

Shapes: n judged windows, N windows to take from, T window length, F features, H targets, R repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.windows import Panel, cut_windows
from cnn_lstm.evaluation.audit.stages import members
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.model.fixed_shape import INFERENCE_BATCH
from cnn_lstm.model.forecast_model import ForecastModel

ALIKE = 0.8  # absolute correlation from which on two features are said to tell the same
FEWEST_BLOCKS = 10
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rises:
    """What permuting did to the loss.

    Attributes:
        loss: Mean loss of the windows as they are; of an ensemble, the mean of its members'.
        rises: Rise of the loss of each group of features at each repeat, (groups, R).
    """

    loss: float
    rises: NDArray[np.float64]


def block_length(dates: int, reach: int, window: int) -> int:
    """Dates of a block: a whole window where ten blocks are left, and at least as many as the label reaches.

    Args:
        dates: Dates of the validation part.
        reach: Rows from a decision to the end of its label.
        window: Rows of a window.

    Example:
        >>> block_length(1000, 5, 60), block_length(200, 5, 60), block_length(30, 5, 60)
        (60, 20, 5)
    """
    return max(1, reach, min(window, dates // FEWEST_BLOCKS))


def moved_dates(dates: int, block: int, random: np.random.Generator) -> Integers:
    """A date for each date, (dates,): blocks of neighbours change places, and none stays where it was.

    Args:
        dates: Number of dates, at least two blocks of them.
        block: Dates of a block; the last ones are spread over all blocks.
        random: Draws the order of the blocks.

    Example:
        >>> moved_dates(7, 3, np.random.default_rng(0)).tolist()
        [4, 5, 6, 0, 1, 2, 3]
    """
    blocks = np.array_split(np.arange(dates), max(2, dates // block))
    order = np.arange(len(blocks))
    for last in range(len(order) - 1, 0, -1):  # Sattolo (1986): one cycle, so that no block stays
        other = random.integers(last)
        order[last], order[other] = order[other], order[last]
    return np.concatenate([blocks[number] for number in order])


def rows_of_dates(panel: Panel, judged: Rows, every: Rows, order: Integers) -> Rows:
    """The window that takes the place of each judged one, (n,): of the same symbol, and of the date that moves there.

    A symbol without a window on that date gives its nearest one.

    Args:
        panel: The panel.
        judged: Last rows of the judged windows, (n,), among the others.
        every: Last rows of all windows of the part, (N,), ascending.
        order: The date that moves to the place of each date of the part.
    """
    dates, code = np.unique(panel.time[every], return_inverse=True)
    edges, taken = panel.edges_among(every), np.empty(len(judged), dtype=np.int64)
    symbol, wanted = panel.symbol[judged], order[np.searchsorted(dates, panel.time[judged])]
    for one in np.unique(symbol):
        mine, asked = slice(int(edges[one]), int(edges[one + 1])), wanted[symbol == one]
        known = code[mine]
        right = np.searchsorted(known, asked).clip(max=len(known) - 1)
        left = (right - 1).clip(min=0)
        nearer = np.where(asked - known[left] < known[right] - asked, left, right)
        taken[symbol == one] = every[mine][nearer]
    return taken


def permuted_losses(
    model: ForecastModel | Ensemble,
    panel: Panel,
    window: int,
    judged: Rows,
    taken: Sequence[Rows],
    groups: Sequence[Sequence[int]],
) -> Rises:
    """Rise of the loss when the windows of features are those of other dates.

    A whole window moves, so that what follows what inside it stays; all features of a group move together. An anchored
    feature keeps the level of its own window: only the course before it moves.

    Args:
        model: In evaluation mode.
        panel: The panel.
        window: Rows of a window.
        judged: Last rows of the windows, (n,), whose labels are known.
        taken: At each repeat, the windows that take their places, (n,).
        groups: Positions of the features that move together.
    """
    device = model.device
    values, labels = panel.values.to(device), panel.labels.to(device)
    anchored = members(model)[0].network.standardize.anchored
    losses = np.zeros((len(groups), len(taken)))
    plain, parts = 0.0, np.array_split(np.arange(len(judged)), -(-len(judged) // INFERENCE_BATCH))
    for part in parts:
        rows, share = torch.from_numpy(judged[part]).to(device), len(part) / len(judged)
        own, y = cut_windows(values, rows, window), labels[rows]
        plain += share * _loss(model, own, y)
        for repeat, others in enumerate(taken):
            other = cut_windows(values, torch.from_numpy(others[part]).to(device), window)
            other = other + anchored * (own[:, -1:] - other[:, -1:])
            for number, group in enumerate(groups):
                changed = own.clone()
                changed[..., list(group)] = other[..., list(group)]
                losses[number, repeat] += share * _loss(model, changed, y)
    return Rises(plain, losses - plain)


def _loss(model: ForecastModel | Ensemble, x: Tensor, y: Tensor) -> float:
    with torch.inference_mode():
        losses = [float(member.loss(x, y)) for member in members(model)]
    return sum(losses) / len(losses)


def correlated(values: Tensor) -> list[tuple[list[int], float]]:
    """Groups of features that tell nearly the same, with the weakest absolute correlation that holds each together.

    Two features are in one group if a chain of correlations of at least `ALIKE` leads from one to the other.

    Args:
        values: Values of the features, (n, F).

    Example:
        >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> [(group, round(weakest, 2)) for group, weakest in correlated(torch.cat([x, x**2, 2 - x], dim=1))]
        [([0, 2], 1.0)]
    """
    with np.errstate(invalid="ignore"):  # a constant feature has no correlation
        matrix = np.nan_to_num(np.abs(np.atleast_2d(np.corrcoef(values.double().numpy(), rowvar=False))))
    _, label = connected_components(matrix >= ALIKE, directed=False)
    groups = [np.flatnonzero(label == number).tolist() for number in np.unique(label)]
    weakest = [np.where(matrix >= ALIKE, matrix, np.inf)[np.ix_(group, group)].min() for group in groups]
    return [(group, float(link)) for group, link in zip(groups, weakest, strict=True) if len(group) > 1]
