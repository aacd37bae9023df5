"""The search of `rl sweep`: what was asked for becomes a plan, workers carry it out, and the best is handed back."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import yaml
from optuna.trial import FrozenTrial

from cnn_lstm.agent_sweeps.definition import AgentPlan, Scoring, definition_of
from cnn_lstm.agent_sweeps.trial import COMMAND, AgentFits, markets_of
from cnn_lstm.bounded import with_digest
from cnn_lstm.files import write_text_whole
from cnn_lstm.model.devices import require_device
from cnn_lstm.rl.agents import argument_defaults, blank_agent, require_arguments
from cnn_lstm.rl.job import Job, JobConfig, job_of, parse_config
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.result import SPACE, SweepResult, handed_back, tried
from cnn_lstm.sweeps.search import DATABASE, SETTINGS, Conduct, SweepOptions, carried_out, read_file
from cnn_lstm.sweeps.space import options_of
from cnn_lstm.sweeps.study import Plan, best_first, join
from cnn_lstm.sweeps.worker import work
from cnn_lstm.training.run_folder import empty_run_removed, unused_folder

WORKER_COMMAND = "rl-sweep-worker"
EXAMPLE = "configs/rl/sweep/ppo.yaml"
AGENT_SWEEP = MultiRunCommand(
    command=COMMAND, reserved=("--folder", "--trials"), free=("ensemble", "agent.progress_bar"), kept="rl_sweep.yaml"
)


@empty_run_removed()
def search(options: SweepOptions, argv: Sequence[str]) -> Path:
    """Runs a sweep of agents, or goes on with one, and hands back its result.

    Args:
        options: Options of the sweep.
        argv: Arguments of `rl train` that all trials share.

    Returns:
        The folder of the sweep.

    Raises:
        ConfigError: If an option, the space or the configuration is wrong, before anything is trained.
        SystemExit: With the exit code of a worker that failed, or of the signal that ended the sweep.
    """
    AGENT_SWEEP.require_folder(options.folder, options.resume)
    options.require_usable()
    file, tree = read_file(options, EXAMPLE)
    AGENT_SWEEP.refuse_reserved(argv)
    definition = definition_of(tree, str(file))
    config = _configuration(options, argv, definition)
    job = job_of(config, before_test=True)
    blank_agent(job.learner, markets_of(job, Scoring.of(tree).share).learning)
    folder = options.folder or unused_folder(job.home.path / "rl" / f"sweep-{time.strftime('%Y%m%d-%H%M%S')}")
    with AGENT_SWEEP.locked(folder):
        keep_space = partial(write_text_whole, folder / SPACE, with_digest(yaml.safe_dump(tree, sort_keys=False)))
        first = {SPACE: keep_space, SETTINGS: partial(options.write, folder)}
        text = replace(job.config, folder=None).to_yaml(folder)
        AGENT_SWEEP.require_same_configuration(folder, text, first, lambda: JobConfig().to_yaml(folder))
        plan = _plan(folder, job, definition, tree, options)
        for write in first.values():  # a resumed sweep may have other options
            write()
        carried_out(plan, options, how=AGENTS)
    return folder


def _configuration(options: SweepOptions, argv: Sequence[str], definition: Definition) -> JobConfig:
    """The configuration that all trials share, once every key of the space was tried on it."""
    argv = AGENT_SWEEP.with_kept_config(argv, options.folder, options.resume)
    config = parse_config(argv, COMMAND)
    if config.agent.device != "auto":
        require_device(config.agent.device, "agent.device")
    for example in definition.space.examples():
        require_arguments(parse_config([*argv, *options_of(example)], COMMAND).agent)
    return config


def _plan(folder: Path, job: Job, definition: Definition, tree: Any, options: SweepOptions) -> AgentPlan:
    config, kept = job.config, AGENT_SWEEP.kept_config(folder)
    # by weights, not by the path of their file, so that several machines share a study
    shared = asdict(replace(config, ckpt_path=None, folder=None, agent=replace(config.agent, progress_bar=True)))
    contents = json.dumps([definition.fingerprint, asdict(Scoring.of(tree)), shared], sort_keys=True)
    return AgentPlan(
        folder=folder,
        argv=["--config", str(kept.resolve())],
        described=tree,
        fingerprint=hashlib.sha256(contents.encode()).hexdigest(),
        n_trials=options.n_trials,
        storage=options.storage or f"sqlite:///{folder.resolve() / DATABASE}",
        study_name=options.study_name or (f"rl-{config.agent.algo}" if options.storage else folder.resolve().name),
        seed=config.agent.seeds[0],
        keep=options.keep,
        # a grid has an order of its own
        first={} if definition.is_grid else definition.space.drawn(_spelt_out(config)),
    )


def _spelt_out(config: JobConfig) -> dict[str, Any]:
    """A configuration with the arguments that it leaves to the algorithm."""
    tree = asdict(config)
    tree["agent"]["arguments"] = argument_defaults(config.agent.algo) | config.agent.arguments
    return tree


def finish(plan: Plan, interrupted: bool = False) -> SweepResult:
    """Ends a sweep of agents: its result is read, written, recorded in MLflow, and printed.

    Args:
        plan: The plan of the sweep.
        interrupted: Whether somebody waits for the end; nothing here takes long.
    """
    study = join(plan)
    best = next(iter(best_first(study)), None)
    text = _config_of(plan, best, tried(study)) if best else ""
    return handed_back(SweepResult(plan, study, best, {}, text, "rl train"))


def _config_of(plan: Plan, best: FrozenTrial, trials: int) -> str:
    """The whole configuration of the best trial, which says how many were tried."""
    config = parse_config([*plan.argv, *options_of(plan.definition.space.settings(best.params))], COMMAND)
    return replace(config, trials=trials).to_yaml(plan.folder)


AGENTS = Conduct(COMMAND, WORKER_COMMAND, finish)


def work_on_agents(pipe: IO[str]) -> None:
    """Runs the command `rl-sweep-worker`.

    Args:
        pipe: See `cnn_lstm.sweeps.worker.work`.
    """
    work(pipe, AgentPlan, AgentFits)
