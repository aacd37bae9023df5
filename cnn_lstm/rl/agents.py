"""Agents of Stable-Baselines3 in our markets: how they are made, saved, loaded and played."""

from __future__ import annotations

import copy
import inspect
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from cnn_lstm.bounded import require_stored
from cnn_lstm.errors import CnnLstmError, ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.rl.market import market_of
from cnn_lstm.rl.settings import AgentSettings, Algorithm
from cnn_lstm.rl.track_records import Line, track_record

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "a2c": A2C, "sac": SAC, "td3": TD3, "dqn": DQN}
ACTIONS = "ppo and a2c act in all markets, sac and td3 with continuous actions, dqn with discrete ones of one symbol"
# arguments of the algorithms that have a setting of their own, or that we give
RESERVED = {"self", "policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}


def make_agent(settings: AgentSettings, env: VecEnv | gymnasium.Env[Any, Any], seed: int) -> BaseAlgorithm:
    """An agent that has learnt nothing yet.

    Args:
        settings: Settings of the agent.
        env: Its environment.
        seed: Seed of its weights, actions and episodes.

    Raises:
        ConfigError: E271, if the algorithm has no such argument, refuses a value, or cannot act in this market.
    """
    require_arguments(settings)
    algorithm = ALGORITHMS[settings.algo]
    try:
        # a copy, since some algorithms write into their arguments
        return algorithm(settings.policy, env, seed=seed, device=settings.device, **copy.deepcopy(settings.arguments))
    except CnnLstmError:
        raise
    except (AssertionError, AttributeError, TypeError, ValueError) as error:  # how they refuse actions and values
        reason = " ".join(str(error).split())
        fix = ACTIONS if "action space" in reason else "correct the value"
        raise ConfigError(f"{settings.algo} refuses this: {reason}", "agent", fix, code=271) from error


def require_arguments(settings: AgentSettings) -> None:
    """Refuses arguments that the algorithm does not have.

    Args:
        settings: Settings of the agent.

    Raises:
        ConfigError: E271, with the nearest name.
    """
    known = set(inspect.signature(ALGORITHMS[settings.algo].__init__).parameters) - RESERVED
    for name in settings.arguments:
        if name not in known:
            what = f"{settings.algo} has no argument {name}"
            raise ConfigError(what, "agent.arguments", one_of(name, sorted(known)), code=271)


def argument_defaults(algo: Algorithm) -> dict[str, Any]:
    """The arguments that an algorithm has where nobody says anything.

    Args:
        algo: Its name.

    Example:
        >>> argument_defaults("ppo")["gamma"]
        0.99
    """
    parameters = inspect.signature(ALGORITHMS[algo].__init__).parameters
    return {name: each.default for name, each in parameters.items() if name not in RESERVED}


def blank_agent(settings: AgentSettings, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
    """An agent to check the settings with, or to fill with weights; it is not meant to be trained.

    Args:
        settings: Settings of the agent.
        env: A single environment.

    Raises:
        ConfigError: E271, see `make_agent`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mini-batch size.*")  # a rollout of one environment is shorter
        return make_agent(settings, env, 0)


def agent_file(folder: Path, seed: int) -> Path:
    """Where the agent of a seed is saved."""
    return folder / f"agent_seed{seed}.zip"


def load_agent(file: Path, settings: AgentSettings, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
    """A trained agent, from the weights in its file alone: the rest of the zip is pickled, and is not read.

    Args:
        file: File of the agent, see `agent_file`.
        settings: Settings of the agent, with the encoder in its policy, see `Job.learner`.
        env: Environment in which it acts.

    Raises:
        ConfigError: E273, if the file is damaged, or of another agent.
    """
    agent = blank_agent(settings, env)
    try:
        with zipfile.ZipFile(file) as archive:
            require_stored(archive, file.stat().st_size)
            content = io.BytesIO(archive.read("policy.pth"))
        with zipfile.ZipFile(content) as weights:
            require_stored(weights, content.getbuffer().nbytes)
        content.seek(0)
        agent.policy.load_state_dict(torch.load(content, map_location=agent.device, weights_only=True))
    except Exception as error:  # zipfile and torch raise many types for damaged files
        fix = "remove the file, and go on with rl train --resume --folder: it makes a new one"
        raise ConfigError("the agent is damaged", f"{file}: {type(error).__name__}", fix, code=273) from error
    return agent


def play_agent(env: gymnasium.Env[Any, Any], agent: BaseAlgorithm) -> pd.DataFrame:
    """The track record of an agent that acts without exploring, over all stretches of its market.

    Args:
        env: A `MarketEnv`, or wrappers around one.
        agent: The agent.
    """
    dates: list[np.datetime64] = []
    lines: list[Line] = []
    for first in market_of(env).episodes.stretches():
        observation, info = env.reset(options={"start": first})
        done = False
        while not done:
            dates.append(info["date"])
            action = agent.predict(observation, deterministic=True)[0]
            observation, _, terminated, truncated, info = env.step(action)
            lines.append((info["gross_return"], info["turnover"], info["net_return"], info["weights"]))
            done = terminated or truncated
    return track_record(dates, lines)
