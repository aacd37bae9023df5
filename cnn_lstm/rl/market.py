"""`cnn_lstm/MarketEnv-v0`: trading a price table as a Gymnasium environment, one episode or many at once.

A step in words: at the close of date t the agent sees the feature window that ends at t and what it holds, and decides
the positions that it wants. They are taken at the close of t + delay. The step then moves on to t + 1 and brings what
the positions in force earned on the bar between, less the costs of what was traded at its start. So nothing that a
step returns depends on a price after the date that its observation shows. Shapes: n episodes, S symbols, T window
length, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.splits import Split
from cnn_lstm.errors import ConfigError
from cnn_lstm.inference.given_tables import Facts, GivenTables, Statics
from cnn_lstm.rl.accounts import ActionKind, Decisions, Reward, TradingTerms
from cnn_lstm.rl.episodes import Episodes, Info, Observation, Observe, first_day
from cnn_lstm.rl.market_data import Part, read_market_data, recipe_of
from cnn_lstm.rl.plots import draw_episode, pixels

NAME = "cnn_lstm/MarketEnv-v0"


class MarketEnv(gymnasium.Env[Observation, Any]):
    """A market to trade in, one symbol or a portfolio.

    Args:
        prices: Long price table with symbol and timestamp, or a file or pattern of files that hold one.
        symbols: Symbols to trade, on the dates that they have in common, or a single symbol; all by default.
        checkpoint: Checkpoint of a forecaster, whose features, window and dates of the parts are used.
        features: Names of the feature columns, in place of a checkpoint.
        window: Rows of a window, T, in place of a checkpoint.
        split: How the dates are cut into parts, in place of a checkpoint.
        calendar_zone: Zone of the features of the calendar, for example America/New_York, in place of a checkpoint; UTC
            by default. Only for bars within the day.
        known_future: Facts known ahead, if the checkpoint reads any: a file, a frame or `KnownFuture`. A date whose
            interval they do not reach is not part of an episode.
        static: Static columns, if the checkpoint reads any: a file, a frame or `StaticColumns`.
        part: Part in which episodes lie, including its last bar; all dates by default.
        start: First day of episodes, ISO.
        end: Day after the last one, ISO.
        observe: `window` and account, or `account` alone, for `EncoderObservation` to add embeddings.
        actions: `discrete`: the number of a position for each symbol. `continuous`: a weight for each symbol.
        positions: Positions to choose from, ascending, -1 to 1; continuous weights lie between the first and the last.
        delay: Bars between decision and trade, see `TradingTerms`.
        fee_bp: Fee in basis points of what is traded, per side.
        slippage_bp: Half spread and slippage in basis points of what is traded, per side.
        reward: `return`, `log_return` or `differential_sharpe`, see `TradingTerms`.
        episode_length: Steps of an episode, which then starts at a random date; the whole part by default.
        render_mode: `rgb_array`: `render` returns a plot of the episode so far; `gymnasium.wrappers.HumanRendering`
            shows it in a window.

    Attributes:
        digest: Digest of the checkpoint's weights, so that embeddings of another checkpoint are refused; None without
            a checkpoint.

    Raises:
        ConfigError: E210, E265 to E268 or E278, if an argument is impossible.
        CheckpointError: E429, if the checkpoint needs a table next to the prices and gets none.
        DataError: E361, E362, or a defect of the prices or of a table.

    Example:
        >>> import pandas as pd
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
        prices: Frame | str | Path,
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
        actions: ActionKind = "discrete",
        positions: Sequence[float] = (-1.0, 0.0, 1.0),
        delay: int = 1,
        fee_bp: float = 5.0,
        slippage_bp: float = 5.0,
        reward: Reward = "return",
        episode_length: int | None = None,
        render_mode: str | None = None,
        calendar_zone: str | None = None,
        known_future: Facts | None = None,
        static: Statics | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode={render_mode!r}", "render_mode", "give rgb_array or None", code=266)
        tables = GivenTables(known_future, static, open_end=True)
        recipe, boundaries, self.digest = recipe_of(checkpoint, features, window, split, calendar_zone, tables)
        terms = TradingTerms(delay, fee_bp, slippage_bp, reward)
        data = read_market_data(prices, recipe, boundaries, part=part, symbols=symbols, between=(start, end))
        decisions = Decisions(actions, tuple(float(position) for position in positions), len(data.symbols))
        self.episodes = Episodes(data, terms, decisions, length=episode_length, observe=observe)
        # Gymnasium declares any space
        self.observation_space: spaces.Dict = self.episodes.spaces()  # type: ignore[assignment]
        self.action_space = decisions.space
        self.render_mode = render_mode
        self._trail: list[tuple[int, NDArray[np.float64], float]] = []  # position, weights and equity of each date

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Starts an episode without a position.

        Args:
            seed: Seed of the random first date.
            options: `start`: first day of the episode, ISO, in place of a random one; the next possible date if that
                day is not one.
        """
        super().reset(seed=seed)
        self.episodes.begin(0, self.np_random, first_day(options))
        self._trail = []
        return self._observation(), self._single_info(self.episodes.info())

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Decides, and moves on by one bar.

        Args:
            action: See `actions` of the class; a number, or (S,).

        Returns:
            Observation; reward; whether the stake is lost; whether the last date is reached; and the date that is
            seen now with the weights held over the bar, (S,), its gross and net return, turnover and cost, and the
            equity.
        """
        result, last = self.episodes.step(np.asarray([action]))
        info = self._single_info(self.episodes.info(result))
        return self._observation(), float(result.reward[0]), bool(result.ruined[0]), bool(last[0]), info

    def render(self) -> NDArray[np.uint8] | None:
        """A plot of price, position and equity since the start of the episode, (height, width, 3).

        None without a render mode, or before the first `reset`.
        """
        if self.render_mode is None or not self._trail:
            return None
        positions, weights, equity = zip(*self._trail, strict=True)
        data, at, length = self.episodes.data, list(positions), self.episodes.length
        last = data.dates[data.last[at[0]] if length is None else at[0] + length]
        dates, close = data.dates[at], data.close[at]
        return pixels(draw_episode(dates, close, np.stack(weights), np.array(equity), data.symbols, last))

    def _single_info(self, infos: Info) -> Info:
        """The info of the one episode; it is kept if a plot can be drawn of it."""
        info = {name: value[0] for name, value in infos.items()}
        if self.render_mode is not None:
            self._trail.append((int(self.episodes.position[0]), info["weights"].copy(), float(info["equity"])))
        return info

    def _observation(self) -> Observation:
        return {name: value[0] for name, value in self.episodes.observation().items()}


class MarketVectorEnv(VectorEnv[Observation, Any, NDArray[Any]]):
    """Many episodes of one market; step by step equal to as many single environments.

    An episode that has ended is started again at the next step, whose action is not used (`AutoresetMode.NEXT_STEP`).

    Args:
        market: The single environment; its data are shared.
        num_envs: Number of episodes, n.

    Raises:
        ConfigError: E266, if there is not at least one episode.
    """

    def __init__(self, market: MarketEnv, num_envs: int) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs={num_envs}", "num_envs", "give at least 1", code=266)
        one = market.episodes
        self.episodes = Episodes(one.data, one.terms, one.decisions, num_envs, length=one.length, observe=one.observe)
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
        """Starts all episodes.

        Args:
            seed: One seed per episode; a single number is the seed of the first one, and the others count up from it.
            options: See `MarketEnv.reset`.
        """
        seeds = [seed + number for number in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None or not self._generators:
            seeds = seeds or [None] * self.num_envs
            self._generators = [seeding.np_random(each)[0] for each in seeds]
        for number, generator in enumerate(self._generators):
            self.episodes.begin(number, generator, first_day(options))
        self._ended[:] = False
        return self.episodes.observation(), self.episodes.info()

    def step(self, actions: Any) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """Decides for all episodes; those that have ended before are started again instead.

        Args:
            actions: Actions, (n,) or (n, S).

        Returns:
            As of `MarketEnv.step`, with n values each.
        """
        restarted = self._ended
        taken = np.array(actions)
        taken[restarted] = 0  # the action of an ended episode may be anything
        result, last = self.episodes.step(taken)
        info = self.episodes.info(result)
        reward, ruined, last = result.reward.copy(), result.ruined & ~restarted, last & ~restarted
        if restarted.any():
            for number in np.flatnonzero(restarted).tolist():
                self.episodes.begin(number, self._generators[number])
            reward[restarted] = 0.0
            for name, value in self.episodes.info().items():
                info[name][restarted] = value[restarted]
        self._ended = ruined | last
        return self.episodes.observation(), reward, ruined, last, info


def vector_markets(num_envs: int = 1, **arguments: Any) -> MarketVectorEnv:
    """`MarketVectorEnv` of the arguments of `MarketEnv`; the entry point of `gymnasium.make_vec`."""
    return MarketVectorEnv(MarketEnv(**arguments), num_envs)


def market_of(env: gymnasium.Env[Any, Any]) -> MarketEnv:
    """The market inside an environment.

    Args:
        env: A `MarketEnv`, or wrappers around one.

    Raises:
        ConfigError: E269, if there is no `MarketEnv` inside.
    """
    market = env.unwrapped
    if not isinstance(market, MarketEnv):
        what = f"{type(market).__name__} is not a MarketEnv"
        raise ConfigError(what, "the environment", "wrap a MarketEnv", code=269)
    return market
