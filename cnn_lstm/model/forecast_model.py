"""Network, line, head and objective: from windows to forecasts, with nothing of a training.

Nothing of Lightning is imported here, so that commands without a trainer start fast; see `forecaster`.

Shapes: B batch, T window length, F features, H targets, D embedding, K outputs of the head per target.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from cnn_lstm import specs
from cnn_lstm.errors import require
from cnn_lstm.model.categories import CategoryScale
from cnn_lstm.model.contract import Contract, require_intact, warn_of_weighted_sets
from cnn_lstm.model.dropout import dropout_columns
from cnn_lstm.model.fixed_shape import SmallShapes, fixed_shape
from cnn_lstm.model.linear import LinearPath, Mode, line_columns
from cnn_lstm.model.network import Backbone, require_backbone
from cnn_lstm.model.objectives import Objective, Point
from cnn_lstm.model.target_scale import TargetScale
from cnn_lstm.model.training_data import Statistics


class Forecast(NamedTuple):
    """Forecast columns in original units, each (B, H), and the embeddings (B, D) that they come from."""

    columns: dict[str, Tensor]
    embedding: Tensor


class ForecastModel(TargetScale):
    """Forecasts of a network; a `Forecaster` trains it, and a checkpoint gives it back.

    Args:
        network: Maps windows to embeddings.
        objective: Meaning of the head's outputs, loss and forecast; mean squared error by default.
        n_targets: Number of targets, H.
        linear: What becomes of the line through the training windows, see `Forecaster`.

    Attributes:
        contract: What the model knows of its training data; empty before a fit or a checkpoint.

    Example:
        >>> from cnn_lstm.model.network import CNNLSTM
        >>> model = ForecastModel(CNNLSTM(n_features=3), n_targets=2).eval()
        >>> model(torch.zeros(4, 20, 3))["y_pred"].shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        network: Backbone,
        objective: Objective | None = None,
        n_targets: int = 1,
        linear: Mode | Literal[False] = "fixed",
    ) -> None:
        super().__init__(n_targets)
        linear = linear or "off"  # as YAML reads `off`
        require(linear in get_args(Mode), f"linear={linear!r}", "model.linear", f"one of {', '.join(get_args(Mode))}")
        # Lightning's `load_from_checkpoint` gives the specs of the checkpoint
        network = specs.built(network, Backbone)
        require_backbone(network)
        self.network = network
        self.objective: Objective = specs.built(objective or Point(), Objective)
        fix = "set it in the class, see docs/model.md"
        specs.require_attributes(self.objective, {"n_outputs": int}, "model.objective", fix)
        self.n_targets = n_targets
        self.linear = LinearPath(n_targets, self.objective.linear_outputs, linear)
        self.categories = CategoryScale(network.embedding_dim)
        self.head = nn.Linear(network.embedding_dim, n_targets * self.objective.n_outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.objective.prepare(n_targets)
        self.contract, self._small_shapes = Contract(), SmallShapes()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.y_loc.device

    def take_contract(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes what a checkpoint says of its training data.

        Raises:
            CheckpointError: If the checkpoint is damaged.
        """
        require_intact(checkpoint)
        self.contract = Contract.of(checkpoint)
        if not self.contract.members:  # else once for all of them
            warn_of_weighted_sets(self.contract, self.objective.weighted)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Forecast columns in original units, each (B, H), of raw windows (B, T, F)."""
        return self.columns(x).columns

    def encode(self, x: Tensor) -> Tensor:
        """Embeddings, (B, D), of raw windows (B, T, F)."""
        embedding: Tensor = self.categories(self.network(x), x)
        return embedding

    def learn_scales(self, statistics: Statistics) -> None:
        """Fills the buffers of network and targets, and learns which categories static columns have."""
        super().learn_scales(statistics)
        # statistics of a user's own may know of none
        self.categories.take(getattr(statistics, "categories", self.categories.known[:0]))

    def columns(self, x: Tensor) -> Forecast:
        """`forward` and `encode` in one pass."""
        embedding, raw, line = self._outputs(x)
        return Forecast(self._decode(raw, line, x), embedding)

    def forecast(self, x: Tensor, samples: int = 0, seed: int = 0) -> Forecast:
        """`columns`, with the bits of each row independent of the others; see `fixed_shape` and `SmallShapes`.

        Args:
            x: Raw windows, (B, T, F).
            samples: Passes of Monte Carlo dropout; 0 for none. With them `y_pred` of numbers is their mean, and
                `mc_std` their spread.
            seed: Gives other dropout masks; those of a window depend on it and the window's values alone.
        """
        shaped = fixed_shape if self.training else partial(self._small_shapes, kept=self.categories.positions)
        embedding, raw, line = shaped(self._outputs, x)
        columns = self._decode(raw, line, x)
        if samples:
            columns |= dropout_columns(self, x, samples, seed, self.objective.classes)
        return Forecast(columns, embedding)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Scalar loss of raw windows (B, T, F) against their targets in original units (B, H), as training has it."""
        return self.objective.loss_of(self._outputs(x)[1], y, self._loc(x), self._scale(x))

    def _outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, D), raw outputs (B, H, K), and the line in them (B, H, L), of raw windows (B, T, F)."""
        embedding = self.encode(x)
        line = self.linear(self.network.standardize(x))
        raw = self.head(embedding).unflatten(1, (self.n_targets, -1))
        return embedding, self.objective.shifted(raw, line), line

    def _decode(self, raw: Tensor, line: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Forecast columns, each (B, H), of outputs and the line in them; the line's own too where there is one."""
        loc, scale = self._loc(x), self._scale(x)
        columns = self.objective.forecast(raw.float(), loc, scale)
        return columns | (line_columns(line.float(), loc, scale) if self.linear.learnt else {})
