"""What a forecaster needs of a data module: windows, statistics of the training rows, and what they are about.

Shapes: B batch, T window length, F features, H targets, C classes, n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from cnn_lstm.errors import require
from cnn_lstm.model.contract import Contract, PartDates, refuse_other_data

Part = Literal["train", "validation"]


class Windows(NamedTuple):
    """What a step needs of a batch: raw features (B, T, F), labels (B, H), panel rows (B,)."""

    x: Tensor
    y: Tensor
    row: Tensor


class Statistics(Protocol):
    """Location and scale of features (F,) and targets (H,) over the training rows, and class counts (H, C).

    With scales per symbol, location and scale have a row for each of S symbols and one of all together, (S + 1, ...).
    """

    @property
    def x_loc(self) -> Tensor:
        """What is subtracted from each feature."""

    @property
    def x_scale(self) -> Tensor:
        """What each feature is divided by."""

    @property
    def x_anchored(self) -> Tensor:
        """1 where a feature is taken relative to the window's last value."""

    @property
    def y_loc(self) -> Tensor:
        """What is subtracted from each target."""

    @property
    def y_scale(self) -> Tensor:
        """What each target is divided by."""

    @property
    def y_anchor(self) -> Tensor:
        """Feature whose last value is subtracted from a target; -1 for none."""

    @property
    def class_counts(self) -> Tensor:
        """Training labels of each class."""

    @property
    def codes(self) -> Tensor:
        """Codes of the symbols with a scale of their own, (S,); S is 0 without any."""

    @property
    def categories(self) -> Tensor:
        """Position of a static column and code of a category of training rows, (K, 2); K is 0 without any."""


class KnownData(Protocol):
    """What is known of data that a checkpoint meets."""

    def contract(self) -> Mapping[str, Any]:
        """What `Contract.from_plain` reads."""

    def keep_dates(self, dates: PartDates) -> None:
        """Cuts the parts by the dates of a checkpoint."""

    def keep_gap_limit(self, days: float | None) -> None:
        """Takes the limit of gaps of a checkpoint where the settings name none."""


class ForecastData(KnownData, Protocol):
    """What a data module offers to the forecaster."""

    @property
    def statistics(self) -> Statistics:
        """Location and scale over the training rows."""

    def windows_of(self, part: Part, most: int) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """At most so many windows of a part, evenly spread, in chunks: raw features, labels, rows; see `Windows`."""

    def surprise_scale(self, rows: Tensor) -> Tensor:
        """Size of each label's surprise as known at the panel rows (n,): (n, H)."""

    def dates(self, rows: Tensor) -> Tensor:
        """A number of the date of each of the panel rows, both (n,)."""


def contract_with(saved: Contract, data: KnownData, *, fit: bool = False, refuse_other_prices: bool) -> Contract:
    """What a checkpoint says, on other data than those that it was trained on.

    The checkpoint's dates decide which rows it is judged on, as long as no fit goes on with it: a split by shares of
    the rows moves with each new bar.

    Args:
        saved: The contract of the checkpoint.
        data: The data module, set up.
        fit: Whether a fit is resumed.
        refuse_other_prices: Whether prices other than those of the training are refused.

    Raises:
        CheckpointError: If the data do not go with the checkpoint, see `refuse_other_data`.
        DataError: If the prices are others and refused.
    """
    data.keep_gap_limit(saved.gap_limit)
    if not fit:
        data.keep_dates(saved.boundaries)
    new = Contract.from_plain(data.contract())
    refuse_other_data(saved, new, fit=fit, refuse_other_prices=refuse_other_prices)
    return new.with_weights_of(saved)


def standardised(
    data: ForecastData,
    standardize: Callable[[Tensor], Tensor],
    location: Callable[[Tensor], Tensor],
    scale: Callable[[Tensor], Tensor],
    part: Part,
    most: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows (n, T, F) and labels (n, H) of a part as a network sees them, in chunks.

    Args:
        data: The data module.
        standardize: Scales raw windows, (n, T, F).
        location: What is subtracted from the labels of raw windows, (n, H).
        scale: What the labels of raw windows are divided by, (H,) or (n, H); a constant label has an infinite one, and
            stays as it is.
        part: Which part of the split.
        most: Number of windows at most.
    """
    for x, y, _ in data.windows_of(part, most):
        divisor = scale(x)
        yield standardize(x), (y.double() - location(x)) / torch.where(divisor.isinf(), 1.0, divisor)


def require_fitting(statistics: Statistics, classes: int, n_targets: int, n_features: int) -> None:
    """Refuses data with other numbers of classes, targets or features than a model has.

    Raises:
        ConfigError: Naming both numbers.
    """
    known = statistics.class_counts.shape[1]
    what = f"targets with {known or 'no'} classes, an objective for {classes or 'numbers'}"
    fix = "use Classes(classes: N) for Direction targets, another objective for numbers"
    require(known == classes, what, "model.objective", fix)
    pairs = {"targets": (statistics.y_loc.shape[-1], n_targets), "features": (statistics.x_loc.shape[-1], n_features)}
    for name, (have, want) in pairs.items():
        require(have == want, f"{have} {name} in the data, {want} in the model", "model", "")
