"""From an agent's actions to the positions that it wants.

Shapes: n episodes, S symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cnn_lstm.errors import ConfigError

ActionKind = Literal["discrete", "continuous"]
ActionSpace = spaces.Discrete | spaces.MultiDiscrete | spaces.Box


@dataclass(frozen=True)
class Decisions:
    """What an action means.

    Attributes:
        kind: `discrete`: the number of one of `positions`, for each symbol. `continuous`: a weight between the first
            and the last of them, for each symbol.
        positions: Positions, ascending, within -1 to 1.
        symbols: Number of symbols, S.

    Raises:
        ConfigError: E266, if the kind is unknown, or the positions are not ascending or not within -1 to 1.

    Example:
        >>> Decisions("discrete", (-1.0, 0.0, 1.0), 2).weights(np.array([[2, 0]])).tolist()
        [[0.5, -0.5]]
        >>> Decisions("continuous", (-1.0, 1.0), 2).weights(np.array([[1.0, -1.0]])).tolist()
        [[0.5, -0.5]]
    """

    kind: ActionKind
    positions: tuple[float, ...]
    symbols: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(ActionKind):
            choices = ", ".join(get_args(ActionKind))
            raise ConfigError(f"actions={self.kind!r}", "actions", f"one of {choices}", code=266)
        given = np.asarray(self.positions, dtype=np.float64)
        if len(given) < 2 or not (np.diff(given) > 0).all() or not (np.abs(given) <= 1).all():
            raise ConfigError(
                f"positions={self.positions}", "positions", "give two or more, ascending, within -1 to 1", code=266
            )

    @property
    def space(self) -> ActionSpace:
        """The action space."""
        if self.kind == "continuous":
            low, high = self.positions[0], self.positions[-1]
            return spaces.Box(low, high, (self.symbols,), dtype=np.float32)
        count = len(self.positions)
        return spaces.Discrete(count) if self.symbols == 1 else spaces.MultiDiscrete([count] * self.symbols)

    def weights(self, actions: NDArray[np.generic]) -> NDArray[np.float64]:
        """Weights of the stake, whose absolute values sum to at most 1 per episode.

        A discrete position gets an equal part of the stake. Continuous weights are taken as they are, and scaled down
        together where their absolute values sum to more than 1.

        Args:
            actions: Actions, (n,) or (n, S).

        Returns:
            Weights, (n, S).

        Raises:
            ConfigError: E267, if an action is not the number of a position, or not finite.
        """
        given = np.asarray(actions).reshape(-1, self.symbols)
        if self.kind == "discrete":
            whole = np.issubdtype(given.dtype, np.integer)
            if not whole or ((given < 0) | (given >= len(self.positions))).any():
                raise ConfigError(
                    f"action {actions}", "step", f"give a whole number, 0 to {len(self.positions) - 1}", code=267
                )
            return np.asarray(self.positions, dtype=np.float64)[given] / self.symbols
        if not np.isfinite(given).all():
            raise ConfigError(f"action {actions}", "step", "the agent has diverged: lower its learning rate", code=267)
        bounded = np.clip(given.astype(np.float64), self.positions[0], self.positions[-1])
        return np.asarray(bounded / np.maximum(np.abs(bounded).sum(axis=1, keepdims=True), 1.0))
