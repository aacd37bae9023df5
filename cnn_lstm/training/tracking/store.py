"""MLflow's side: what each event of a journal does to a run.

Every action may be repeated without harm, since an answer can get lost on its way. MLflow's database holds equal points
once, and what it would hold twice is searched for first.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from sqlalchemy.engine import make_url

from cnn_lstm.files import flush_file, flush_folder, replace_file
from cnn_lstm.locks import lock_file
from cnn_lstm.training.tracking import events
from cnn_lstm.training.tracking.journal import Event
from cnn_lstm.training.tracking.run_files import lies_inside

PATIENCE = 60.0  # seconds that another process may keep what only one at a time may do
UID_TAG = "cnn_lstm.run"
MODEL_TAG = "cnn_lstm.model"
PARENT_TAG = "mlflow.parentRunId"
MODEL_NAME = "model"
LIMITS = {"params": 100, "metrics": 1000, "tags": 100, "value": 6000, "tag": 5000, "digest": 36}


class MlflowStore:
    """A run on a tracking server or in a database.

    Args:
        uri: Tracking URI.
        run: The run folder, where the files of events are.
        run_id: The run's identifier there, where it is known.
    """

    def __init__(self, uri: str, run: Path, run_id: str | None = None) -> None:
        for name in ("alembic", "mlflow"):  # they log each step of making a database and of registering a model
            logging.getLogger(name).setLevel(logging.WARNING)
        self.uri, self.run, self.run_id = uri, run, run_id
        make_database(uri)
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.client.search_experiments(max_results=1)

    def knows_run(self) -> bool:
        """Whether the run is there."""
        try:
            return self.run_id is not None and bool(self.client.get_run(self.run_id))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def apply(self, batch: Sequence[Event[events.Content]]) -> None:
        """Does what events of one kind stand for, so that it stays done."""
        getattr(self, f"_on_{batch[0].content.kind}")(batch)
        if file := _sqlite_file(self.uri):
            # SQLite ends a transaction by deleting its journal, and does not flush the folder that named it: after a
            # power cut the journal would be back, and would undo what counts as sent
            with suppress(OSError):
                flush_folder(file.parent)

    # -- the run -------------------------------------------------------------------------------------------------

    def _on_start(self, batch: Sequence[Event[events.Start]]) -> None:
        for event in batch:
            start = event.content
            experiment = self._experiment(start.experiment)
            self.run_id = self._known_run(experiment, start.uid)
            if self.run_id is not None:
                continue
            tags = {**start.tags, UID_TAG: start.uid}
            if start.parent:
                tags[PARENT_TAG] = self._parent(experiment, start.parent, event.at)
            created = self.client.create_run(experiment, start_time=event.at, tags=tags, run_name=start.name)
            self.run_id = created.info.run_id

    def _known_run(self, experiment: str, uid: str) -> str | None:
        runs = self.client.search_runs([experiment], f"tags.`{UID_TAG}` = '{uid}'", max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _parent(self, experiment: str, parent: events.Parent, at: int) -> str:
        """The run that this one is shown under. The first child creates it; it holds nothing else."""
        with lock_file(self.run.parent / ".parent_run.lock", "fit", PATIENCE):
            run_id = self._known_run(experiment, parent["uid"])
            if run_id is None:
                tags = {UID_TAG: parent["uid"]}
                created = self.client.create_run(experiment, start_time=at, tags=tags, run_name=parent["name"])
                run_id = str(created.info.run_id)
                self.client.set_terminated(run_id, "FINISHED", end_time=at)
        return run_id

    def _experiment(self, name: str) -> str:
        known = self.client.get_experiment_by_name(name)
        if known:
            return str(known.experiment_id)
        # a server knows where its artifacts are; those of a database lie next to the runs
        home = None if urlsplit(self.uri).scheme != "sqlite" else (self.run.parent / "mlartifacts").as_uri()
        return str(self.client.create_experiment(name, artifact_location=home))

    def _on_resume(self, batch: Sequence[Event[events.Resume]]) -> None:
        self.client.update_run(self._id(), status="RUNNING")

    def _on_end(self, batch: Sequence[Event[events.End]]) -> None:
        last = batch[-1]
        self.client.set_terminated(self._id(), last.content.status, end_time=last.at)

    def _id(self) -> str:
        if self.run_id is None:
            raise LookupError("the journal does not begin with a start")
        return self.run_id

    # -- metrics -------------------------------------------------------------------------------------------------

    def _on_metrics(self, batch: Sequence[Event[events.Metrics]]) -> None:
        points = [
            entities.Metric(_key(name), value, event.at, event.content.step)
            for event in batch
            for name, value in event.content.values.items()
        ]
        self._log_batches("metrics", points)

    def _on_params(self, batch: Sequence[Event[events.Params]]) -> None:
        params = [entities.Param(_key(name), str(value)[: LIMITS["value"]]) for name, value in _merged(batch).items()]
        self._log_batches("params", params)

    def _on_tags(self, batch: Sequence[Event[events.Tags]]) -> None:
        tags = [entities.RunTag(name, str(value)[: LIMITS["tag"]]) for name, value in _merged(batch).items()]
        self._log_batches("tags", tags)

    def _log_batches(self, kind: str, items: Sequence[Any]) -> None:
        for first in range(0, len(items), LIMITS[kind]):
            self.client.log_batch(self._id(), **{kind: items[first : first + LIMITS[kind]]})

    def _on_dataset(self, batch: Sequence[Event[events.Dataset]]) -> None:
        inputs = [
            entities.DatasetInput(
                entities.Dataset(
                    name=dataset.name,
                    digest=dataset.profile["sha256"][: LIMITS["digest"]],
                    **_source(dataset),
                    schema=json.dumps({"mlflow_colspec": dataset.schema}),
                    profile=json.dumps(dataset.profile),
                ),
                [entities.InputTag("mlflow.data.context", "train, validation, test")],
            )
            for dataset in (event.content for event in batch)
        ]
        self.client.log_inputs(self._id(), datasets=inputs)

    # -- files ---------------------------------------------------------------------------------------------------

    def _on_artifact(self, batch: Sequence[Event[events.Artifact]]) -> None:
        home = _local_folder(str(self.client.get_run(self._id()).info.artifact_uri))
        for name in dict.fromkeys(event.content.file for event in batch):  # each file once, as it is now
            file = self.run / name
            if file.is_file() and lies_inside(self.run, name):
                self.client.log_artifact(self._id(), str(file))
                if home is not None:
                    self._flush(home / file.name)

    def _on_model(self, batch: Sequence[Event[events.LoggedModel]]) -> None:
        for event in batch:
            content = event.content
            model = self._logged_model(content.digest) or self._log_model(content)
            if content.register:
                self._register(content.register, model, content.alias)

    def _logged_model(self, digest: str) -> Any:
        """The model of that checkpoint, if it is there and whole."""
        run = self.client.get_run(self._id())
        for output in run.outputs.model_outputs if run.outputs else ():
            model = self.client.get_logged_model(output.model_id)
            if model.tags.get(MODEL_TAG) == digest and model.status == entities.LoggedModelStatus.READY:
                return model
        return None

    def _log_model(self, content: events.LoggedModel) -> Any:
        run = self.client.get_run(self._id())
        model = self.client.create_logged_model(
            run.info.experiment_id,
            name=MODEL_NAME,
            source_run_id=self._id(),
            tags={MODEL_TAG: content.digest},
            params=run.data.params,
        )
        self.client.log_outputs(self._id(), [entities.LoggedModelOutput(model.model_id, step=content.step)])
        if not lies_inside(self.run, content.folder):
            raise LookupError(f"{content.folder} lies outside of the run")
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(shutil.copytree(self.run / content.folder, Path(scratch) / MODEL_NAME))
            described = Model.load(str(copy))
            described.model_id, described.run_id = model.model_id, self._id()
            described.artifact_path = model.artifact_location
            described.save(str(copy / "MLmodel"))
            self.client.log_model_artifacts(model.model_id, str(copy))
        home = _local_folder(str(model.artifact_location))
        for file in home.rglob("*") if home is not None else ():
            self._flush(file)
        return self.client.finalize_logged_model(model.model_id, entities.LoggedModelStatus.READY)

    def _flush(self, path: Path) -> None:
        """Waits until what MLflow has copied is on the disk with its names: a power cut would empty it, or take it."""
        with suppress(OSError):
            flush_file(path)
            for folder in path.parents:
                flush_folder(folder)
                if folder in (self.run.parent, *self.run.parents):
                    break

    @contextmanager
    def _global_address(self) -> Iterator[None]:
        """A model registry in a database searches for a logged model at MLflow's global address, not the client's."""
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)

    def _register(self, name: str, model: Any, alias: str) -> None:
        """A new version of a registered model, under the alias; a version of the same model is kept."""
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"models:/{model.model_id}"
        versions = self.client.search_model_versions(f"name = '{name}'")
        version = next((version for version in versions if version.source == source), None)
        if version is None:
            with self._global_address():
                version = self.client.create_model_version(
                    name, source=source, run_id=self._id(), model_id=model.model_id
                )
        self.client.set_registered_model_alias(name, alias, version.version)


def make_database(uri: str) -> None:
    """Makes the SQLite file of an address where there is none, with all of MLflow's tables or not at all.

    MLflow itself makes table after table in the file, for seconds. A kill in between leaves a file that it refuses for
    ever, and two processes that begin at the same moment stop each other. So one process at a time makes it, under
    another name, and moves it into its place.

    Args:
        uri: Tracking URI; nothing is done for a server, or another kind of database.

    Raises:
        TimeoutError: If another process keeps it locked.
        OSError: If it cannot be written.
    """
    file = _sqlite_file(uri)
    if file is None or _has_content(file):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(file.with_name(f"{file.name}.lock"), "tracking", PATIENCE):
        if not _has_content(file):
            replace_file(file, _make_tables)


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for any other one, and for a database in memory."""
    if not urlsplit(uri).scheme.startswith("sqlite"):
        return None
    name = make_url(uri).database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name)


def _local_folder(uri: str) -> Path | None:
    """The folder of artifacts that lie on this machine; None for those of a server."""
    return Path(url2pathname(urlsplit(uri).path)) if urlsplit(uri).scheme == "file" else None


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0  # SQLite's first act is an empty file


def _make_tables(file: Path) -> None:
    for left in (file, file.with_name(f"{file.name}-journal")):  # by an attempt that was killed
        left.unlink(missing_ok=True)
    uri = f"sqlite:///{file}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


def _source(dataset: events.Dataset) -> dict[str, str]:
    """Where a dataset comes from, in a form that `mlflow.data.get_source` reads: one file, or our class as tags."""
    arguments = dataset.source.get("init_args")
    paths = arguments.get("paths") if isinstance(arguments, dict) else None
    paths = [paths] if isinstance(paths, str) else paths
    one = paths[0] if isinstance(paths, list) and len(paths) == 1 and isinstance(paths[0], str) else None
    if one and "://" not in one and not set(one) & set("*?["):
        return {"source_type": "local", "source": json.dumps({**dataset.source, "uri": one})}
    return {"source_type": "code", "source": json.dumps({**dataset.source, "tags": dataset.source})}


def _key(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name)[:250]


def _merged(batch: Sequence[Event[events.Params] | Event[events.Tags]]) -> dict[str, str]:
    return {name: value for event in batch for name, value in event.content.values.items()}
