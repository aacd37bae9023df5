"""Episodes over the same bars, n at once: the one core of the single environment and of its vector form.

Shapes: n episodes, S symbols, T window length, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cnn_lstm.data.sources.base import stamp
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.rl.accounts import Accounts, Metrics, Rules
from cnn_lstm.rl.bars import Bars, Floats, Integers

Observe = Literal["window", "account"]
Kind = Literal["discrete", "continuous"]
Observation = dict[str, NDArray[np.float32]]
Action = spaces.Discrete | spaces.MultiDiscrete | spaces.Box


@dataclass(frozen=True)
class Decisions:
    """What an action means.

    Attributes:
        kind: `discrete`: the number of one of `positions`, for each symbol. `continuous`: a number between the first
            and the last of them.
        positions: Positions, ascending, within -1 to 1.
        symbols: Number of symbols, S.

    Example:
        >>> Decisions("discrete", (-1.0, 0.0, 1.0), 2).weights(np.array([[2, 0]])).tolist()
        [[0.5, -0.5]]
        >>> Decisions("continuous", (-1.0, 1.0), 2).weights(np.array([[1.0, -1.0]])).tolist()
        [[0.5, -0.5]]
    """

    kind: Kind
    positions: tuple[float, ...]
    symbols: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"actions={self.kind!r}", "actions", f"one of {', '.join(get_args(Kind))}", code=266)
        given = np.asarray(self.positions, dtype=np.float64)
        if len(given) < 2 or not (np.diff(given) > 0).all() or not (np.abs(given) <= 1).all():
            raise ConfigError(
                f"positions={self.positions}", "positions", "give two or more, ascending, within -1 to 1", code=266
            )

    @property
    def space(self) -> Action:
        """The action space."""
        if self.kind == "continuous":
            low, high = self.positions[0], self.positions[-1]
            return spaces.Box(low, high, (self.symbols,), dtype=np.float32)
        count = len(self.positions)
        return spaces.Discrete(count) if self.symbols == 1 else spaces.MultiDiscrete([count] * self.symbols)

    def weights(self, actions: NDArray[np.generic]) -> Floats:
        """Weights of the stake, (n,) or (n, S) -> (n, S), whose absolute values sum to at most 1.

        A discrete position has an equal part of the stake. Continuous ones are taken as weights, and scaled down
        together where they come to more than the stake.

        Raises:
            ConfigError: If an action is no number of a position, or not finite.
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


class Episodes:
    """Where n episodes are, and what they hold.

    Args:
        bars: What can be seen and traded.
        rules: Delay, costs and reward.
        decisions: What an action means.
        count: Number of episodes, n.
        length: Steps of an episode; a whole gap-free stretch by default.
        observe: `window` and account, or `account` alone.

    Attributes:
        position: Date of each episode, as a position in `bars.dates`, (n,).
    """

    def __init__(
        self,
        bars: Bars,
        rules: Rules,
        decisions: Decisions,
        count: int = 1,
        *,
        length: int | None = None,
        observe: Observe = "window",
    ) -> None:
        if observe not in get_args(Observe):
            raise ConfigError(f"observe={observe!r}", "observe", f"one of {', '.join(get_args(Observe))}", code=266)
        self.bars, self.rules, self.decisions = bars, rules, decisions
        self.length, self.observe = length, observe
        self.accounts = Accounts(rules, count, len(bars.symbols))
        self._startable = _startable(bars, rules.delay, length)
        self._firsts = self._startable[np.diff(bars.last[self._startable], prepend=-1) != 0]
        self._starts = self._firsts if length is None else self._startable
        self.position = np.full(count, self._starts[0])
        self._end = self.position + 1

    def spaces(self) -> spaces.Dict:
        """The space of an observation of one episode; `window` carries the names of its `features`."""
        symbols = len(self.bars.symbols)
        account = spaces.Box(-1.0, 1.0, (symbols * (1 + self.rules.delay),), dtype=np.float32)
        if self.observe == "account":
            return spaces.Dict({"account": account})
        shape = (self.bars.window, len(self.bars.features))
        window = spaces.Box(-np.inf, np.inf, shape if symbols == 1 else (symbols, *shape), dtype=np.float32)
        window.features = self.bars.features  # type: ignore[attr-defined]
        return spaces.Dict({"account": account, "window": window})

    def begin(self, number: int, generator: np.random.Generator, first: str | None = None) -> None:
        """Starts an episode.

        Args:
            number: Which of the n.
            generator: Draws the first date: any one with `length` steps behind it, or that of a stretch.
            first: First day, ISO, instead; the next possible date if there is none on that day.
        """
        if first is None:
            start = int(self._starts[generator.integers(len(self._starts))])
        else:
            late = self._startable[self.bars.dates[self._startable] >= stamp(first, "start")]
            if not len(late):
                raise ConfigError(f"no episode can start at or after {first}", "start", "give an earlier day", code=268)
            start = int(late[0])
        self.position[number] = start
        self._end[number] = self.bars.last[start] if self.length is None else start + self.length
        self.accounts.clear(number)

    def step(self, actions: NDArray[np.generic]) -> tuple[Metrics, NDArray[np.bool_]]:
        """Decides at the close of each episode's date, and goes on to the next one.

        Returns:
            What the bar between brought, and whether each episode's last date is reached, (n,).
        """
        last = self.position + 1 >= self._end
        metrics = self.accounts.step(self.decisions.weights(actions), self.bars.returns[self.position], last)
        self.position = np.minimum(self.position + 1, self._end)  # one that has ended stays until it starts anew
        return metrics, last

    def observation(self) -> Observation:
        """What is known at the close of each episode's date: (n, S * (1 + delay)) and (n, T, F) or (n, S, T, F)."""
        seen = {"account": self.accounts.observation()}
        if self.observe == "window":
            windows = self.bars.windows(self.position)
            seen["window"] = windows[:, 0] if len(self.bars.symbols) == 1 else windows
        return seen

    def stretches(self) -> list[str]:
        """First date of each gap-free stretch in which an episode can lie, ISO."""
        return [str(day) for day in self.bars.dates[self._firsts]]


def _startable(bars: Bars, delay: int, length: int | None) -> Integers:
    """Dates on which an episode can start."""
    if length is not None and length <= delay:
        raise ConfigError(
            f"episode_length={length}", "episode_length", f"give more than the delay of {delay}", code=266
        )
    steps = np.where(bars.last >= 0, bars.last - np.arange(len(bars.last)), 0)
    startable = np.flatnonzero(steps >= (length or delay + 1))
    if not len(startable):
        raise DataError(
            f"no stretch of {length or delay + 1} bars without a gap",
            f"the longest has {steps.max()}",
            "give a shorter episode_length, or more history",
            code=362,
        )
    return startable
