"""What a model makes of static columns: an embedding of each, which scales and shifts the embedding of a window.

Shapes: B batch, T window length, F features, D embedding, S static columns, K categories of one, E width of its
embedding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.errors import require

WIDEST = 16  # of the embedding of a category
HALF = 2  # bytes of a number in half precision


def width_of(categories: int) -> int:
    """Width of the embedding of a column, E: half of its categories and one more, 16 at most.

    Example:
        >>> [width_of(number) for number in (1, 11, 500)]
        [1, 6, 16]
    """
    return min(WIDEST, categories // 2 + 1)


class CategoryScale(nn.Module):
    """Scales and shifts the embedding of a window by the categories that its last bar has in the static columns.

    The scale begins at 1 and the shift at 0, so that a model begins as one without static columns. A scale lets each
    category weigh the features of the network in its own way, where a sum could only move the forecast. A code that the
    training did not have gives NaN, and never the forecast of another category.

    Args:
        width: Width of the embedding, D.

    Source:
        Perez, Strub, de Vries, Dumoulin and Courville (2018), FiLM: Visual Reasoning with a General Conditioning Layer.

    Example:
        >>> layer = CategoryScale(2)
        >>> layer.take(torch.tensor([[0.0, 7.0], [0.0, 9.0]]))
        >>> windows = torch.tensor([[[7.0]], [[8.0]]])
        >>> layer(torch.ones(2, 2), windows).tolist()
        [[1.0, 1.0], [nan, nan]]
    """

    _like: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.columns = nn.ModuleList()
        self.project: nn.Module = nn.Identity()
        self.register_buffer("_like", torch.zeros(0), persistent=False)  # where the model is, and of which type

    @property
    def known(self) -> Tensor:
        """Position of a static column and code of a category, (K, 2), as `take` takes them."""
        pairs = [torch.stack([torch.full_like(part.codes, part.position), part.codes], dim=1) for part in self.parts]
        return torch.cat([torch.zeros(0, 2), *(pair.cpu() for pair in pairs)])

    @property
    def positions(self) -> list[int]:
        """Positions of the static columns among the features, (S,)."""
        return [part.position for part in self.parts]

    @property
    def parts(self) -> list[Category]:
        """The static columns, (S,)."""
        return cast("list[Category]", list(self.columns))

    def take(self, categories: Tensor) -> None:
        """Learns which categories there are; one of the same categories keeps its weights.

        Args:
            categories: Position of a static column and code of a category, (K, 2), as `TrainingStatistics` has them.

        Raises:
            ConfigError: If half precision would round the codes.
        """
        what, fix = "data.static with a model in half precision", "use 32-true, 16-mixed or bf16-mixed"
        require(not len(categories) or self._like.dtype.itemsize > HALF, what, "trainer.precision", fix)
        if torch.equal(self.known, categories.float().cpu()):
            return
        codes = {int(place): categories[categories[:, 0] == place, 1] for place in categories[:, 0].unique()}
        self.shape({place: len(of_column) for place, of_column in codes.items()})
        for part in self.parts:
            part.codes.copy_(codes[part.position])

    def shape(self, sizes: Mapping[int, int]) -> None:
        """Takes columns without their codes yet.

        Args:
            sizes: Categories by the position of the column.
        """
        self.columns = nn.ModuleList(Category(place, size) for place, size in sizes.items())
        self.project = nn.Identity()
        if self.parts:
            self.project = nn.Linear(sum(part.weight.shape[1] for part in self.parts), 2 * self.width)
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)
        self.to(self._like.device, self._like.dtype)

    def forward(self, embedding: Tensor, x: Tensor) -> Tensor:
        """Embeddings, (B, D), of embeddings (B, D) and their raw windows (B, T, F)."""
        if not self.parts:
            return embedding
        scale, shift = self._of_categories(x[:, -1]).chunk(2, dim=1)
        return embedding * (1.0 + scale) + shift

    def _of_categories(self, last: Tensor) -> Tensor:
        """Scale and shift, (B, 2 D), of the last bars of raw windows, (B, F).

        The projection is that of the categories, not of the windows: its shape and so its bits owe nothing to a batch.
        """
        widths = [part.weight.shape[1] for part in self.parts]
        weights = cast(Tensor, self.project.weight).split(widths, dim=1)
        total = cast(Tensor, self.project.bias)
        for part, weight in zip(self.parts, weights, strict=True):
            total = total + part(last, F.linear(part.weight, weight))
        return total

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Takes the columns of what is loaded; a checkpoint of a model without static columns has none."""
        names = (f"{prefix}columns.{k}" for k in itertools.count())
        held = itertools.takewhile(lambda name: f"{name}.codes" in state_dict and f"{name}.place" in state_dict, names)
        sizes = {int(state_dict[f"{name}.place"]): len(state_dict[f"{name}.codes"]) for name in held}
        if {part.position: len(part.codes) for part in self.parts} != sizes:
            self.shape(sizes)
        super()._load_from_state_dict(state_dict, prefix, *others)


class Category(nn.Module):
    """The embedding of one static column.

    Args:
        position: Position of the column among the features.
        size: Number of its categories, K.
    """

    place: Tensor
    codes: Tensor

    def __init__(self, position: int, size: int) -> None:
        super().__init__()
        self.register_buffer("place", torch.tensor(position))
        self.register_buffer("codes", torch.zeros(size))
        self.weight = nn.Parameter(torch.randn(size, width_of(size)) / math.sqrt(width_of(size)))

    @property
    def position(self) -> int:
        """Position of the column among the features."""
        return int(self.place)

    def forward(self, last: Tensor, rows: Tensor) -> Tensor:
        """The row of each window's category, (B, W); NaN where its code is not one of the training.

        Args:
            last: Last bars of raw windows, (B, F).
            rows: A row for each category, (K, W).
        """
        same = last.index_select(1, self.place.view(1)) == self.codes  # (B, K)
        # not `F.embedding`: an exporter names it `embedding`, as the output of the whole
        found = rows.index_select(0, same.to(torch.int64).argmax(dim=1))
        return torch.where(same.any(dim=1, keepdim=True), found, torch.nan)
