"""Episodes over the same market, n at once: the one core of the single environment and of its vector form.

Shapes: n episodes, S symbols, T window length, F features.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cnn_lstm.data.sources.base import stamp
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.rl.accounts import Accounts, Decisions, StepResult, TradingTerms
from cnn_lstm.rl.market_data import Integers, MarketData

Observe = Literal["window", "account"]
Observation = dict[str, NDArray[np.float32]]
Info = dict[str, Any]


class Episodes:
    """The dates of n episodes, and their accounts.

    Args:
        data: What can be seen and traded.
        terms: Delay, costs and reward.
        decisions: What an action means.
        count: Number of episodes, n.
        length: Steps of an episode; a whole gap-free stretch by default.
        observe: `window` and account, or `account` alone.

    Attributes:
        position: Date of each episode, as a position in `data.dates`, (n,).
        left_out: Number of dates that `keep_to` took out of the episodes.

    Raises:
        ConfigError: E266, if `observe` is unknown or an episode would be too short for a trade.
        DataError: E362, if every gap-free stretch is shorter than an episode.
    """

    def __init__(
        self,
        data: MarketData,
        terms: TradingTerms,
        decisions: Decisions,
        count: int = 1,
        *,
        length: int | None = None,
        observe: Observe = "window",
    ) -> None:
        if observe not in get_args(Observe):
            raise ConfigError(f"observe={observe!r}", "observe", f"one of {', '.join(get_args(Observe))}", code=266)
        self.terms, self.decisions, self.length, self.observe = terms, decisions, length, observe
        self.accounts = Accounts(terms, count, len(data.symbols))
        self.left_out = 0
        self._lie_in(data)

    def _lie_in(self, data: MarketData) -> None:
        """Finds the dates on which episodes can start."""
        self.data = data
        self._startable = _startable(data, self.terms.delay, self.length)
        self._firsts = self._startable[np.diff(data.last[self._startable], prepend=-1) != 0]
        self._starts = self._firsts if self.length is None else self._startable
        self.position = np.full(len(self.accounts.equity), self._starts[0])
        self._end = self.position + 1

    def keep_to(self, dates: NDArray[np.bool_]) -> None:
        """Keeps episodes to some of their dates, such as those of which something is known.

        Args:
            dates: Whether each date may be part of an episode, (D,).

        Raises:
            DataError: E361 or E362, if no date is left, or each stretch of what is left is too short.
        """
        before = int((self.data.last >= 0).sum())
        self._lie_in(self.data.kept_to(dates))
        self.left_out += before - int((self.data.last >= 0).sum())

    def spaces(self) -> spaces.Dict:
        """The space of an observation of one episode; `window` carries the names of its `features`."""
        symbols = len(self.data.symbols)
        account = spaces.Box(-1.0, 1.0, (symbols * (1 + self.terms.delay),), dtype=np.float32)
        if self.observe == "account":
            return spaces.Dict({"account": account})
        shape = (self.data.window, len(self.data.features))
        window = spaces.Box(-np.inf, np.inf, shape if symbols == 1 else (symbols, *shape), dtype=np.float32)
        window.features = self.data.features  # type: ignore[attr-defined]  # `CNNLSTMExtractor` compares the names
        return spaces.Dict({"account": account, "window": window})

    def begin(self, number: int, generator: np.random.Generator, first: str | None = None) -> None:
        """Starts one episode.

        Args:
            number: Which of the n.
            generator: Draws the first date: any date that has `length` steps after it, or the first date of a stretch.
            first: First day, ISO, in place of a random one; the next possible date if that day is not one.

        Raises:
            ConfigError: E268, if the first day is too late for an episode.
        """
        if first is None:
            start = int(self._starts[generator.integers(len(self._starts))])
        else:
            late = self._startable[self.data.dates[self._startable] >= stamp(first, "start")]
            if not len(late):
                raise ConfigError(f"no episode can start at or after {first}", "start", "give an earlier day", code=268)
            start = int(late[0])
        self.position[number] = start
        self._end[number] = self.data.last[start] if self.length is None else start + self.length
        self.accounts.clear(number)

    def step(self, actions: NDArray[np.generic]) -> tuple[StepResult, NDArray[np.bool_]]:
        """Decides at the close of each episode's date, and moves on to the next date.

        Args:
            actions: Actions, (n,) or (n, S).

        Returns:
            What the bar between the two dates brought, and whether each episode's last date is reached, (n,).
        """
        last = self.position + 1 >= self._end
        result = self.accounts.step(self.decisions.weights(actions), self.data.returns[self.position], last)
        self.position = np.minimum(self.position + 1, self._end)  # an ended episode stays until it is started again
        return result, last

    def observation(self) -> Observation:
        """What is known at the close of each episode's date: (n, S * (1 + delay)) and (n, T, F) or (n, S, T, F)."""
        observation = {"account": self.accounts.observation()}
        if self.observe == "window":
            windows = self.data.windows(self.position)
            observation["window"] = windows[:, 0] if len(self.data.symbols) == 1 else windows
        return observation

    def info(self, result: StepResult | None = None) -> Info:
        """Gymnasium's info after a step, or at the start of an episode: each (n,), but `weights` is (n, S).

        Args:
            result: What the step brought; None at the start of an episode, when nothing was held or earned.
        """
        zero = np.zeros(len(self.position))
        if result is None:
            result = StepResult(np.zeros_like(self.accounts.held), zero, zero, zero, zero, zero, zero.astype(bool))
        info = {
            "date": self.data.dates[self.position],
            "weights": result.weights,
            "gross_return": result.gross,
            "net_return": result.net,
            "turnover": result.turnover,
            "cost": result.cost,
            "equity": self.accounts.equity,
        }
        return {name: values.copy() for name, values in info.items()}

    def stretches(self) -> list[str]:
        """First date of each gap-free stretch in which an episode can lie, ISO."""
        return [str(day) for day in self.data.dates[self._firsts]]


def first_day(options: dict[str, Any] | None) -> str | None:
    """The first day that the options of `reset` name.

    Args:
        options: Options of Gymnasium's `reset`.

    Raises:
        ConfigError: E268, if there is another option than `start`.
    """
    unknown = set(options or {}) - {"start"}
    if unknown:
        raise ConfigError(f"unknown options {sorted(unknown)}", "reset", "only start is known", code=268)
    return (options or {}).get("start")


def _startable(data: MarketData, delay: int, length: int | None) -> Integers:
    """Dates on which an episode can start, ascending positions in `data.dates`."""
    if length is not None and length <= delay:
        fix = f"give more than the delay of {delay}"
        raise ConfigError(f"episode_length={length}", "episode_length", fix, code=266)
    steps = np.where(data.last >= 0, data.last - np.arange(len(data.last)), 0)
    startable = np.flatnonzero(steps >= (length or delay + 1))
    if not len(startable):
        what, fix = f"no stretch of {length or delay + 1} bars without a gap", "give a shorter episode_length"
        raise DataError(what, f"the longest has {steps.max()}", f"{fix}, or more history", code=362)
    return startable
