"""The study of a sweep: its plan, its storage, its samplers, and its best trials."""

from __future__ import annotations

import json
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool, create_engine, text

from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_whole
from cnn_lstm.sweeps.definition import Definition, experimental
from cnn_lstm.sweeps.objectives import Objective, monitored
from cnn_lstm.sweeps.space import Draw
from cnn_lstm.sweeps.storage import (
    PATIENCE,
    connect_args,
    damaged,
    exclusive,
    parsed_url,
    storage_errors,
    unreadable_as_damaged,
)
from cnn_lstm.training.run_folder import RunFolder

HEARTBEAT = 5  # seconds between two signs of life of a trial
GRACE = 15  # seconds without one, after which its worker counts as dead
RETRIES = 2  # of a trial whose worker died
# a file is closed after each use: nothing says when a study is not needed any more, to close a pool of them
LITE = {"connect_args": {"timeout": PATIENCE}, "poolclass": NullPool}
SILENT = text(
    "SELECT trial_id FROM trials WHERE study_id = :study AND state = 'RUNNING' "
    "AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
)
CHECKSUM = "cnn_lstm:crc32"  # system attribute of a trial
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Plan:
    """What a worker of a sweep needs to know.

    Attributes:
        folder: Folder of the sweep on this machine.
        argv: Arguments of `fit` that all trials share.
        described: Plain values of the sweep's YAML file.
        fingerprint: Digest of configuration, space and objectives; equal on all machines that share a study.
        n_trials: How many trials are finished at the end.
        storage: Address of the study's database.
        study_name: Its name there.
        seed: Base seed of the sampler.
        keep: How many of the best trials keep their checkpoints.
        first: Draws of the first trial, which are those of the user's configuration; the sampler adds the others.
        tracking_uri: The MLflow server that the command line names.
    """

    folder: Path
    argv: Sequence[str]
    described: Mapping[str, Any]
    fingerprint: str
    n_trials: int
    storage: str
    study_name: str
    seed: int
    keep: int
    first: Mapping[str, Draw]
    tracking_uri: str | None = None

    @cached_property
    def definition(self) -> Definition:
        """What is searched, how, and for what."""
        return Definition.from_plain(self.described)

    @property
    def monitor(self) -> Objective:
        """What trials are stopped, pruned and kept by."""
        return monitored(self.definition.objectives)

    def run(self, number: int) -> RunFolder:
        """The run folder of a trial."""
        return RunFolder(self.folder / f"trial_{number:04d}")

    def models(self, number: int) -> list[Path]:
        """Files and folders that only the best trials keep."""
        return [self.run(number).checkpoints]

    def log(self, number: int) -> Path:
        """What a trial prints."""
        return self.folder / f"trial_{number:04d}.log"

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)})

    @classmethod
    def from_text(cls, text: str) -> Plan:
        """The plan that `to_text` wrote."""
        values = json.loads(text)
        return cls(**values | {"folder": Path(values["folder"])})


def open_storage(url: str) -> RDBStorage:
    """The database of a study; missing tables are made.

    Args:
        url: Its address.
    """
    parsed = parsed_url(url)
    lite = parsed.get_backend_name() == "sqlite"
    with experimental():  # the heartbeat, since Optuna 2.9
        return RDBStorage(
            url,
            engine_kwargs=LITE if lite else {"pool_pre_ping": True, "connect_args": connect_args(parsed)},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )


def join(plan: Plan) -> optuna.Study:
    """The study of a plan; the first process makes it.

    Args:
        plan: The plan.

    Raises:
        ConfigError: If the study is of another configuration or space.
        ResourceError: If the database does not answer.
        CheckpointError: E447, if it is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with unreadable_as_damaged(plan.storage), storage_errors(plan.storage), exclusive(plan.storage):
        _make_whole(plan.storage)
        _require_sound_file(plan.storage)
        study = optuna.create_study(
            study_name=plan.study_name,
            storage=open_storage(plan.storage),
            directions=[StudyDirection[direction.upper()] for direction in plan.definition.directions],
            pruner=plan.definition.make_pruner(),
            load_if_exists=True,
        )
        known = study.user_attrs.get("fingerprint")
        if known is None:
            if plan.first:  # before the fingerprint: a process that is killed between them would leave it out
                study.enqueue_trial(dict(plan.first), skip_if_exists=True)
            with experimental():  # the names, which dashboards show in place of "Objective 0", since Optuna 3.2
                study.set_metric_names([objective.metric for objective in plan.definition.objectives])
            study.set_user_attr("fingerprint", plan.fingerprint)
        _require_sound_trials(study, plan.storage)
    if known not in (None, plan.fingerprint):
        what = f"the study {plan.study_name} is of another configuration or space"
        fix = "give another --study_name, or its own configuration and space"
        raise ConfigError(what, plan.storage, fix, code=248)
    return study


def _make_whole(storage: str) -> None:
    """Makes a SQLite database with all tables and indices, in one step.

    Optuna commits each of them, and never adds an index to a table that is there: a process that is killed among them
    would leave a database in which one name can have several studies, and then no study can be found.

    Args:
        storage: Address of the database.
    """
    url = parsed_url(storage)
    if url.get_backend_name() != "sqlite" or str(url.database).startswith("file:"):
        return
    file = Path(str(url.database))
    if file.is_file() and file.stat().st_size:
        return
    Path(f"{file}-journal").unlink(missing_ok=True)  # of a file that is gone; SQLite would apply it to the new one
    write_whole(file, lambda partial: open_storage(str(url.set(database=str(partial)))))


def _require_sound_file(storage: str) -> None:
    """SQLite has no checksums of its pages, but sees those that do not go together."""
    url = parsed_url(storage)
    if url.get_backend_name() != "sqlite":
        return
    with create_engine(url, **LITE).connect() as session:
        said = session.execute(text("PRAGMA integrity_check(1)")).scalar()
    if said != "ok":
        raise damaged(storage, str(said))


def _require_sound_trials(study: optuna.Study, storage: str) -> None:
    """Compares the ended trials with their checksums; other programs, and older versions, write none."""
    for trial in study.get_trials(deepcopy=False):
        kept = trial.system_attrs.get(CHECKSUM)
        values = trial.values if trial.state == TrialState.COMPLETE else None
        if trial.state in FINISHED and kept not in (None, checksum_of(trial, values)):
            raise damaged(storage, f"trial {trial.number} does not have its checksum")


def checksum_of(trial: FrozenTrial, values: Sequence[float] | None) -> int:
    """CRC-32 of what is read of a finished trial: a flipped bit in a database is a value like any other.

    Args:
        trial: The trial.
        values: Its objectives; None if it was pruned.
    """
    parts = (trial.params, trial.user_attrs, trial.intermediate_values)
    content = [trial.number, *(sorted(part.items()) for part in parts), values and [float(value) for value in values]]
    return zlib.crc32(json.dumps(content, default=repr).encode())


def keep_checksum(study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None) -> None:
    """Writes the checksum of a trial that is about to end.

    Args:
        study: The study.
        trial: The trial.
        values: As for `checksum_of`.
    """
    so_far = study.get_trials(deepcopy=False)[trial.number]
    study._storage.set_trial_system_attr(trial._trial_id, CHECKSUM, checksum_of(so_far, values))


def require_study(plan: Plan) -> None:
    """Refuses a database that lost the study of a sweep that goes on: a new one would begin without its trials.

    Args:
        plan: The plan.

    Raises:
        CheckpointError: E447.
    """
    with unreadable_as_damaged(plan.storage), storage_errors(plan.storage):
        names = optuna.get_all_study_names(open_storage(plan.storage))
    if plan.study_name not in names:
        raise damaged(plan.storage, f"it holds no study {plan.study_name}")


class SilentTrials:
    """Trials whose worker was killed before its first sign of life: Optuna would count them as running for ever.

    A trial that has none for a while gets one, after which it is as any other whose worker died.

    Args:
        storage: Address of the study's database.
    """

    def __init__(self, storage: str) -> None:
        url = parsed_url(storage)
        self._engine = create_engine(url, poolclass=NullPool, connect_args=connect_args(url))
        self._since: dict[int, float] = {}

    def give_sign(self, study: optuna.Study) -> None:
        """Looks for such trials of a study; use it under the lock of its storage."""
        with self._engine.connect() as session:
            silent = [number for (number,) in session.execute(SILENT, {"study": study._study_id})]
        now = time.monotonic()
        self._since = {number: self._since.get(number, now) for number in silent}
        for number, since in self._since.items():
            if now - since > HEARTBEAT:  # a live worker gives its first sign at once
                study._storage.record_heartbeat(number)  # type: ignore[attr-defined]  # of storages with heartbeats


def sampler_of(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial. Every worker and every restart draws the same for it.

    Its seed is derived from the seed of the plan and the number of the trial; a grid uses the seed of the plan.

    Args:
        plan: The plan.
        number: Number of the trial.
    """
    definition = plan.definition
    if definition.is_grid:  # the seed numbers its combinations
        return definition.make_sampler(plan.seed)
    return definition.make_sampler(int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0]))


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials, the best by the first objective first.

    Args:
        study: The study.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.directions[0] == StudyDirection.MINIMIZE else -1
    return sorted(trials, key=lambda trial: (sign * trial.values[0], trial.number))


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """As `completed`; with several objectives only those trials that no other one beats in all of them.

    Args:
        study: The study.
    """
    if len(study.directions) == 1:
        return completed(study)
    front = {trial.number for trial in study.best_trials}
    return [trial for trial in completed(study) if trial.number in front]


def drop_checkpoints(plan: Plan, study: optuna.Study) -> None:
    """Deletes the checkpoints of ended trials on this machine that are not among the best.

    Args:
        plan: The plan, which says how many are kept.
        study: The study.
    """
    kept = {trial.number for trial in best_first(study)[: plan.keep]}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and trial.number not in kept:
            for path in plan.models(trial.number):
                if path.is_file():
                    path.unlink(missing_ok=True)  # another worker may do the same
                else:
                    shutil.rmtree(path, ignore_errors=True)
