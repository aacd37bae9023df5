"""`cnn-lstm rl train`: one agent a seed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.commands.rl_job import Job, job_of, job_parser, parsed
from cnn_lstm.commands.rl_record import TrackedFigures, keep, recorded
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_text_whole
from cnn_lstm.rl.agents import agent_file, learn, make_agent
from cnn_lstm.training.runs import require_writable


def run(words: list[str]) -> None:
    """Trains the agents of all seeds that are not there yet.

    Args:
        words: Arguments of `rl train`.
    """
    config = parsed(job_parser(), [re.sub(r"^--algo(?=$|=)", "--agent.algo", word) for word in words])
    config.name = config.name or f"{config.agent.algo}-{time.strftime('%Y%m%d-%H%M%S')}"
    job = job_of(config)
    folder = job.home.path / "rl" / config.name
    resumed = (folder / "config.yaml").exists()
    if resumed:
        _require_same(job, folder)
    env = job.env(job.market.part, job.market.episode_length)
    job.require_unseen(env)
    make_agent(job.learner, env, 0)  # what the algorithm refuses is told before anything is written
    require_writable(folder)
    named = {"ckpt_path": str(job.checkpoint.resolve()), "ckpt_digest": job.digest, "name": config.name}
    text = yaml.safe_dump(named | _settings(job), sort_keys=False)
    if not resumed:
        write_text_whole(folder / "config.yaml", text)
    missing = [seed for seed in job.agent.seeds if not agent_file(folder, seed).is_file()]
    print(f"training {len(missing)} of {len(job.agent.seeds)} seeds; if cut short, go on with --name {config.name}")
    if missing:
        with recorded(job.home, folder, text, "fit", resumed) as tracker:
            for seed in missing:
                writers = [] if tracker is None else [TrackedFigures(tracker, seed)]
                keep(tracker, {}, learn(job.learner, env, seed, folder, writers))
    print(f"agents: {folder}\nevaluate them: cnn-lstm rl evaluate {_shown(folder)}")


def _settings(job: Job) -> dict[str, Any]:
    return {"market": asdict(job.market), "agent": asdict(job.agent)}


def _require_same(job: Job, folder: Path) -> None:
    """Refuses to go on in a folder of agents that were told something else."""
    saved = parsed(job_parser(), ["--config", str(folder / "config.yaml")])
    there = {"market": asdict(saved.market), "agent": asdict(saved.agent)}
    differing = [] if saved.ckpt_digest == job.digest else ["checkpoint"]
    differing += list(_differences(there, _settings(job)))
    if differing:
        raise ConfigError(
            f"the folder holds agents already, with another {', '.join(differing)}",
            str(folder),
            "choose another --name, or the settings of its config.yaml to go on",
            code=273,
        )


def _differences(saved: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Names of settings that are not the same, but for how the training is shown."""
    for section, values in asked.items():
        for name, value in values.items():
            if name != "progress_bar" and saved[section][name] != value:
                yield f"{section}.{name}"


def _shown(folder: Path) -> Path:
    """A path as short as it can be typed here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
