"""Many episodes of one `MarketEnv`, stepped together in numpy.

Shapes: n episodes, S symbols, T window length, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.episodes import Episodes, Info, Observation, first_day
from cnn_lstm.rl.market import MarketEnv


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
