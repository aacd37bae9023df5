"""The study of a sweep: its plan, its storage, and who may join it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import TrialState

from cnn_lstm.errors import ConfigError
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.entries import Draw
from cnn_lstm.sweeps.locks import alone, parsed_url, storage_errors
from cnn_lstm.sweeps.samplers import MEASURES, Objective
from cnn_lstm.training.run_folder import RunFolder

HEARTBEAT = 5  # seconds between two signs of life of a trial
GRACE = 15  # seconds without one after which its worker is taken for dead
RETRIES = 2  # of a trial whose worker died
PATIENCE = 60  # seconds that a locked database is waited for
REASON = "reason"  # user attribute of a failed trial
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Plan:
    """What a worker of a sweep has to know.

    Attributes:
        folder: Of the sweep on this machine.
        words: Arguments of `fit` that all trials share.
        described: Plain values of the sweep's YAML file.
        fingerprint: Of configuration, space and objectives; machines that share a study have the same.
        n_trials: How many trials the study is to have finished.
        storage: Address of the study's database.
        study_name: Its name there.
        seed: Of the sampler.
        keep: How many of the best trials keep their checkpoints.
        first: Draws of the first trial, those of the given configuration; others are left to the sampler.
        tracking_uri: The MLflow server that the command line names.
    """

    folder: Path
    words: Sequence[str]
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
    def monitor(self) -> str:
        """The figure that trials are stopped, pruned and kept by."""
        return monitored(self.definition.objectives).metric

    def run(self, number: int) -> RunFolder:
        """The run folder of a trial."""
        return RunFolder(self.folder / f"trial_{number:04d}")

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


def monitored(objectives: Sequence[Objective]) -> Objective:
    """The first objective that is a figure of an epoch; the validation loss where there is none.

    Args:
        objectives: What trials are judged by.
    """
    logged = [objective for objective in objectives if objective.metric not in MEASURES]
    return logged[0] if logged else Objective("val_loss", "minimize")


def open_storage(url: str) -> RDBStorage:
    """The database of a study, whose tables are made where it has none.

    Args:
        url: Its address.
    """
    lite = parsed_url(url).get_backend_name() == "sqlite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat, since Optuna 2.9
        return RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": PATIENCE}} if lite else {"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )


def join(plan: Plan) -> optuna.Study:
    """The study of a plan; whoever comes first makes it.

    Args:
        plan: The plan.

    Raises:
        ConfigError: If the study is of another configuration or space.
        ResourceError: If the database does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage_errors(plan.storage), alone(plan.storage):
        study = optuna.create_study(
            study_name=plan.study_name,
            storage=open_storage(plan.storage),
            directions=[StudyDirection[direction.upper()] for direction in plan.definition.directions],
            pruner=plan.definition.make_pruner(),
            load_if_exists=True,
        )
        known = study.user_attrs.get("fingerprint")
        if known is None:
            study.set_user_attr("fingerprint", plan.fingerprint)
            if plan.first:
                study.enqueue_trial(dict(plan.first))
    if known not in (None, plan.fingerprint):
        raise ConfigError(
            f"the study {plan.study_name} is of another configuration or space",
            plan.storage,
            "give another --study_name, or what it was made of",
            code=248,
        )
    return study


def sampler_of(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial: seeded by the trial's number, it draws the same whoever asks, also after a restart.

    Args:
        plan: The plan.
        number: Of the trial.
    """
    definition = plan.definition
    if definition.is_grid:  # the seed numbers its combinations
        return definition.make_sampler(plan.seed)
    return definition.make_sampler(int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0]))
