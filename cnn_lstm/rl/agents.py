"""Agents of Stable-Baselines3 in our markets: how they are made, learn, are kept and play."""

from __future__ import annotations

import copy
import inspect
import io
import shutil
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cnn_lstm.errors import CnnLstmError, ConfigError
from cnn_lstm.files import write_whole
from cnn_lstm.hints import one_of
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from cnn_lstm.rl.judging import bars_played
from cnn_lstm.rl.market import MarketEnv
from cnn_lstm.rl.settings import AgentSettings, MarketSettings

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "a2c": A2C, "sac": SAC, "td3": TD3, "dqn": DQN}
ACTIONS = "ppo and a2c act in all markets, sac and td3 with continuous actions, dqn with discrete ones of one symbol"
# arguments of theirs that are ours to give
OURS = {"self", "policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}


def with_encoder(agent: AgentSettings, market: MarketSettings, checkpoint: Path) -> AgentSettings:
    """Settings whose policy reads windows by the checkpoint's encoder, where they say so.

    Args:
        agent: The agent's.
        market: The market's.
        checkpoint: The forecaster's.
    """
    if market.see != "window" or agent.encoder is None:
        return agent
    policy = {
        **agent.arguments.get("policy_kwargs", {}),
        "features_extractor_class": CNNLSTMExtractor,
        "features_extractor_kwargs": {"checkpoint": str(checkpoint), **asdict(agent.encoder)},
    }
    return replace(agent, arguments={**agent.arguments, "policy_kwargs": policy})


def require_device(name: str) -> None:
    """Refuses a device that is not there, where Stable-Baselines3 would take the CPU without a word.

    Args:
        name: Of PyTorch's, or auto.

    Raises:
        ConfigError: E238.
    """
    try:
        torch.zeros(1, device="cpu" if name == "auto" else name).item()
    except (AssertionError, RuntimeError) as error:
        fix = "choose cpu, or a device that is there"
        raise ConfigError(f"no device {name} here", "agent.device", fix, code=238) from error


def make_agent(settings: AgentSettings, env: VecEnv | gymnasium.Env[Any, Any], seed: int) -> BaseAlgorithm:
    """An agent that has learnt nothing yet.

    Args:
        settings: The agent's.
        env: Its environment.
        seed: Seed of its weights, actions and episodes.

    Raises:
        ConfigError: E271, if the algorithm has no such argument, or cannot act in this market.
    """
    algorithm = ALGORITHMS[settings.algo]
    known = set(inspect.signature(algorithm.__init__).parameters) - OURS
    for name in settings.arguments:
        if name not in known:
            what = f"{settings.algo} has no argument {name}"
            raise ConfigError(what, "agent.arguments", one_of(name, sorted(known)), code=271)
    try:
        # a copy: some write into what they are given
        return algorithm(settings.policy, env, seed=seed, device=settings.device, **copy.deepcopy(settings.arguments))
    except CnnLstmError:
        raise
    except (AssertionError, AttributeError, TypeError, ValueError) as error:  # what theirs say of actions and values
        reason = " ".join(str(error).split())
        fix = ACTIONS if "action space" in reason else "correct the value"
        raise ConfigError(f"{settings.algo} refuses this: {reason}", "agent", fix, code=271) from error


def learn(
    settings: AgentSettings, env: gymnasium.Env[Any, Any], seed: int, folder: Path, writers: Sequence[KVWriter] = ()
) -> Path:
    """Trains the agent of a seed.

    Args:
        settings: The agent's.
        env: One environment; each of the `n_envs` is a copy.
        seed: The seed.
        folder: Where agent_seedN.zip is written, and logs/seedN with progress.csv and TensorBoard's events.
        writers: What else takes the metrics that are logged.

    Returns:
        The agent's file.
    """
    envs = DummyVecEnv([lambda: Monitor(copy.deepcopy(env)) for _ in range(settings.n_envs)])
    agent = make_agent(settings, envs, seed)
    # theirs gives environment i of seed s the seed s + i, so that neighbours would see the same episodes
    envs.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    logs = folder / "logs" / f"seed{seed}"
    shutil.rmtree(logs, ignore_errors=True)  # of a training that was cut short
    logger = configure(str(logs), ["csv", "tensorboard"])
    logger.output_formats.extend(writers)
    agent.set_logger(logger)
    agent.learn(settings.steps, progress_bar=_shows_bar(settings))
    logger.close()
    file = agent_file(folder, seed)
    write_whole(file, agent.save)
    latest = [episode["r"] for episode in agent.ep_info_buffer or ()]
    reward = f"{np.mean(latest):.4f}" if latest else "-"
    print(f"seed {seed}: {agent.num_timesteps:,} steps, mean reward of the latest {len(latest)} episodes {reward}")
    return file


def _shows_bar(settings: AgentSettings) -> bool:
    """Their bar overwrites its line, and rich draws it."""
    return settings.progress_bar and sys.stdout.isatty() and find_spec("rich") is not None


def agent_file(folder: Path, seed: int) -> Path:
    """Where the agent of a seed is saved."""
    return folder / f"agent_seed{seed}.zip"


def blank_agent(settings: AgentSettings, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
    """An agent to be looked at, or filled with weights; in a single environment it is not to be trained.

    Args:
        settings: The agent's.
        env: Its environment.

    Raises:
        ConfigError: E271, see `make_agent`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mini-batch size.*")  # a rollout of one environment is shorter
        return make_agent(settings, env, 0)


def load_agent(file: Path, settings: AgentSettings, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
    """An agent that has learnt, from the weights in its file alone: what else lies in the zip is pickled.

    Args:
        file: See `agent_file`.
        settings: The agent's, see `with_encoder`.
        env: Where it acts.

    Raises:
        ConfigError: E273, if the file is damaged, or of another agent.
    """
    agent = blank_agent(settings, env)
    try:
        with zipfile.ZipFile(file) as archive:
            content = io.BytesIO(archive.read("policy.pth"))
        agent.policy.load_state_dict(torch.load(content, map_location=agent.device, weights_only=True))
    except Exception as error:  # zip and torch stumble over damage in any way
        raise ConfigError(
            "the agent is damaged",
            f"{file}: {type(error).__name__}",
            "remove the file, and go on with rl train --resume --folder: it makes a new one",
            code=273,
        ) from error
    return agent


def play_agent(env: gymnasium.Env[Any, Any], agent: BaseAlgorithm) -> pd.DataFrame:
    """Bars of an agent that acts without exploring, see `bars_played`.

    Args:
        env: See `make_market`.
        agent: The agent.
    """
    market: MarketEnv = env.unwrapped  # type: ignore[assignment]  # Gymnasium's is any environment
    lines, dates = [], []
    for first in market.episodes.stretches():
        seen, info = env.reset(options={"start": first})
        done = False
        while not done:
            dates.append(info["date"])
            seen, _, terminated, truncated, info = env.step(agent.predict(seen, deterministic=True)[0])
            lines.append([info["gross_return"], info["turnover"], info["net_return"], info["weights"]])
            done = terminated or truncated
    return bars_played(dates, lines)
