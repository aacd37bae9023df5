"""Training of agents: one agent per seed, all in one folder; a later call trains the seeds that are missing in it."""

from __future__ import annotations

import copy
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from cnn_lstm.bounded import with_digest
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_text_whole, write_whole
from cnn_lstm.hints import counted
from cnn_lstm.locks import take_folder
from cnn_lstm.model.devices import require_device
from cnn_lstm.rl.agents import agent_file, blank_agent, make_agent
from cnn_lstm.rl.job import Job, JobConfig, job_of, saved_config
from cnn_lstm.rl.market import market_of
from cnn_lstm.rl.record import TrackedMetrics, recorded
from cnn_lstm.rl.settings import AgentSettings
from cnn_lstm.training.run_folder import unused_folder

MAX_NAME = 100  # letters; file systems allow 255 bytes


def train(config: JobConfig, resume: bool = False) -> Path:
    """Trains the agents of all seeds that are not there yet.

    Args:
        config: The configuration.
        resume: Whether to go on in the folder, with the seeds that are missing.

    Returns:
        The folder of the agents, RUN/rl/NAME.

    Raises:
        ConfigError: E270, E271 or E273, if a setting is impossible, or the folder holds agents of other settings; E243,
            if another command writes there.
        CheckpointError: If the checkpoint cannot be read.
    """
    name = config.folder
    if name and (name in (".", "..") or "/" in name or "\\" in name or len(name) > MAX_NAME):
        raise ConfigError(f"{name!r} is not the name of a folder", "--folder", "give a word, such as ppo", code=273)
    if config.agent.device != "auto":  # else Stable-Baselines3 would take the CPU without a word
        require_device(config.agent.device, "agent.device")
    job = job_of(config)
    home, market = job.home.path / "rl", job.config.market
    _require_folder(home / (name or ""), resume)
    if resume:
        _require_same(job.config, home / str(name))
    env = job.checked_env(market.part, market.episode_length)
    blank_agent(job.learner, env)  # what the algorithm refuses is reported before anything is written
    folder = home / name if name else unused_folder(home / f"{config.agent.algo}-{time.strftime('%Y%m%d-%H%M%S')}")
    with take_folder(folder, "rl train", "agents", "--folder"):
        _require_folder(folder, resume)  # nobody has begun there meanwhile
        job = replace(job, config=replace(job.config, folder=folder.name))
        if not resume:
            write_text_whole(folder / "config.yaml", with_digest(job.config.to_yaml(folder)))
        _train_missing(job, env, folder, resume)
    return folder


def _require_folder(folder: Path, resume: bool) -> None:
    """Refuses to begin where agents are, and to go on where there are none."""
    begun = (folder / "config.yaml").exists()
    if begun and not resume:
        raise ConfigError("the folder holds agents", str(folder), "pass --resume to go on with them", code=245)
    if resume and not begun:
        fix = "give the --folder of some, or leave --resume out"
        raise ConfigError("no agents to go on with", str(folder), fix, code=246)


def _train_missing(job: Job, env: gymnasium.Env[Any, Any], folder: Path, resumed: bool) -> None:
    """Trains the agents that have no file yet, and records their training in MLflow."""
    wanted, name = job.config.agent.seeds, job.config.folder
    seeds = [seed for seed in wanted if not agent_file(folder, seed).is_file()]
    if left_out := market_of(env).episodes.left_out:
        print(f"dates of the {job.config.market.part} part without a forecast of every symbol, left out: {left_out:,}")
    print(f"training {len(seeds)} of {counted(len(wanted), 'seed')}; if cut short, go on with --resume --folder {name}")
    if seeds:
        with recorded(job.home, folder, job.config.to_yaml(folder), "fit", resumed) as record:
            for seed in seeds:
                record.keep(learn(job.learner, env, seed, folder, [TrackedMetrics(record, seed)]))


def learn(
    settings: AgentSettings,
    env: gymnasium.Env[Any, Any],
    seed: int,
    folder: Path,
    writers: Sequence[KVWriter] = (),
    callback: BaseCallback | None = None,
) -> Path:
    """Trains the agent of a seed.

    Args:
        settings: Settings of the agent, see `Job.learner`.
        env: One environment; each of the `n_envs` is a copy.
        seed: The seed.
        folder: Where agent_seedN.zip is written, and logs/seedN with progress.csv and TensorBoard's events.
        writers: Further writers of the logged metrics.
        callback: Looks on while the agent learns, and may end that.

    Returns:
        The file of the agent.
    """
    envs = DummyVecEnv([lambda: Monitor(copy.deepcopy(env)) for _ in range(settings.n_envs)])
    agent = make_agent(settings, envs, seed)
    # Stable-Baselines3 gives environment i of seed s the seed s + i, so neighbouring seeds would share episodes
    envs.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    logs = folder / "logs" / f"seed{seed}"
    shutil.rmtree(logs, ignore_errors=True)  # of a training that was cut short
    logger = configure(str(logs), ["csv", "tensorboard"])
    logger.output_formats.extend(writers)
    agent.set_logger(logger)
    # the bar overwrites its line, which only a terminal can show, and rich draws it
    bar = settings.progress_bar and sys.stdout.isatty() and find_spec("rich") is not None
    agent.learn(settings.steps, callback=callback, progress_bar=bar)
    logger.close()
    file = agent_file(folder, seed)
    write_whole(file, agent.save)
    latest = [episode["r"] for episode in agent.ep_info_buffer or ()]
    reward = f"{np.mean(latest):.4f}" if latest else "-"
    of, steps = counted(len(latest), "episode"), counted(agent.num_timesteps, "step")
    print(f"seed {seed}: {steps}, mean reward of the latest {of} {reward}")
    return file


def _require_same(config: JobConfig, folder: Path) -> None:
    """Refuses to go on in a folder whose agents have other settings, other than how their training is displayed."""
    before = saved_config(folder, "rl train")
    differing = [] if before.ckpt_digest == config.ckpt_digest else ["checkpoint"]
    differing += [] if before.forecasts_digest == config.forecasts_digest else ["file of forecasts"]
    for section in ("market", "agent"):
        there, asked = asdict(getattr(before, section)), asdict(getattr(config, section))
        differing += [f"{section}.{key}" for key in asked if key != "progress_bar" and there[key] != asked[key]]
    if differing:
        what = f"the folder holds agents already, with another {', '.join(differing)}"
        fix = "choose another --folder, or the settings of its config.yaml to go on"
        raise ConfigError(what, str(folder), fix, code=273)
