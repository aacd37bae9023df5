"""`cnn-lstm rl train`: one agent a seed."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_text_whole
from cnn_lstm.rl.agents import agent_file, blank_agent, learn, require_device
from cnn_lstm.rl.job import Job, job_of, parsed, saved
from cnn_lstm.rl.record import TrackedFigures, keep, recorded
from cnn_lstm.training.run_folder import require_writable

MAX_NAME = 100


def run(words: list[str]) -> None:
    """Trains the agents of all seeds that are not there yet.

    Args:
        words: Arguments of `rl train`.
    """
    options, argv = _parser().split(words)
    config = parsed([*argv, *([f"--agent.algo={options.algo}"] if options.algo else [])])
    config.folder = config.folder or f"{config.agent.algo}-{time.strftime('%Y%m%d-%H%M%S')}"
    _require_name(config.folder)
    require_device(config.agent.device)
    job = job_of(config)
    folder = job.home.path / "rl" / config.folder
    resumed = _resumed(folder, options.resume)
    if resumed:
        _require_same(job, folder)
    env = job.unseen_env(job.market.part, job.market.episode_length)
    blank_agent(job.learner, env)  # what the algorithm refuses is told before anything is written
    require_writable(folder)
    # as seen from the agents' folder, so that a run can be moved
    checkpoint = os.path.relpath(job.checkpoint.resolve(), folder.resolve())
    named = {
        "ckpt_path": checkpoint,
        "ckpt_digest": job.digest,
        "forecasts_digest": job.forecasts,
        "folder": config.folder,
    }
    text = yaml.safe_dump(named | _settings(job), sort_keys=False)
    if not resumed:
        write_text_whole(folder / "config.yaml", text)
    missing = [seed for seed in job.agent.seeds if not agent_file(folder, seed).is_file()]
    print(f"training {len(missing)} of {len(job.agent.seeds)} seeds")
    print(f"if cut short, go on with --resume --folder {config.folder}")
    if missing:
        with recorded(job.home, folder, text, "fit", resumed) as tracker:
            for seed in missing:
                writers = [] if tracker is None else [TrackedFigures(tracker, seed)]
                keep(tracker, {}, learn(job.learner, env, seed, folder, writers))
    print(f"agents: {folder}\nevaluate them: cnn-lstm rl evaluate {_shown(folder)}")


def _parser() -> CommandParser:
    parser = CommandParser(prog="cnn-lstm rl train", renamed={"--name": "--folder"}, add_help=False)
    parser.add_argument("--algo")
    parser.add_flag("--resume", "train the seeds that are missing in --folder")
    return parser


def _resumed(folder: Path, resume: bool) -> bool:
    """Whether agents are there; refuses to begin where they are, and to go on where they are not."""
    begun = (folder / "config.yaml").exists()
    if begun and not resume:
        raise ConfigError("the folder holds agents", str(folder), "pass --resume to go on with them", code=245)
    if resume and not begun:
        fix = "give the --folder of some, or leave --resume out"
        raise ConfigError("no agents to go on with", str(folder), fix, code=246)
    return begun


def _require_name(name: str) -> None:
    """Refuses a name that leads out of RUN/rl."""
    if name in (".", "..") or "/" in name or "\\" in name or len(name) > MAX_NAME:
        raise ConfigError(f"{name!r} is not a name of a folder", "--folder", "give a word, such as ppo", code=273)


def _settings(job: Job) -> dict[str, Any]:
    return {"market": asdict(job.market), "agent": asdict(job.agent)}


def _require_same(job: Job, folder: Path) -> None:
    """Refuses to go on in a folder of agents that were told something else."""
    before = saved(folder, "rl train")
    there = {"market": asdict(before.market), "agent": asdict(before.agent)}
    differing = [] if before.ckpt_digest == job.digest else ["checkpoint"]
    differing += [] if before.forecasts_digest == job.forecasts else ["file of forecasts"]
    differing += [
        f"{section}.{name}"
        for section, values in _settings(job).items()
        for name, value in values.items()
        if name != "progress_bar" and there[section][name] != value
    ]
    if differing:
        raise ConfigError(
            f"the folder holds agents already, with another {', '.join(differing)}",
            str(folder),
            "choose another --folder, or the settings of its config.yaml to go on",
            code=273,
        )


def _shown(folder: Path) -> Path:
    """A path as short as it can be typed here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
