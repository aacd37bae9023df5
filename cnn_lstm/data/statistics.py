"""What the training rows say about scale: next to gradients, the only numbers that flow from data into a network.

Shapes: N panel rows, F features, H targets, T window length, C classes, S symbols with a scale of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cnn_lstm.data.anchors import anchor_positions
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.row_numbers import CHUNK_ROWS, Rows, in_chunks, thinned
from cnn_lstm.data.static_columns import static_names
from cnn_lstm.data.symbol_codes import distinct_codes
from cnn_lstm.data.targets import Target
from cnn_lstm.data.windows import Panel, cut_windows

Scaling = Literal["standard", "robust"]
CHUNK = 1 << 16
MOST_OF_QUARTILES = 10_000_000
LEAST_ROWS = 30  # the scale of fewer training rows says nothing of a symbol
ROBUST_TO_STD = 0.741301109252801  # interquartile range of a standard normal is 1 / this


@dataclass(frozen=True)
class TrainingStatistics:
    """Location and scale of features and targets over the training rows.

    With scales per symbol, the four tensors of location and scale have S + 1 rows: one for each symbol of `codes`, and
    last the one of all symbols together, which every other symbol takes.

    Attributes:
        x_loc: Location of each feature, (F,); of its distance to the window's last value where anchored.
        x_scale: Scale of each feature, (F,); infinite where it never changes, which mutes it.
        x_anchored: 1 where a feature is taken relative to the window's last value, (F,).
        y_loc: Location of each target, (H,); 0 for classes.
        y_scale: Scale of each target, (H,); 1 for classes.
        y_anchor: Feature whose last value is subtracted from a target and added back, (H,) int64; -1 for none.
        y_mean: Mean of each raw target, (H,): the training-mean forecast; the most frequent class for classes.
        class_counts: Training labels of each class, (H, C); C is 0 for numbers.
        codes: Codes of the symbols with a scale of their own, (S,) float32, see `code_of`; S is 0 without any.
        categories: Position of a static column and code of a category that training rows have in it, (K, 2) float32.
    """

    x_loc: Tensor
    x_scale: Tensor
    x_anchored: Tensor
    y_loc: Tensor
    y_scale: Tensor
    y_anchor: Tensor
    y_mean: Tensor
    class_counts: Tensor
    codes: Tensor
    categories: Tensor = field(default_factory=lambda: torch.zeros(0, 2))

    @property
    def of_all_symbols(self) -> tuple[Tensor, Tensor]:
        """Location and scale of each feature over all symbols together, each (F,)."""
        return self.x_loc.view(-1, self.x_loc.shape[-1])[-1], self.x_scale.view(-1, self.x_scale.shape[-1])[-1]


@dataclass(frozen=True)
class Scaler:
    """How location and scale are measured.

    Attributes:
        length: Rows of a window.
        anchored: Positions of the anchored features.
        y_anchor: For each target the position of its anchor feature, or -1.
        classes: Number of classes of the targets, 0 for numbers.
        scaling: Mean and standard deviation, or median and interquartile range.
        muted: Positions of features that are not inputs of the first layer: codes.
        static: Those of them that are static columns.
    """

    length: int
    anchored: Sequence[int]
    y_anchor: Sequence[int]
    classes: int
    scaling: Scaling
    muted: Sequence[int] = ()
    static: Sequence[int] = ()

    @classmethod
    def of(cls, recipe: Recipe, targets: Sequence[Target], scaling: Scaling) -> Scaler:
        """That of a recipe and its targets."""
        names = recipe.features
        return cls(
            length=recipe.window,
            anchored=[names.index(name) for name in recipe.anchor],
            y_anchor=anchor_positions(names, recipe.anchor, targets),
            classes=targets[0].classes,
            scaling=scaling,
            muted=[k for k, name in enumerate(names) if name in recipe.codes],
            static=[names.index(name) for name in static_names(recipe.static)],
        )

    def measure(self, values: Tensor, labels: Tensor, rows: Rows) -> list[Tensor]:
        """Location and scale of features, each (F,), and of targets, each (H,).

        Args:
            values: Features of a panel or of a stretch of it, (n, F).
            labels: Its targets, (n, H).
            rows: Last row of each training window in it.
        """
        covered = _covered(len(values), rows, self.length)
        x_loc, x_scale = _location_and_scale(values, covered, self.scaling)
        for feature in self.anchored:
            x_loc[feature], x_scale[feature] = _anchored_moments(values[:, [feature]], rows, self.length)
        for feature in self.muted:
            x_loc[feature], x_scale[feature] = 0.0, torch.inf
        if self.classes:
            return [x_loc, x_scale, torch.zeros(labels.shape[1]), torch.ones(labels.shape[1])]
        y_loc, y_scale = self._moves_scale(values, labels, rows)
        # the mean change of the training rows is mostly a drift that does not last: 0 forecasts the last value
        y_loc[[feature >= 0 for feature in self.y_anchor]] = 0.0
        return [x_loc, x_scale, y_loc, y_scale]

    def _moves_scale(self, values: Tensor, labels: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Location and scale, (H,), of the labels of training rows, (n,), less what they are anchored on."""
        if self.scaling == "robust":
            moves = self._moves(values, labels, thinned(rows, MOST_OF_QUARTILES))
            return _robust(moves, torch.ones(len(moves), dtype=torch.bool))
        return _moments(self._moves(values, labels, part).double() for part in in_chunks(rows, CHUNK))

    def _moves(self, values: Tensor, labels: Tensor, rows: Rows) -> Tensor:
        index = torch.from_numpy(rows)
        moves = labels[index]
        for target, feature in enumerate(self.y_anchor):
            if feature >= 0:
                moves[:, target] -= values[index, feature]
        return moves


def training_statistics(panel: Panel, rows: Rows, scaler: Scaler, per_symbol: bool = False) -> TrainingStatistics:
    """Statistics of the rows that training windows cover, and of their labels.

    Args:
        panel: The panel.
        rows: Last row of each training window, (n,).
        scaler: How location and scale are measured.
        per_symbol: Whether each symbol with 30 training rows or more has a location and scale of its own. What never
            changes within a symbol keeps those of all symbols together: there it may tell symbols apart. An anchored
            feature has a scale of its own, and the location 0.
    """
    scales = scaler.measure(panel.values, panel.labels, rows)
    codes = torch.zeros(0)
    if per_symbol:
        known = _by_symbol(panel, rows, scaler, scales)
        codes = torch.tensor(list(known), dtype=torch.float32)
        scales = [torch.stack(parts) for parts in zip(*known.values(), scales, strict=True)]
    x_loc, x_scale, y_loc, y_scale = scales
    chunks = (panel.labels[torch.from_numpy(part)] for part in in_chunks(rows))
    counts = torch.zeros(panel.labels.shape[1], scaler.classes)
    if scaler.classes:
        counts = sum((_counts(labels, scaler.classes) for labels in chunks), torch.zeros_like(counts, dtype=torch.long))
        counts = counts.float()
        y_mean = counts.argmax(dim=1).float()
    else:
        none = torch.zeros(panel.labels.shape[1], dtype=torch.float64)
        y_mean = (sum((labels.double().sum(dim=0) for labels in chunks), none) / len(rows)).float()
    mask = torch.zeros(panel.values.shape[1])
    mask[list(scaler.anchored)] = 1.0
    anchors = torch.tensor(scaler.y_anchor)
    categories = _categories(panel, rows, scaler.static)
    return TrainingStatistics(x_loc, x_scale, mask, y_loc, y_scale, anchors, y_mean, counts, codes, categories)


def _categories(panel: Panel, rows: Rows, static: Sequence[int]) -> Tensor:
    """Positions of static columns, and codes of the categories of the symbols that have training rows, (K, 2)."""
    edges = panel.edges_among(rows)
    first = torch.from_numpy(rows[edges[:-1][np.diff(edges) > 0]])  # a row of each symbol: a category never changes
    codes = {column: panel.values[first, column].unique() for column in static}
    parts = [torch.stack([torch.full_like(found, column), found], dim=1) for column, found in codes.items()]
    return torch.cat([torch.zeros(0, 2), *parts])


def _by_symbol(panel: Panel, rows: Rows, scaler: Scaler, pooled: list[Tensor]) -> dict[int, list[Tensor]]:
    """Location and scale of features and targets by the code of each symbol that has enough training rows."""
    known = {}
    codes = distinct_codes(panel.symbols)
    edges, places = panel.edges, panel.edges_among(rows)
    for k, name in enumerate(panel.symbols):
        start, stop, own = edges[k], edges[k + 1], rows[places[k] : places[k + 1]]
        if name not in codes or len(own) < LEAST_ROWS:
            continue
        scales = scaler.measure(panel.values[start:stop], panel.labels[start:stop], own - start)
        for at in (0, 2):
            constant = scales[at + 1].isinf()
            scales[at], scales[at + 1] = (torch.where(constant, pooled[k], scales[k]) for k in (at, at + 1))
        scales[0][list(scaler.anchored)] = 0.0  # as of anchored targets: the mean change of one symbol does not last
        known[codes[name]] = scales
    return known


def _covered(count: int, rows: Rows, length: int) -> Tensor:
    """Whether a window that ends at one of the ascending rows, (n,), covers each row of a panel, (N,)."""
    covered = np.empty(count, dtype=bool)
    for start in range(0, count, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, count)
        ends = rows[slice(*np.searchsorted(rows, [start, stop + length - 1]))]
        places = stop - start + 1
        begun = np.bincount(np.clip(ends - length + 1 - start, 0, places - 1), minlength=places)
        over = np.bincount(np.clip(ends + 1 - start, 0, places - 1), minlength=places)
        covered[start:stop] = np.cumsum(begun - over)[:-1] > 0
    return torch.from_numpy(covered)


def _counts(labels: Tensor, classes: int) -> Tensor:
    """Labels, (n, H), of each class: (H, C)."""
    return torch.stack([torch.bincount(column.long(), minlength=classes) for column in labels.T])


def _location_and_scale(values: Tensor, mask: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
    return _robust(values, mask) if scaling == "robust" else _moments(_masked(values, mask))


def _masked(values: Tensor, mask: Tensor) -> Iterator[Tensor]:
    """The marked rows of values (N, F) and marks (N,), in float64: chunks (n, F), to spare memory."""
    for part, kept in zip(values.split(CHUNK), mask.split(CHUNK), strict=True):
        yield part[kept].double()


def _robust(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Median and scaled interquartile range of the marked rows, each (F,); column by column, to spare memory.

    Of more than `MOST_OF_QUARTILES` rows, the quartiles are those of so many of them, spread evenly.
    """
    kept = torch.from_numpy(thinned(np.flatnonzero(mask.numpy()), MOST_OF_QUARTILES))
    quartiles = np.stack([np.quantile(column[kept].numpy(), [0.25, 0.5, 0.75]) for column in values.unbind(dim=1)])
    low, middle, high = torch.from_numpy(quartiles).T
    scale = _never_zero((high - low) * ROBUST_TO_STD)
    _, standard = _moments(_masked(values, mask))
    return middle.float(), torch.where(scale.isinf(), standard, scale)  # quartiles may coincide


def _moments(chunks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (F,), over chunks (n, F), merged as Chan, Golub and LeVeque (1983) do."""
    count, mean, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for chunk in chunks:
        if not len(chunk):
            continue
        chunk_mean = chunk.mean(dim=0)
        delta = chunk_mean - mean
        total = count + len(chunk)
        squares = squares + ((chunk - chunk_mean) ** 2).sum(dim=0) + delta**2 * (count * len(chunk) / total)
        mean, count = mean + delta * (len(chunk) / total), total
    return mean.float(), _never_zero((squares / max(count, 1)).sqrt())


def _anchored_moments(column: Tensor, rows: Rows, length: int) -> tuple[Tensor, Tensor]:
    """Moments, both scalar, of the distance of a window's values to its last one, of one column (N, 1)."""

    def distances() -> Iterator[Tensor]:
        for part in torch.from_numpy(rows).split(CHUNK // 8):
            windows = cut_windows(column.contiguous(), part, length).double()
            yield (windows - windows[:, -1:]).reshape(-1, 1)

    loc, scale = _moments(distances())
    return loc[0], scale[0]


def _never_zero(scale: Tensor) -> Tensor:
    """Infinite where a column never changes, up to rounding: dividing by it gives 0, not noise."""
    return torch.where(scale > 1e-12, scale, torch.inf).float()
