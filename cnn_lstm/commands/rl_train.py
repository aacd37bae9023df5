"""`cnn-lstm rl train`: one agent a seed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_text_whole
from cnn_lstm.rl.agents import agent_file, blank_agent, learn, require_device
from cnn_lstm.rl.job import Job, job_of, parsed, saved
from cnn_lstm.rl.record import TrackedMetrics, recorded
from cnn_lstm.training.run_folder import require_writable

MAX_NAME = 100


def run(words: list[str]) -> None:
    """Trains the agents of all seeds that are not there yet.

    Args:
        words: Arguments of `rl train`.
    """
    config = parsed([re.sub(r"^--algo(?=$|=)", "--agent.algo", word) for word in words])
    config.name = config.name or f"{config.agent.algo}-{time.strftime('%Y%m%d-%H%M%S')}"
    _require_name(config.name)
    require_device(config.agent.device)
    job = job_of(config)
    folder = job.home.path / "rl" / config.name
    resumed = (folder / "config.yaml").exists()
    if resumed:
        _require_same(job, folder)
    env = job.unseen_env(job.market.part, job.market.episode_length)
    blank_agent(job.learner, env)  # what the algorithm refuses is told before anything is written
    require_writable(folder)
    # as seen from the agents' folder, so that a run can be moved
    checkpoint = os.path.relpath(job.checkpoint.resolve(), folder.resolve())
    named = {"ckpt_path": checkpoint, "ckpt_digest": job.digest, "forecasts_digest": job.forecasts, "name": config.name}
    text = yaml.safe_dump(named | _settings(job), sort_keys=False)
    if not resumed:
        write_text_whole(folder / "config.yaml", text)
    missing = [seed for seed in job.agent.seeds if not agent_file(folder, seed).is_file()]
    print(f"training {len(missing)} of {len(job.agent.seeds)} seeds; if cut short, go on with --name {config.name}")
    if missing:
        with recorded(job.home, folder, text, "fit", resumed) as record:
            for seed in missing:
                record.keep(learn(job.learner, env, seed, folder, [TrackedMetrics(record, seed)]))
    print(f"agents: {folder}\nevaluate them: cnn-lstm rl evaluate {_shown(folder)}")


def _require_name(name: str) -> None:
    """Refuses a name that leads out of RUN/rl."""
    if name in (".", "..") or "/" in name or "\\" in name or len(name) > MAX_NAME:
        raise ConfigError(f"{name!r} is no name of a folder", "--name", "give a word, such as ppo", code=273)


def _settings(job: Job) -> dict[str, Any]:
    return {"market": asdict(job.market), "agent": asdict(job.agent)}


def _require_same(job: Job, folder: Path) -> None:
    """Refuses to go on in a folder of agents that were told something else."""
    before = saved(folder, "rl train")
    there = {"market": asdict(before.market), "agent": asdict(before.agent)}
    differing = [] if before.ckpt_digest == job.digest else ["checkpoint"]
    differing += [] if before.forecasts_digest == job.forecasts else ["file of forecasts"]
    differing += list(_differences(there, _settings(job)))
    if differing:
        raise ConfigError(
            f"the folder holds agents already, with another {', '.join(differing)}",
            str(folder),
            "choose another --name, or the settings of its config.yaml to go on",
            code=273,
        )


def _differences(before: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Names of settings that are not the same, but for how the training is shown."""
    for section, values in asked.items():
        for name, value in values.items():
            if name != "progress_bar" and before[section][name] != value:
                yield f"{section}.{name}"


def _shown(folder: Path) -> Path:
    """A path as short as it can be typed here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
