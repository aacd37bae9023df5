"""The search: what was asked for becomes a plan, workers carry it out, and the result is handed back."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.bounded import warn_if_changed, with_digest
from cnn_lstm.credentials import without_credentials
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.documents import hand_over
from cnn_lstm.errors import ConfigError, DataError, require
from cnn_lstm.files import read_json, write_json_whole, write_text_whole
from cnn_lstm.runs.cluster import Cluster
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.members import empty
from cnn_lstm.runs.messages import progress
from cnn_lstm.runs.multi_run import require_jobs
from cnn_lstm.runs.processes import EXPECTED, Command, LocalProcesses, WorkerPool, trust_argv
from cnn_lstm.runs.repeat import REPEAT, repeat
from cnn_lstm.runs.saved_config import options_of_secrets
from cnn_lstm.runs.yaml_guard import MAX_BYTES, load_yaml
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.objectives import monitored
from cnn_lstm.sweeps.result import BEST, SPACE, SWEEP, SweepResult, finish_sweep
from cnn_lstm.sweeps.space import options_of
from cnn_lstm.sweeps.storage import is_inside, parsed_url
from cnn_lstm.sweeps.study import Plan, join, require_study
from cnn_lstm.sweeps.worker import WORKER_COMMAND
from cnn_lstm.training.interrupts import ended_by_sigterm
from cnn_lstm.training.run_folder import empty_run_removed
from cnn_lstm.training.tracking.parent import name_parent

SETTINGS, STUDY, DATABASE = "settings.json", "study.json", "study.db"
KEPT = ("n_trials", "n_jobs", "keep", "refit", "study_name", "storage")  # a resumed sweep takes them from its folder


@dataclass(frozen=True)
class SweepOptions:
    """The options of a sweep.

    Attributes:
        space: YAML file with space, sampler, pruner and objectives.
        folder: Folder of all trials.
        resume: Whether to go on in the folder.
        timeout: Seconds after which the sweep ends with the best so far.
        n_trials: Trials to finish.
        n_jobs: Worker processes; None for one, or as many as the cluster has room for.
        keep: Best trials that keep their checkpoints.
        refit: Seeds to train and test the best configuration with.
        study_name: Name of the study in the database.
        storage: Address of the study's database.
        cluster: Address of a Ray cluster; None to train on this machine.
    """

    space: Path | None = None
    folder: Path | None = None
    resume: bool = False
    timeout: float | None = None
    n_trials: int = 50
    n_jobs: int | None = None
    keep: int = 3
    refit: int = 0
    study_name: str | None = None
    storage: str | None = None
    cluster: str | None = None

    @classmethod
    def of(cls, argv: Mapping[str, Any]) -> SweepOptions:
        """The options as the command line has them, else as a resumed folder has them, else the defaults.

        Args:
            argv: What the command line says, by name; None where it says nothing.
        """
        options = cls(**{name: value for name, value in argv.items() if value is not None})
        if not options.resume or options.folder is None or not (options.folder / SETTINGS).is_file():
            return options
        kept = _kept_settings(options.folder)
        missing = [name for name in KEPT if argv.get(name) is None and kept.get(name) is not None]
        if "storage" in missing:
            _require_storage_inside(kept["storage"], options.folder)
        return replace(options, **{name: kept[name] for name in missing})

    def require_usable(self) -> None:
        """Refuses values that cannot be used.

        Raises:
            ConfigError: If there is one.
        """
        for name, least in (("n_trials", 1), ("keep", 1), ("refit", 0)):
            if (value := getattr(self, name)) < least:
                raise ConfigError(f"--{name} {value}", fix=f"give at least {least}", code=224)
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"--timeout {self.timeout}", fix="give a number of seconds above 0", code=224)
        require_jobs(self.n_jobs)
        if self.storage is not None:
            parsed_url(self.storage)

    def write(self, folder: Path) -> None:
        """Keeps the options for a resumed sweep; a password in the address is left out, and has to be given again.

        Args:
            folder: Folder of the sweep.
        """
        kept = {name: getattr(self, name) for name in KEPT}
        kept["storage"] = self.storage and without_credentials(self.storage)
        write_json_whole(folder / SETTINGS, kept)


@empty_run_removed()
def search(options: SweepOptions, argv: Sequence[str]) -> None:
    """Runs a sweep, or goes on with one, and hands back its result.

    Args:
        options: Options of the sweep.
        argv: Arguments of `fit` that all trials share.

    Raises:
        ConfigError: If an option, the space or the configuration is wrong, before anything is trained.
        SystemExit: With the exit code of a worker that failed, or of the signal that ended the sweep.
    """
    SWEEP.require_folder(options.folder, options.resume)
    options.require_usable()
    file, tree = read_file(options, "configs/sweep/cnn_lstm.yaml")
    SWEEP.refuse_reserved(argv)
    definition = Definition.from_plain(tree, str(file))
    cli = _configuration(options, argv, definition)
    cluster = Cluster.of(options.cluster, cli.command_config.trainer)
    if not any(key.startswith("data.") for key in definition.space.keys):  # else each trial has data of its own
        with muted_warnings():  # bad data leave no folder behind; the trials warn for themselves
            cli.build_data().setup()
    folder = options.folder or SWEEP.new_folder(cli)
    with SWEEP.locked(folder):
        keep_space = partial(write_text_whole, folder / SPACE, with_digest(yaml.safe_dump(tree, sort_keys=False)))
        first = {SPACE: keep_space, SETTINGS: partial(options.write, folder)}
        SWEEP.require_same_configuration(folder, cli.config_text, first)
        plan = _plan(folder, cli, definition, tree, options)
        for write in first.values():  # a resumed sweep may have other options
            write()
        result = carried_out(plan, options, cluster)
        if options.refit and result.best is not None:
            refit = folder / "refit"
            begun = REPEAT.kept_config(refit).is_file()
            given = ["--config", str(folder / BEST), *options_of_secrets(cli.command_config)]
            try:
                repeat(given, str(options.refit), None, options.n_jobs, refit, begun, options.cluster)
            finally:
                hand_over(result.plain())  # the document of a sweep, also where it ends with a repeat


@dataclass(frozen=True)
class Conduct:
    """How the trials of a command are carried out.

    Attributes:
        command: The command, as a user types it.
        worker: The internal command of its workers.
        finish: Ends a sweep, see `finish_sweep`.
    """

    command: str
    worker: str
    finish: Callable[[Plan, bool], SweepResult]


FITS = Conduct("sweep", WORKER_COMMAND, finish_sweep)


def carried_out(plan: Plan, options: SweepOptions, cluster: Cluster | None = None, how: Conduct = FITS) -> SweepResult:
    """Lets workers carry out a plan, and hands back the result; the folder of the plan is locked.

    Args:
        plan: The plan.
        options: Options of the sweep.
        cluster: Where the workers run; None for this machine.
        how: What the trials are.

    Raises:
        SystemExit: With the exit code of a worker that failed, or of the signal that ended the sweep.
    """
    folder = plan.folder
    name_parent(folder)
    study = {"study_name": plan.study_name, "storage": without_credentials(plan.storage)}
    if (folder / STUDY).is_file() and read_json(folder / STUDY, "record of the study") == study:
        require_study(plan)
    join(plan)
    write_json_whole(folder / STUDY, study)
    progress(f"sweep folder: {folder}")
    try:
        _run_workers(plan, options, cluster, how)
    except SystemExit as error:
        _leave_nothing(plan, options, error.code)
        raise
    return how.finish(plan, False)


def _kept_settings(folder: Path) -> dict[str, Any]:
    """What settings.json of a sweep folder holds."""
    kept = read_json(folder / SETTINGS, "settings of a sweep")
    numbers = ("n_trials", "n_jobs", "keep", "refit")
    for name in set(KEPT) & set(kept):
        if kept[name] is not None and type(kept[name]) is not (int if name in numbers else str):
            what, fix = f"no settings of a sweep: {name}={kept[name]!r}", "give the options of the sweep again"
            raise DataError(what, str(folder / SETTINGS), fix, code=339)
    return kept


def _require_storage_inside(storage: str, folder: Path) -> None:
    """A folder may come from a stranger: no server, and no file elsewhere, is opened because it says so."""
    if not is_inside(storage, folder):
        what, fix = "only the sweep folder says which database to use", "add --storage with that address if you know it"
        raise ConfigError(what, f"{folder / SETTINGS}: {storage}", fix, code=296)


# -- what was asked for ----------------------------------------------------------------------------------------------


def read_file(options: SweepOptions, example: str) -> tuple[Path, Any]:
    """The YAML file that describes the sweep, and its plain values.

    Args:
        options: Options of the sweep.
        example: A file that can be given.

    Raises:
        ConfigError: E250, if there is none, or it cannot be read.
    """
    file = options.space
    if file is None and options.resume and options.folder is not None:
        file = options.folder / SPACE
    if file is None:
        raise ConfigError("no space to search", fix=f"add --space {example}", code=250)
    try:
        require(file.stat().st_size <= MAX_BYTES, "the space is larger than 10 MiB", str(file), "write less", code=250)
        text = file.read_text(encoding="utf-8")
        warn_if_changed(text, file)
        return file, load_yaml(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("cannot read the space", f"{file}: {' '.join(str(error).split())}", code=250) from error


def _configuration(options: SweepOptions, argv: Sequence[str], definition: Definition) -> ForecastCLI:
    """The configuration that all trials share, once every key of the space was tried on it."""
    if "ensemble" in definition.space.keys:
        fix = "leave it out of the space: a trial is one member; give --ensemble to the fit of best.yaml"
        raise ConfigError("ensemble cannot be searched", f"{definition.where}: space", fix, code=250)
    argv = SWEEP.with_kept_config(argv, options.folder, options.resume)
    monitor = monitored(definition.objectives)
    before = SWEEP.parsed(argv).command_config.checkpoint.monitor
    if before != monitor.metric:
        progress(f"early stopping and checkpoints of the trials follow {monitor.metric}, not {before}")
    for callback in ("checkpoint", "early_stopping"):
        argv = [*argv, f"--{callback}.monitor={monitor.metric}", f"--{callback}.mode={monitor.direction[:3]}"]
    for example in definition.space.examples():
        SWEEP.parsed([*argv, *options_of(example)])
    return SWEEP.parsed(argv)


def _plan(folder: Path, cli: ForecastCLI, definition: Definition, tree: Any, options: SweepOptions) -> Plan:
    config = cli.command_config
    if isinstance(config.seed_everything, bool):
        what = f"seed_everything={str(config.seed_everything).lower()}"
        raise ConfigError(what, fix="give a number: trials are run again", code=224)
    # as the folder has it, so that a study of an earlier version, whose keys had other names, is the same one
    kept = SWEEP.kept_config(folder)
    settings_of_fit = SWEEP.settings_of(yaml.safe_load(kept.read_text(encoding="utf-8")))
    shared = json.dumps(settings_of_fit, sort_keys=True, default=str)
    name = cli.files[0].stem if cli.files else "fit"
    argv = ["--config", str(kept.resolve())]
    return Plan(
        folder=folder,
        argv=[*argv, *options_of_secrets(config)],  # they are not in the file
        described=tree,
        fingerprint=hashlib.sha256(f"{definition.fingerprint}{shared}".encode()).hexdigest(),
        n_trials=options.n_trials,
        storage=options.storage or f"sqlite:///{folder.resolve() / DATABASE}",
        study_name=options.study_name or (name if options.storage else folder.resolve().name),
        seed=config.seed_everything,
        keep=options.keep,
        # a grid has an order of its own
        first={} if definition.is_grid else definition.space.drawn(yaml.safe_load(cli.config_text)),
        tracking_uri=config.tracking_uri,
    )


# -- the workers -----------------------------------------------------------------------------------------------------


def _leave_nothing(plan: Plan, options: SweepOptions, code: object) -> None:
    """Empties the folder of a new sweep whose trials all fail before their training; the error line says why."""
    logs = [log.read_text(encoding="utf-8", errors="replace") for log in plan.folder.glob("trial_*.log")]
    said = code in EXPECTED and not any("Traceback" in log for log in logs)
    if said and not options.resume and not any(path.is_dir() for path in plan.folder.glob("trial_*")):
        print("nothing was trained, and nothing is left behind", file=sys.stderr)
        empty(plan.folder)


def _advice(plan: Plan, command: str) -> str:
    """The command that goes on with a sweep."""
    named = "" if is_inside(plan.storage, plan.folder) else f" --storage {without_credentials(plan.storage)}"
    return f"cnn-lstm {command} --resume --folder {plan.folder}{named}"


def _run_workers(plan: Plan, options: SweepOptions, cluster: Cluster | None, how: Conduct) -> None:
    """Lets the workers run; an interruption still hands back the best so far."""
    command = Command([*trust_argv(), how.worker], plan=plan.to_text())
    deadline = math.inf if options.timeout is None else time.monotonic() + options.timeout
    interrupted: BaseException | None = None
    code = 0
    try:
        with LocalProcesses() if cluster is None else cluster.engine(plan.folder) as engine, ended_by_sigterm():
            code = WorkerPool(engine, command, options.n_jobs or engine.room).work(deadline)
    except (KeyboardInterrupt, SystemExit) as error:
        interrupted = error
    if interrupted is not None:  # outside of its handler, so that an error from here on does not refer to it
        with suppress(BrokenPipeError):  # a Ctrl-C ends the reader of our output too; files are written before lines
            how.finish(plan, True)
            print(f"to go on: {_advice(plan, how.command)}", file=sys.stderr, flush=True)
        raise interrupted
    if code:
        raise SystemExit(code)
