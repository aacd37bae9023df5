"""`cnn-lstm rl train`: one agent a seed."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path

import yaml

from cnn_lstm.commands.rl_job import job_of, job_parser, parsed
from cnn_lstm.commands.rl_record import TrackedFigures, keep, recorded
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_text_whole
from cnn_lstm.rl.agents import learn, make_agent, require_unseen
from cnn_lstm.training.runs import require_writable


def run(words: list[str]) -> None:
    """Trains the agents of all seeds.

    Args:
        words: Arguments of `rl train`.
    """
    config = parsed(job_parser(), [re.sub(r"^--algo(?=$|=)", "--agent.algo", word) for word in words])
    config.name = config.name or f"{config.agent.algo}-{time.strftime('%Y%m%d-%H%M%S')}"
    job = job_of(config)
    folder = job.home.path / "rl" / config.name
    if (folder / "config.yaml").exists():
        raise ConfigError("the folder holds agents already", str(folder), "choose another --name", code=273)
    env = job.env(job.market.part, job.market.episode_length)
    require_unseen(env, job.shown, job.market)
    make_agent(job.agent, env, 0)  # what the algorithm refuses is told before anything is written
    require_writable(folder)
    settings = {"market": asdict(job.market), "agent": asdict(job.agent)}
    named = {"ckpt_path": str(job.checkpoint.resolve()), "name": config.name}
    text = yaml.safe_dump(named | settings, sort_keys=False)
    write_text_whole(folder / "config.yaml", text)
    with recorded(job.home, folder, text, "fit") as tracker:
        for seed in job.agent.seeds:
            writers = [] if tracker is None else [TrackedFigures(tracker, seed)]
            keep(tracker, {}, learn(job.agent, env, seed, folder, writers))
    print(f"agents: {folder}\nevaluate them: cnn-lstm rl evaluate {_shown(folder)}")


def _shown(folder: Path) -> Path:
    """A path as short as it can be typed here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
