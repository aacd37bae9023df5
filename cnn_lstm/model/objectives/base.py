"""What every objective has in common.

Shapes: B batch, H targets, K outputs of the head for each target, L outputs of a linear forecast, n training rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.specs import Serializable


class Objective(nn.Module, Serializable, ABC):
    """Outputs, loss and forecast of one kind.

    The head gives K outputs per target. Losses are computed on standardised targets z = (y - loc) / scale, so that a
    loss near 1 means "no better than the mean" whatever the unit.

    Attributes:
        n_outputs: Outputs of the head for each target, K.
        classes: Number of classes; 0 when numbers are forecast.
        weighted: Whether the loss weighs the classes.
    """

    n_outputs: int
    classes: int = 0
    weighted: bool = False

    @abstractmethod
    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Scalar loss of raw outputs (B, H, K) against standardised targets (B, H)."""

    def loss_of(self, raw: Tensor, y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """Scalar loss against targets in original units; that of the standardised ones, but for `Qlike`.

        Args:
            raw: Outputs of the head, (B, H, K).
            y: Targets, (B, H).
            loc: What standardisation subtracts, (B, H).
            scale: What it divides by, (H,) or (B, H).
        """
        return self.loss(raw, (y - loc) / scale)

    @abstractmethod
    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Columns of the predictions table in original units, each (B, H); `y_pred` first.

        Args:
            raw: Outputs of the head, (B, H, K).
            loc: What standardisation subtracted, (B, H).
            scale: What it divided by, (H,) or (B, H).
        """

    # -- a linear forecast under the head ------------------------------------------------------------------------

    @property
    def locations(self) -> range:
        """Which of the K outputs are locations, in the unit of the standardised target: the first one by default."""
        return range(1)

    @property
    def linear_outputs(self) -> int:
        """Numbers of a linear forecast for each target, L: one, or a logit for each class."""
        return self.classes or 1

    def shifted(self, raw: Tensor, linear: Tensor) -> Tensor:
        """Raw outputs, (B, H, K), whose locations are moved by a linear forecast.

        Args:
            raw: Outputs of the head, (B, H, K).
            linear: Linear forecast of the standardised target, (B, H, 1), or logits of the classes, (B, H, C).

        Example:
            >>> import torch
            >>> Gaussian().shifted(torch.zeros(1, 1, 2), torch.full((1, 1, 1), 3.0)).tolist()
            [[[3.0, 0.0]]]
        """
        places = self.locations
        shift = linear.expand(-1, -1, len(places))
        if len(places) < self.n_outputs:
            shift = F.pad(shift, (places.start, self.n_outputs - places.stop))
        return raw + shift

    def start(self, residual: Tensor) -> Tensor:
        """Raw outputs, (H, K), of a good constant distribution around a linear forecast, whose `y_pred` is the line.

        They are the bias that a head of zero weights starts with. Zeros by default.

        Args:
            residual: Standardised targets less their linear forecast on the training rows, (n, H); rows of NaN are
                left out.
        """
        return torch.zeros(residual.shape[1], self.n_outputs)

    # -- what is known of the data before training ---------------------------------------------------------------

    def prepare(self, n_targets: int) -> None:
        """Gives the buffers the shapes that they have for H targets, before anything is known of the data."""
        if self.classes:
            self.learn_classes(torch.ones(n_targets, self.classes))

    def learn_classes(self, counts: Tensor) -> None:
        """Takes the class counts of the training labels, (H, C), before training; for class weights."""

    def learn_kinds(self, kinds: Sequence[str]) -> None:
        """Takes the kind of each target, such as `return` or `log_volatility`, before training.

        Raises:
            ConfigError: If the objective is not one for targets of that kind.
        """
