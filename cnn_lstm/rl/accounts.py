"""From actions to positions, and what these earn: n episodes at once, by the formulas of the report's strategy.

The stake is constant: profits are not reinvested, so returns add up, a weight is a share of that stake, and a cost of
c per side takes c from each unit traded. See `evaluation.metrics.strategy`. Shapes: n episodes, S symbols.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cnn_lstm.errors import ConfigError

Floats = NDArray[np.float64]
Reward = Literal["return", "log_return", "differential_sharpe"]
ActionKind = Literal["discrete", "continuous"]
ActionSpace = spaces.Discrete | spaces.MultiDiscrete | spaces.Box
MEMORY = 0.01  # weight of the newest return in the moments of the differential Sharpe ratio
SMALLEST = 1e-3  # the logarithm of a net return below this share of the stake is that of this share


@dataclass(frozen=True)
class TradingTerms:
    """How decisions become trades, and trades rewards.

    Attributes:
        delay: Bars between a decision and its execution at a close; 0 trades at the close that the decision itself
            used, which is not possible in practice.
        fee_bp: Fee in basis points of what is traded, per side.
        slippage_bp: Half spread and slippage in basis points of what is traded, per side.
        reward: `return`: net return of the bar. `log_return`: log(1 + net return). `differential_sharpe`: first-order
            change of the Sharpe ratio of exponentially weighted returns (Moody and Saffell 1998).

    Raises:
        ConfigError: E266, if a value is out of its range.

    Example:
        >>> TradingTerms(fee_bp=2, slippage_bp=3).cost
        0.0005
    """

    delay: int = 1
    fee_bp: float = 5.0
    slippage_bp: float = 5.0
    reward: Reward = "return"

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise ConfigError(f"delay={self.delay}", "delay", "give 0 bars or more", code=266)
        for name, value in (("fee_bp", self.fee_bp), ("slippage_bp", self.slippage_bp)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name}={value}", name, "give 0 basis points or more", code=266)
        if self.reward not in get_args(Reward):
            raise ConfigError(f"reward={self.reward!r}", "reward", f"one of {', '.join(get_args(Reward))}", code=266)

    @property
    def cost(self) -> float:
        """Cost of trading one stake, one side."""
        return (self.fee_bp + self.slippage_bp) / 1e4


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
            fix = "give two or more, ascending, within -1 to 1"
            raise ConfigError(f"positions={self.positions}", "positions", fix, code=266)

    @property
    def space(self) -> ActionSpace:
        """The action space."""
        if self.kind == "continuous":
            low, high = self.positions[0], self.positions[-1]
            return spaces.Box(low, high, (self.symbols,), dtype=np.float32)
        count = len(self.positions)
        return spaces.Discrete(count) if self.symbols == 1 else spaces.MultiDiscrete([count] * self.symbols)

    def weights(self, actions: NDArray[np.generic]) -> Floats:
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
                fix = f"give a whole number, 0 to {len(self.positions) - 1}"
                raise ConfigError(f"action {actions}", "step", fix, code=267)
            return np.asarray(self.positions, dtype=np.float64)[given] / self.symbols
        if not np.isfinite(given).all():
            raise ConfigError(f"action {actions}", "step", "the agent has diverged: lower its learning rate", code=267)
        bounded = np.clip(given.astype(np.float64), self.positions[0], self.positions[-1])
        return np.asarray(bounded / np.maximum(np.abs(bounded).sum(axis=1, keepdims=True), 1.0))


@dataclass(frozen=True)
class StepResult:
    """What one step of n episodes brought.

    Attributes:
        weights: What was held over the bar, (n, S).
        gross: Return before costs, (n,).
        turnover: Traded share of the stake, (n,).
        cost: Costs of the trades, as a share of the stake, (n,).
        net: Return after costs, (n,).
        reward: Reward, (n,).
        ruined: Whether the stake is lost, (n,).
    """

    weights: Floats
    gross: Floats
    turnover: Floats
    cost: Floats
    net: Floats
    reward: Floats
    ruined: NDArray[np.bool_]


class Accounts:
    """Positions, waiting orders and equity of n episodes.

    Args:
        terms: Delay, costs and reward.
        episodes: Number of episodes, n.
        symbols: Number of symbols, S.

    Attributes:
        held: Weights in force, (n, S).
        waiting: Decisions that are not executed yet, the oldest first, (n, delay, S).
        equity: 1 plus all net returns of the episode, (n,).

    Example:
        >>> accounts = Accounts(TradingTerms(delay=0, fee_bp=10, slippage_bp=0), episodes=1, symbols=1)
        >>> result = accounts.step(np.array([[1.0]]), np.array([[0.02]]), np.array([False]))
        >>> result.gross.tolist(), result.turnover.tolist(), result.net.round(4).tolist()
        ([0.02], [1.0], [0.019])
    """

    def __init__(self, terms: TradingTerms, episodes: int, symbols: int) -> None:
        self.terms = terms
        self.held = np.zeros((episodes, symbols))
        self.waiting = np.zeros((episodes, terms.delay, symbols))
        self.equity = np.ones(episodes)
        self._moments = np.zeros((2, episodes))

    def clear(self, number: int) -> None:
        """Resets one episode to the full stake without a position."""
        self.held[number], self.waiting[number], self.equity[number] = 0.0, 0.0, 1.0
        self._moments[:, number] = 0.0

    def step(self, decided: Floats, returns: Floats, last: NDArray[np.bool_]) -> StepResult:
        """Executes what is due at this close, and holds it over the next bar.

        Args:
            decided: Weights decided at this close, (n, S).
            returns: Return of the next bar, (n, S).
            last: Whether the episode ends after that bar, (n,); then positions are closed, at the usual cost.
        """
        due = self._due(decided)
        turnover = np.abs(due - self.held).sum(axis=1)
        gross = (due * returns).sum(axis=1)
        ruined = self.equity + gross - turnover * self.terms.cost <= 0
        closed = last | ruined
        if closed.any():
            turnover = turnover + np.where(closed, np.abs(due).sum(axis=1), 0.0)
            self.waiting[closed] = 0.0
        cost = turnover * self.terms.cost
        net = gross - cost
        self.equity = self.equity + net
        self.held = np.where(closed[:, None], 0.0, due)
        return StepResult(due, gross, turnover, cost, net, self._reward(net), ruined)

    def observation(self) -> NDArray[np.float32]:
        """Weights in force and waiting orders, (n, S * (1 + delay)).

        Equity is not part of it: with a constant stake, past profits do not change what can be earned.
        """
        return np.concatenate([self.held, self.waiting.reshape(len(self.held), -1)], axis=1, dtype=np.float32)

    def _due(self, decided: Floats) -> Floats:
        """The orders to execute now, (n, S); the decided ones, (n, S), join the queue."""
        if not self.terms.delay:
            return decided
        due = self.waiting[:, 0].copy()
        self.waiting[:, :-1] = self.waiting[:, 1:]
        self.waiting[:, -1] = decided
        return due

    def _reward(self, net: Floats) -> Floats:
        if self.terms.reward == "return":
            return net
        if self.terms.reward == "log_return":
            return np.log(np.maximum(1.0 + net, SMALLEST))
        return self._differential_sharpe(net)

    def _differential_sharpe(self, net: Floats) -> Floats:
        """(B dA - A dB / 2) / (B - A^2)^1.5 of the moments A, B before the return; 0 until they have a variance."""
        mean, square = self._moments
        up = np.stack([net - mean, net**2 - square])
        variance = square - mean**2
        known = variance > 1e-12
        ratio = (square * up[0] - mean * up[1] / 2) / np.where(known, variance, 1.0) ** 1.5
        self._moments = self._moments + MEMORY * up
        return np.where(known, ratio, 0.0)
