"""Tables of location and scale with a row for each symbol, and which row a window takes.

Shapes: B windows, T window length, F features, S symbols with a scale of their own, W width of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def of_windows(table: Tensor, codes: Tensor, x: Tensor) -> Tensor:
    """The row of each window's symbol, (B, W); the table itself where symbols have no scale of their own.

    Args:
        table: Of each symbol in the order of the codes, and last of all together, (S + 1, W); (W,) where S is 0.
        codes: Codes of the symbols, (S,).
        x: Raw windows, (B, T, F), whose last feature is the code of their symbol. An unknown one takes the last row.

    Example:
        >>> table, codes = torch.tensor([[0.01], [5.0], [1.0]]), torch.tensor([7.0, 3.0])
        >>> of_windows(table, codes, torch.tensor([3.0, 4.0, 7.0]).view(3, 1, 1)).flatten().tolist()
        [5.0, 1.0, 0.009999999776482582]
    """
    if not len(codes):
        return table
    same = x[:, -1, -1:] == codes  # (B, S)
    rows = torch.where(same, torch.arange(len(codes), device=x.device), len(codes)).amin(dim=1)
    return table.index_select(0, rows)


def like(own: Tensor, values: Tensor) -> Tensor:
    """A copy of values with the type and device of others, rows behind one another in memory."""
    return own.new_empty(values.shape).copy_(values)


def take_rows(module: nn.Module, state: Mapping[str, Any], prefix: str, names: Sequence[str]) -> None:
    """Gives tables of a module as many rows as those that are about to be loaded.

    Args:
        module: The module; what its tables hold is lost.
        state: What is loaded.
        prefix: What the names in it begin with.
        names: Names of the tables, which are buffers of the module.
    """
    for name in names:
        own, saved = module.get_buffer(name), state.get(f"{prefix}{name}")
        if saved is not None and saved.shape[:-1] != own.shape[:-1]:
            setattr(module, name, own.new_zeros(*saved.shape[:-1], own.shape[-1]))
