"""`cnn_lstm/MarketEnv-v0`: trading a price table as a Gymnasium environment, alone or many episodes at once.

A step in words: at the close of date t the agent sees the feature window that ends at t and what it holds, and decides
the positions it wants. They are taken at the close of t + delay. The step then goes on to t + 1 and brings what the
positions in force earned on the bar between, less the costs of what was traded at its start. So nothing that a step
returns depends on a price after the date that its observation shows. Shapes: n episodes, S symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.splits import Boundaries, Split
from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.accounts import Metrics, Reward, Rules
from cnn_lstm.rl.bars import Part, contract_of, own_recipe, read_bars
from cnn_lstm.rl.episodes import Decisions, Episodes, Kind, Observation, Observe
from cnn_lstm.rl.plots import draw_episode, pixels

WINDOW = 60  # rows of a window without a checkpoint, as in `MarketDataModule`
NAME = "cnn_lstm/MarketEnv-v0"
Info = dict[str, Any]


class MarketEnv(gymnasium.Env[Observation, Any]):
    """A market to trade in, one symbol or a portfolio.

    Args:
        prices: Long price table with symbol and timestamp, or a file or pattern of files with one.
        symbols: Symbols to trade, on the dates that they have in common, or a single one; all by default.
        checkpoint: Checkpoint of a forecaster, whose features, window and dates of the parts are taken.
        features: Names of the feature columns instead.
        window: Rows of a window instead.
        split: How the dates are cut into parts, without a checkpoint.
        part: Part in which episodes lie, its last bar included; everything by default.
        start: First day of episodes, ISO.
        end: Day after the last one, ISO.
        observe: `window` and account, or `account` alone, for `EncoderObservation` to add embeddings.
        actions: `discrete`: the number of a position for each symbol. `continuous`: a weight for each symbol.
        positions: Positions to choose from, ascending, -1 to 1; continuous weights lie between first and last.
        delay: Bars between decision and trade, see `Rules`.
        fee_bp: Fee in basis points of what is traded, each side.
        slippage_bp: Half spread and slippage, likewise.
        reward: `return`, `log_return` or `differential_sharpe`, see `Rules`.
        episode_length: Steps of an episode, which then starts at random; the whole part by default.
        render_mode: `rgb_array`: `render` gives a plot of the episode so far; `gymnasium.wrappers.HumanRendering`
            shows it in a window.

    Attributes:
        digest: Of the checkpoint's weights, so that embeddings of another one are refused; null without one.

    Raises:
        ConfigError: E265..E268, an argument cannot be.
        DataError: E361, E362, or a defect of the prices.

    Example:
        >>> days = pd.bdate_range("2024-01-01", periods=90, tz="UTC")
        >>> prices = pd.DataFrame({"symbol": "A", "timestamp": days, "close": np.linspace(100, 110, 90)})
        >>> env = MarketEnv(prices, features=["log_return_1"], window=5)
        >>> observation, info = env.reset(seed=0)
        >>> observation["window"].shape, observation["account"].tolist(), float(info["equity"])
        ((5, 1), [0.0, 0.0], 1.0)
        >>> _, reward, terminated, truncated, info = env.step(2)  # long, from the next close on
        >>> reward, info["date"].astype(str)[:10]
        (0.0, '2024-01-09')
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(  # noqa: PLR0913 - each argument is a keyword of gymnasium.make
        self,
        prices: pd.DataFrame | str | Path,
        *,
        symbols: Sequence[str] | None = None,
        checkpoint: str | Path | None = None,
        features: Sequence[str] | None = None,
        window: int | None = None,
        split: Split | None = None,
        part: Part | None = None,
        start: str | None = None,
        end: str | None = None,
        observe: Observe = "window",
        actions: Kind = "discrete",
        positions: Sequence[float] = (-1.0, 0.0, 1.0),
        delay: int = 1,
        fee_bp: float = 5.0,
        slippage_bp: float = 5.0,
        reward: Reward = "return",
        episode_length: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode={render_mode!r}", "render_mode", "rgb_array or null", code=266)
        recipe, boundaries, self.digest = _known(checkpoint, features, window, split)
        rules = Rules(delay, fee_bp, slippage_bp, reward)
        bars = read_bars(prices, recipe, boundaries, part=part, symbols=symbols, between=(start, end))
        decisions = Decisions(actions, tuple(float(position) for position in positions), len(bars.symbols))
        self.episodes = Episodes(bars, rules, decisions, length=episode_length, observe=observe)
        self.observation_space: spaces.Dict = self.episodes.spaces()  # type: ignore[assignment]
        self.action_space = decisions.space
        self.render_mode = render_mode
        self._trail: list[tuple[int, NDArray[np.float64], float]] = []  # position, weights and equity of each date

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Starts an episode without a position.

        Args:
            seed: Seed of the random first date.
            options: `start`: first day of the episode, ISO, instead of a random one; the next possible date if there is
                none on that day.
        """
        super().reset(seed=seed)
        self.episodes.begin(0, self.np_random, start_of(options))
        self._trail = []
        return self._observation(), self._noted(resting(self.episodes))

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Decides, and goes on by one bar.

        Returns:
            Observation; reward; whether the stake is lost; whether the last date is reached; and the date that is
            seen now with the weights held over the bar, its gross and net return, turnover and cost, and the equity.
        """
        metrics, last = self.episodes.step(np.asarray([action]))
        info = self._noted(told(self.episodes, metrics))
        return self._observation(), float(metrics.reward[0]), bool(metrics.ruined[0]), bool(last[0]), info

    def render(self) -> NDArray[np.uint8] | None:
        """Price, position and equity since the start of the episode, (height, width, 3); null without a mode."""
        if self.render_mode is None or not self._trail:
            return None
        positions, weights, equity = zip(*self._trail, strict=True)
        bars, at, length = self.episodes.bars, list(positions), self.episodes.length
        last = bars.dates[bars.last[at[0]] if length is None else at[0] + length]
        dates, close = bars.dates[at], bars.close[at]
        return pixels(draw_episode(dates, close, np.stack(weights), np.array(equity), bars.symbols, last))

    def _noted(self, infos: Info) -> Info:
        """The information of the one episode; it is kept where a plot will be drawn of it."""
        info = {name: value[0] for name, value in infos.items()}
        if self.render_mode is not None:
            self._trail.append((int(self.episodes.position[0]), info["weights"].copy(), float(info["equity"])))
        return info

    def _observation(self) -> Observation:
        return {name: value[0] for name, value in self.episodes.observation().items()}


class MarketVectorEnv(VectorEnv[Observation, Any, NDArray[Any]]):
    """Many episodes of one market, stepped together in numpy; step by step equal to as many single environments.

    An episode that has ended starts anew at the next step, whose action is not used (`AutoresetMode.NEXT_STEP`).

    Args:
        market: The single environment; its bars are shared.
        num_envs: Number of episodes, n.
    """

    def __init__(self, market: MarketEnv, num_envs: int) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs={num_envs}", "num_envs", "give at least 1", code=266)
        one = market.episodes
        self.episodes = Episodes(one.bars, one.rules, one.decisions, num_envs, length=one.length, observe=one.observe)
        self.digest = market.digest
        self.num_envs = num_envs
        self.metadata = MarketEnv.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = market.observation_space, market.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Starts all episodes; a single seed is that of the first one, and the others count up from it."""
        seeds = [seed + number for number in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None or not self._generators:
            seeds = seeds or [None] * self.num_envs
            self._generators = [seeding.np_random(each)[0] for each in seeds]
        for number, generator in enumerate(self._generators):
            self.episodes.begin(number, generator, start_of(options))
        self._ended[:] = False
        return self.episodes.observation(), resting(self.episodes)

    def step(self, actions: Any) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """Decides for all episodes; those that have ended before start anew instead."""
        anew = self._ended
        taken = np.array(actions)
        taken[anew] = 0  # theirs may be anything
        metrics, last = self.episodes.step(taken)
        info = told(self.episodes, metrics)
        reward, ruined, last = metrics.reward.copy(), metrics.ruined & ~anew, last & ~anew
        if anew.any():
            for number in np.flatnonzero(anew).tolist():
                self.episodes.begin(number, self._generators[number])
            reward[anew] = 0.0
            for name, value in resting(self.episodes).items():
                info[name][anew] = value[anew]
        self._ended = ruined | last
        return self.episodes.observation(), reward, ruined, last, info


def vector_markets(num_envs: int = 1, **arguments: Any) -> MarketVectorEnv:
    """`MarketVectorEnv` of the arguments of `MarketEnv`; the entry point of `gymnasium.make_vec`."""
    return MarketVectorEnv(MarketEnv(**arguments), num_envs)


def _known(
    checkpoint: str | Path | None, features: Sequence[str] | None, window: int | None, split: Split | None
) -> tuple[Recipe, Boundaries | Split | None, str | None]:
    """Recipe, parts and digest of a checkpoint, or what is given instead."""
    if checkpoint is None:
        return own_recipe(features, WINDOW if window is None else window), split, None
    if features is not None or window is not None or split is not None:
        raise ConfigError("features, window or split beside a checkpoint", fix="it knows its own", code=266)
    return contract_of(checkpoint)


def start_of(options: dict[str, Any] | None) -> str | None:
    """The first day that the options of `reset` name."""
    unknown = set(options or {}) - {"start"}
    if unknown:
        raise ConfigError(f"unknown options {sorted(unknown)}", "reset", "only start is known", code=268)
    return (options or {}).get("start")


def resting(episodes: Episodes) -> Info:
    """Information at the start of episodes, each (n,) but `weights`, (n, S)."""
    zero = np.zeros(len(episodes.position))
    none = np.zeros_like(episodes.accounts.held, dtype=bool)
    return told(episodes, Metrics(np.zeros(none.shape), zero, zero, zero, zero, zero, none[:, 0]))


def told(episodes: Episodes, metrics: Metrics) -> Info:
    """Information after a bar, each (n,) but `weights`, (n, S)."""
    return {
        "date": episodes.bars.dates[episodes.position],
        "weights": metrics.weights,
        "gross_return": metrics.gross.copy(),
        "net_return": metrics.net.copy(),
        "turnover": metrics.turnover.copy(),
        "cost": metrics.cost.copy(),
        "equity": episodes.accounts.equity.copy(),
    }
