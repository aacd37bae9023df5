"""How targets are standardised: a location and a scale, of all symbols or of each, and the last value of an anchor.

Shapes: B batch, T window length, F features, H targets, S symbols with a scale of their own.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnn_lstm.model.network import Backbone
from cnn_lstm.model.scales import like, of_windows, take_rows
from cnn_lstm.model.training_data import Statistics

UNLEARNT = {"y_loc": 0.0, "y_scale": 1.0, "y_anchor": -1}


class TargetScale(nn.Module, ABC):
    """A module that knows how its targets are standardised; the buffers keep the names of the oldest checkpoints.

    Args:
        n_targets: Number of targets, H.

    Attributes:
        network: Maps windows to embeddings; it knows the codes of the symbols.
        y_loc: Location of each target, (H,); with scales per symbol (S + 1, H), see `of_windows`.
        y_scale: Scale of each target, of the same shape.
        y_anchor: Feature whose last value is subtracted from a target and added back, (H,) int64; -1 for none.
            It changes by `learn_scales` or with a checkpoint, not in place.
    """

    network: Backbone
    y_loc: Tensor
    y_scale: Tensor
    y_anchor: Tensor

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        for name, value in UNLEARNT.items():
            self.register_buffer(name, torch.full((n_targets,), value))
        self._anchors = False  # whether any target is anchored; a GPU need not be asked

    def learn_scales(self, statistics: Statistics) -> None:
        """Fills the buffers of network and targets."""
        self.network.standardize.take(statistics.x_loc, statistics.x_scale, statistics.x_anchored, statistics.codes)
        for name in UNLEARNT:
            setattr(self, name, like(self.get_buffer(name), getattr(statistics, name)))
        self._anchors = bool((self.y_anchor >= 0).any())

    def _loc(self, x: Tensor) -> Tensor:
        """What standardisation subtracts from the targets, (B, H): location, and last value where anchored."""
        location = of_windows(self.y_loc, self.network.standardize.codes, x)
        if not self._anchors:
            return location.expand(x.shape[0], -1)
        last = x[:, -1].index_select(1, self.y_anchor.clamp(min=0))
        return location + torch.where(self.y_anchor >= 0, last, 0.0)

    def _scale(self, x: Tensor) -> Tensor:
        """What standardisation divides the targets by, (B, H); (H,) without scales per symbol."""
        return of_windows(self.y_scale, self.network.standardize.codes, x)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        take_rows(self, state_dict, prefix, list(UNLEARNT))
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._anchors = bool((self.y_anchor >= 0).any())
