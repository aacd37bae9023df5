"""`cnn-lstm sweep`: searches for better settings, by ordinary runs that Optuna proposes and ends early."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_text_whole
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.processes import PROGRAM, WorkerPool, trust_argv
from cnn_lstm.runs.together import require_jobs
from cnn_lstm.runs.yaml_guard import load_yaml
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.locks import parsed_url
from cnn_lstm.sweeps.result import SPACE, SWEEP, hand_back
from cnn_lstm.sweeps.space import Space
from cnn_lstm.sweeps.study import Plan, join, monitored
from cnn_lstm.training.interrupts import ended_by_sigterm
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.parent import name_parent

SETTINGS, DATABASE = "settings.json", "study.db"
STUDY = "study.json"
WORKER = "sweep-worker"
# options that a resumed sweep takes from its folder
DEFAULTS: dict[str, Any] = {
    "n_trials": 50,
    "n_jobs": 1,
    "keep": 3,
    "refit": 0,
    "study_name": None,
    "storage": None,
}


def run(words: list[str]) -> None:
    """Runs `sweep`.

    Args:
        words: `sweep` and its arguments.
    """
    given, passed_on = _parser().split(words[1:])
    SWEEP.require_folder(given.folder, given.resume)
    settings = _settings(given)
    described = _read_space(given)
    SWEEP.refuse_reserved(passed_on)
    cli = _configuration(given, passed_on, Definition.from_plain(described, str(given.space)))
    folder = given.folder or SWEEP.new_folder(cli)
    with SWEEP.locked(folder):
        SWEEP.require_same_configuration(folder, cli.config_text)
        plan = _plan(folder, cli, described, settings)
        write_text_whole(folder / SPACE, yaml.safe_dump(described, sort_keys=False))
        _keep_settings(folder, settings)
        name_parent(folder)
        join(plan)
        told = {"study_name": plan.study_name, "storage": without_credentials(plan.storage)}
        write_text_whole(folder / STUDY, json.dumps(told, indent=2) + "\n")
        print(f"sweep folder: {folder}", flush=True)
        _search(plan, settings, given.timeout)
        hand_back(plan, settings["n_jobs"], settings["refit"])


# -- what was asked for ----------------------------------------------------------------------------------------------


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="cnn-lstm sweep",
        description="Searches a space of settings by fits that are judged on the validation part; every other option "
        "is passed on to fit.",
        epilog="The same command on several machines with one --storage shares one study.",
    )
    parser.add_argument("--space", type=Path, metavar="FILE", help="YAML file with space, sampler, pruner, objectives")
    parser.add_argument("--n_trials", type=int, metavar="N", help="trials to finish; 50 by default")
    parser.add_argument("--n_jobs", type=int, metavar="N", help="worker processes; 1 by default")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="ends the sweep with the best so far")
    parser.add_argument("--keep", type=int, metavar="N", help="best trials that keep their checkpoints; 3 by default")
    parser.add_argument("--refit", type=int, metavar="N", help="train and test the best with N seeds; 0 by default")
    parser.add_folder("all trials")
    parser.add_argument("--storage", metavar="URL", help="database of the study; study.db in the folder by default")
    parser.add_argument("--study_name", metavar="NAME", help="name of the study in the database")
    return parser


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    """The options by name: as given, else as the folder has them, else the defaults."""
    kept = given.folder / SETTINGS if given.resume else None
    before = json.loads(kept.read_text(encoding="utf-8")) if kept is not None and kept.is_file() else {}
    settings = {
        name: default if (value := getattr(given, name)) is None and (value := before.get(name)) is None else value
        for name, default in DEFAULTS.items()
    }
    for name, least in (("n_trials", 1), ("keep", 1), ("refit", 0)):
        if settings[name] < least:
            raise ConfigError(f"--{name} {settings[name]}", fix=f"give at least {least}", code=224)
    if given.timeout is not None and not given.timeout > 0:
        raise ConfigError(f"--timeout {given.timeout}", fix="give a number of seconds above 0", code=224)
    require_jobs(settings["n_jobs"])
    if settings["storage"] is not None:
        parsed_url(settings["storage"])
    return settings


def _keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """An address with a password is not kept: a resumed sweep has to be told it again."""
    storage = settings["storage"]
    kept = settings | {"storage": storage and without_credentials(storage)}
    write_text_whole(folder / SETTINGS, json.dumps(kept, indent=2) + "\n")


def _read_space(given: argparse.Namespace) -> Any:
    """Plain values of the file with the space."""
    if given.space is None and given.resume:
        given.space = given.folder / SPACE
    if given.space is None:
        raise ConfigError("no space to search", fix="add --space configs/sweep/cnn_lstm.yaml", code=250)
    try:
        return load_yaml(given.space.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            "cannot read the space", f"{given.space}: {' '.join(str(error).split())}", code=250
        ) from error


def _configuration(given: argparse.Namespace, passed_on: list[str], definition: Definition) -> ForecastCLI:
    """The configuration that all trials share, after every key of the space was tried on it."""
    words = SWEEP.with_kept_config(passed_on, given.folder, given.resume)
    watched = monitored(definition.objectives)
    before = SWEEP.parsed(words).command_config.checkpoint.monitor
    if before != watched.metric:
        print(f"trials are stopped and kept by {watched.metric}, the first objective, not by {before}")
    for callback in ("checkpoint", "early_stopping"):
        words = [*words, f"--{callback}.monitor={watched.metric}", f"--{callback}.mode={watched.direction[:3]}"]
    for example in definition.space.examples():
        SWEEP.parsed([*words, *Space.words(example)])
    return SWEEP.parsed(words)


def _plan(folder: Path, cli: ForecastCLI, described: Any, settings: dict[str, Any]) -> Plan:
    config, definition = cli.command_config, Definition.from_plain(described)
    if isinstance(config.seed_everything, bool):
        raise ConfigError(
            f"seed_everything={str(config.seed_everything).lower()}",
            fix="give a number: trials are run again",
            code=224,
        )
    # as the folder has it, so that a study of an earlier version, whose keys had other names, is the same one
    kept = SWEEP.kept_config(folder)
    settings_of_fit = SWEEP.settings_of(yaml.safe_load(kept.read_text(encoding="utf-8")))
    shared = json.dumps(settings_of_fit, sort_keys=True, default=str)
    name = cli.files[0].stem if cli.files else "fit"
    words = ["--config", str(kept.resolve())]
    uri = config.tracking_uri
    return Plan(
        folder=folder,
        words=[*words, f"--tracking_uri={uri}"] if uri else words,  # its password is not in the file
        described=described,
        fingerprint=hashlib.sha256(f"{definition.fingerprint}{shared}".encode()).hexdigest(),
        n_trials=settings["n_trials"],
        storage=settings["storage"] or f"sqlite:///{folder.resolve() / DATABASE}",
        study_name=settings["study_name"] or (name if settings["storage"] else folder.resolve().name),
        seed=config.seed_everything,
        keep=settings["keep"],
        first=definition.first(yaml.safe_load(cli.config_text)),
        tracking_uri=uri,
    )


# -- the search ------------------------------------------------------------------------------------------------------


def _search(plan: Plan, settings: dict[str, Any], timeout: float | None) -> None:
    """Lets the workers run; an interruption still hands back what was found."""
    command: Sequence[str] = [*PROGRAM, *trust_argv(), WORKER]
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    interrupted: BaseException | None = None
    code = 0
    try:
        with ended_by_sigterm():
            code = WorkerPool(command, plan.to_text(), settings["n_jobs"]).work(deadline)
    except (KeyboardInterrupt, SystemExit) as error:
        interrupted = error
    if interrupted is not None:  # outside of its handler, so that what fails now is no part of it
        with suppress(BrokenPipeError):  # a Ctrl-C ends what reads us too; files are written before lines
            hand_back(plan, interrupted=True)
            print(f"to go on: cnn-lstm sweep --resume --folder {plan.folder}", file=sys.stderr, flush=True)
        raise interrupted
    if code:
        raise SystemExit(code)
