"""The MLflow record of a run, a sweep or agents: one class, which the rooms that own these nouns call."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_only

from cnn_lstm.bounded import with_digest
from cnn_lstm.credentials import without_credentials
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.errors import ResourceError, TrackingError, interruption
from cnn_lstm.files import write_text_whole
from cnn_lstm.training.history import METRICS_FILE, PLOT_FILE
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking import events, identity
from cnn_lstm.training.tracking.delivery import Delivery, Sender, send_rest
from cnn_lstm.training.tracking.journal import Journal, KnownValues
from cnn_lstm.training.tracking.kept_files import artifact_of, is_kept
from cnn_lstm.training.tracking.parent import parent_of

if TYPE_CHECKING:
    from cnn_lstm.training.tracking.machine import Machine

log = logging.getLogger(__name__)
EXPERIMENT = "cnn_lstm"
MACHINE = "system/"  # where MLflow's page expects metrics of the machine
ENDING = ("fit", "sweep")  # commands that end their MLflow run; the others add to the run of a fit


class Record:
    """What is kept in MLflow of the work in a folder.

    Everything is written into the folder's journal first. From `begin` to `end`, while a command runs, a thread
    delivers the journal; `send` delivers it at once. Nothing here waits for a server while a fit runs, and a server
    that is down gives a warning. A fit that is resumed goes on in the same MLflow run, and no point is written twice.

    Args:
        run: The folder.
        command: `fit` for what begins an MLflow run; the name of the command that adds to it otherwise.
        delivery: Where the journal goes.
        experiment: Name of the experiment of a new MLflow run.
        required: Whether a server that is down stops the command.
        register: Name in the model registry for the model; None to keep it with the run only.
        enabled: Whether anything is kept.
    """

    def __init__(
        self,
        run: RunFolder,
        command: str,
        delivery: Delivery,
        experiment: str = EXPERIMENT,
        *,
        required: bool = False,
        register: str | None = None,
        enabled: bool = True,
    ) -> None:
        self.run, self.command, self.experiment = run, command, experiment
        self.required, self.register, self.enabled = required, register, enabled
        self.journal, self.delivery = delivery.journal, delivery
        self.uid = uuid.uuid4().hex  # of an MLflow run that begins
        self._known = KnownValues(fit=command == "fit")
        self._machine: Machine | None = None
        self._sender: Sender | None = None
        self._warned = False

    # -- its life ------------------------------------------------------------------------------------------------

    @rank_zero_only
    def begin(self, config: str, resumed: bool) -> None:
        """Starts or continues the record.

        Args:
            config: The configuration as YAML text, without credentials.
            resumed: Whether a fit goes on from a checkpoint.

        Raises:
            TrackingError: If the server is required and does not answer.
        """
        if not self.enabled:
            return
        # a power cut can leave a journal without its start, which nothing could be sent of
        if self.command == "fit" and not (resumed and self.journal.start() is not None):
            self._start(config)
        else:
            self._known.recall(self.journal)
        if self.command == "fit":
            if resumed:
                self._write(events.Resume())
            self.params(identity.parameters(config))
        if self.journal.take(self.command):  # else the process that trains this run sends
            sample = self._sample if self.command == "fit" else None
            self._sender = Sender(self.delivery, sample, quiet=self.required)
            self._sender.start()
        problem = self._sender.first_result() if self._sender and self.required else None
        if problem is not None:
            raise problem

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Ends the record with what became of the command: finished, failed or killed."""
        try:
            yield
        except BaseException as error:
            self.end(status_of(error))
            raise
        self.end(status_of(None))

    @rank_zero_only
    def end(self, status: events.Status) -> None:
        """Closes the record; what a server that is down has not taken stays in the run folder.

        Args:
            status: How the MLflow run ends; it counts for commands that end one.

        Raises:
            TrackingError: If the server is required and something has not arrived.
        """
        if self.command == "fit":
            self.keep(self.run.path / METRICS_FILE, self.run.path / PLOT_FILE)
        if self.command in ENDING:
            self._write(events.End(status))
        self._flush()
        if self._sender is None:
            return
        arrived = self._sender.close()
        self._flush()  # the sender has added its last sample of the machine
        problem, self._sender = self._sender.problem, None
        self.journal.give_back()
        if self.required and problem is not None:
            if status == "FINISHED":  # else it is being raised already
                raise problem
        elif not arrived:
            log.error(self.delivery.left)  # shown under --quiet too: a record that did not arrive is a result

    def send(self) -> None:
        """Delivers at once; what a server that is down does not take stays in the folder."""
        if not self.enabled:
            return
        try:
            send_rest(self.run.path, self.delivery.uri)
        except TrackingError as error:
            log.warning("%s — %s", error.what, error.where)

    def where(self) -> dict[str, str]:
        """How to look at the record."""
        if not self.enabled:
            return {}
        uri = without_credentials(self.delivery.uri)
        return {"MLflow": uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"}

    # -- what it holds -------------------------------------------------------------------------------------------

    @rank_zero_only
    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Keeps metrics of a step that are not there yet.

        Args:
            metrics: Metrics by Lightning's names; those without a value are left out.
            step: The step.

        Raises:
            TrackingError: If the server is required and is down.
        """
        values = self._known.named({name: float(value) for name, value in metrics.items() if value is not None})
        if new := self._known.add_metrics(values, step):
            self._write(events.Metrics(step, new))
        if self._sender is not None and self.required and self._sender.problem is not None:
            raise self._sender.problem

    @rank_zero_only
    def params(self, params: Mapping[str, Any]) -> None:
        """Keeps parameters; MLflow never changes one, so that a new value of an old parameter becomes a tag.

        Args:
            params: Parameters by name.
        """
        new, changed = self._known.add_params({name: str(value) for name, value in params.items()})
        if new:
            self._write(events.Params(new))
        if changed:
            self.tag({f"resumed.{name}": change for name, change in changed.items()})

    def tag(self, tags: Mapping[str, str]) -> None:
        """Keeps tags, which replace those of the same name.

        Args:
            tags: Tags by name.
        """
        self._write(events.Tags(tags))

    @rank_zero_only
    def dataset(self, data: MarketData, source: Mapping[str, Any]) -> None:
        """Keeps what the run is trained on.

        Args:
            data: A data module that has read its data.
            source: Class and arguments of its source, as the configuration says.
        """
        dataset = identity.dataset(data, source)
        self._write(dataset)
        self.tag(identity.dataset_tags(dataset))

    def keep(self, *files: Path) -> None:
        """Keeps files of the folder.

        Args:
            files: Those that exist are kept.
        """
        for file in filter(Path.is_file, files):
            self._write(artifact_of(self.run.path, file))

    def model(self, folder: Path, digest: str, step: int, alias: str = events.CHALLENGER) -> None:
        """Keeps an MLflow model of the folder, and registers it where a name is given.

        Args:
            folder: The model's folder.
            digest: What distinguishes this checkpoint from others.
            step: Training step of the checkpoint.
            alias: What its version is called in the registry.
        """
        self._write(events.LoggedModel(str(folder.relative_to(self.run.path)), digest, step, self.register, alias))

    # -- the journal ---------------------------------------------------------------------------------------------

    @rank_zero_only
    def _write(self, content: events.Content) -> None:
        if not self.enabled:
            return
        try:
            self.journal.append(content)
        except ResourceError as error:
            self._refused(error)

    def _refused(self, error: ResourceError) -> None:
        """Warns once of what the disk refuses, or raises it where the record is required."""
        if self.required:
            raise error
        if not self._warned:
            log.warning("%s — the training goes on without its record", error)
        self._warned = True

    def _flush(self) -> None:
        with suppress(OSError):  # a disk that refuses it; the run is over
            self.journal.flush()

    def _start(self, config: str) -> None:
        if self.journal.start() is not None and not self.journal.has_ended():
            self._write(events.End("KILLED"))  # a fit that was killed here before its first checkpoint
        start = events.Start(
            uid=self.uid,
            name=self.run.path.resolve().name,
            experiment=self.experiment,
            tags=identity.code_tags(Path.cwd(), self.command),
            parent=parent_of(self.run.path),
            uri=None if self.delivery.default else without_credentials(self.delivery.uri),
        )
        self._write(start)
        for name, text in ({"config.yaml": with_digest(config)} | identity.uncommitted(Path.cwd())).items():
            self._keep_text(self.run.path / name, text)

    def _keep_text(self, file: Path, text: str) -> None:
        """Writes a file of the folder and keeps it; what the disk refuses is a warning, as for the journal."""
        try:
            write_text_whole(file, text)
        except ResourceError as error:
            self._refused(error)
        self.keep(file)

    def _sample(self, last: bool) -> None:
        """Logs metrics of the machine; in the sender's thread, which has to import mlflow anyway."""
        if self._machine is None:
            from cnn_lstm.training.tracking.machine import Machine

            self._machine = Machine()
            self._samples = self._known.next_step(MACHINE)
        if metrics := {f"{MACHINE}{name}": value for name, value in self._machine.sample(now=last).items()}:
            self._write(events.Metrics(self._samples, metrics))
            self._samples += 1


def status_of(error: BaseException | None) -> events.Status:
    """What MLflow calls a run that ended so.

    Args:
        error: What ended it; None if nothing did.
    """
    if error is None:
        return "FINISHED"
    return "FAILED" if interruption(error) is None else "KILLED"


def reopened_record(run: RunFolder, uri: str | None) -> Record:
    """The record of a run that has ended, to add to it; it keeps nothing if the run has none.

    Args:
        run: The run folder.
        uri: Tracking URI; by default the one that the run was sent to.
    """
    start = Journal(run.tracking).start()
    delivery = Delivery.of_run(run.path, uri or (start.uri if start else None))
    return Record(run, "add", delivery, enabled=start is not None)


def lacks(record: Record, *files: Path) -> bool:
    """Whether a record lacks a file as it is now, or waits to be sent: after a crash, or while a server is down.

    Args:
        record: The record; one that keeps nothing lacks nothing.
        files: Files of its folder.
    """
    if not record.enabled:
        return False
    kept = all(is_kept(record.journal, artifact_of(record.run.path, file)) for file in files)
    return not kept or record.delivery.waiting > 0


def parent_record(folder: Path, child: RunFolder, uri: str | None) -> Record:
    """The record of the MLflow run that is the parent of runs in a folder; it keeps nothing if they have none.

    Args:
        folder: The folder, which holds the files of the parent.
        child: One of the runs.
        uri: Tracking URI; see `tracking_uri` for what None means.
    """
    run, parent, start = RunFolder(folder), parent_of(child.path), Journal(child.tracking).start()
    delivery = Delivery.of_run(folder, uri, home=folder.resolve())
    if start is None or parent is None:
        return Record(run, "sweep", delivery, enabled=False)
    if not delivery.journal.exists():
        delivery.journal.append(events.Start(**parent, experiment=start.experiment, tags={}))
    return Record(run, "sweep", delivery, start.experiment)
