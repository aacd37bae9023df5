"""The MLflow record of a run, as a logger of Lightning's."""

from __future__ import annotations

import logging
import os
import uuid
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ResourceError
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking import identity
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.delivery import Delivery, Sender
from cnn_lstm.training.tracking.parent import parent_of

log = logging.getLogger(__name__)
EXPERIMENT = "cnn_lstm"
MACHINE = "system/"  # where MLflow's page looks for figures of the machine


class MLflowTracker(Logger):
    """Writes what happens into the run's journal, which a thread delivers to MLflow.

    Nothing here waits for a server while a fit runs, and a server that is down is a warning. A fit that is resumed
    goes on in the same MLflow run, and a point that it has already is not written again.

    Args:
        run: The run folder.
        command: `fit`, or what is done with its checkpoint later.
        delivery: Where the journal goes.
        experiment: Name of the experiment of a new run.
        strict: Whether a server that is down stops the command.
    """

    def __init__(
        self, run: RunFolder, command: str, delivery: Delivery, experiment: str = EXPERIMENT, strict: bool = False
    ) -> None:
        super().__init__()
        self.run, self.command, self.strict = run, command, strict
        self.journal, self.delivery, self._experiment = delivery.journal, delivery, experiment
        self._newest: dict[str, tuple[int, float]] = {}  # the last point of each figure
        self._params: dict[str, str] = {}
        self._machine: Any = None
        self._sender: Sender | None = None
        self._warned = False

    # -- what Lightning asks of a logger -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self._experiment

    @property
    def version(self) -> str:
        """Name of the run."""
        return self.run.path.resolve().name

    @property
    def save_dir(self) -> str:
        """The run folder, which Lightning takes as its log folder where this is the only logger."""
        return str(self.run.path)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes figures of a step that are not there yet."""
        at = 0 if step is None else step
        new = {name: float(value) for name, value in metrics.items() if self._is_new(name, at, float(value))}
        if new:
            self._newest |= {name: (at, value) for name, value in new.items()}
            self._write("metrics", step=at, values=new)
        if self._sender is not None and self.strict and self._sender.problem is not None:
            raise self._sender.problem

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Writes parameters; MLflow never changes one, so that another value than before is told in a tag."""
        given = vars(params) if isinstance(params, Namespace) else params
        values = {name: str(value) for name, value in given.items()}
        new = {name: value for name, value in values.items() if name not in self._params}
        changed = {name: value for name, value in values.items() if self._params.get(name, value) != value}
        self._params |= new
        if new:
            self._write("params", values=new)
        if changed:
            told = {f"resumed.{name}": f"{self._params[name]} -> {value}" for name, value in changed.items()}
            self._write("tags", values=told)

    # -- the life of a run ---------------------------------------------------------------------------------------

    @rank_zero_only
    def begin(self, config: str, resumed: bool) -> None:
        """Starts or continues the record.

        Args:
            config: The configuration as YAML text, without credentials.
            resumed: Whether a fit goes on from a checkpoint.

        Raises:
            TrackingError: If the tracker is strict and the server does not answer.
        """
        if self.command == "fit" and not (resumed and self.journal.exists()):
            self._start(config)
        else:
            self._recall()
        if self.command == "fit":
            if resumed:
                self._write("resume")
            self.log_hyperparams(identity.parameters(config))
        if self.journal.take():  # else the process that trains this run sends
            sample = self._sample if self.command == "fit" else None
            self._sender = Sender(self.delivery, sample, quiet=self.strict)
            self._sender.start()
        problem = self._sender.first_result() if self._sender and self.strict else None
        if problem is not None:
            raise problem

    @rank_zero_only
    def end(self, status: str) -> None:
        """Closes the record; what a server that is down has not taken stays in the run folder.

        Args:
            status: FINISHED, FAILED or KILLED; only of a fit.

        Raises:
            TrackingError: If the tracker is strict and something has not arrived.
        """
        if self.command == "fit":
            for name in ("metrics.csv", "history.png"):
                self.artifact(self.run.path / name)
            self._write("end", status=status)
        if self._sender is None:
            return
        arrived = self._sender.close()
        problem, self._sender = self._sender.problem, None
        self.journal.give_back()
        if self.strict and problem is not None:
            if status == "FINISHED":  # else it is on its way already
                raise problem
        elif not arrived:
            log.warning(
                "%d events wait for MLflow in %s — when it is back: cnn-lstm sync-tracking %s",
                self.delivery.waiting,
                self.journal.folder,
                self.run.path,
            )

    @rank_zero_only
    def dataset(self, data: MarketDataModule, source: Mapping[str, Any]) -> None:
        """Writes what the run is trained on.

        Args:
            data: A data module that has read its data.
            source: Class and arguments of its source, as the configuration says.
        """
        values = identity.dataset(data, source)
        self._write("dataset", **values)
        self._write("tags", values=identity.dataset_tags(values))

    @rank_zero_only
    def artifact(self, file: Path) -> None:
        """Keeps a file of the run folder, if it is there.

        Args:
            file: The file.
        """
        if file.is_file():
            self._write("artifact", file=str(file.relative_to(self.run.path)))

    @rank_zero_only
    def model(self, folder: Path, digest: str, step: int, register: str | None) -> None:
        """Keeps an MLflow model of the run folder.

        Args:
            folder: The model's folder.
            digest: What tells this checkpoint from others.
            step: Training step of the checkpoint.
            register: Name in the model registry; null to keep it with the run only.
        """
        self._write("model", folder=str(folder.relative_to(self.run.path)), digest=digest, step=step, register=register)

    # -- the journal ---------------------------------------------------------------------------------------------

    def _write(self, kind: str, **values: Any) -> None:
        try:
            self.journal.append(kind, **values)
        except ResourceError as error:
            if self.strict:
                raise
            if not self._warned:
                log.warning("%s — the training goes on without its record", error)
            self._warned = True

    def _start(self, config: str) -> None:
        self._write(
            "start",
            uid=uuid.uuid4().hex,
            name=self.version,
            experiment=self.name,
            tags=identity.code_tags(Path.cwd(), self.command),
            parent=parent_of(self.run.path),
            uri=None if self.delivery.beside else without_credentials(self.delivery.uri),
        )
        self._keep_texts({"config.yaml": config} | identity.uncommitted(Path.cwd()))

    def _keep_texts(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            file = self.run.path / name
            file.write_text(text)
            self.artifact(file)

    def _recall(self) -> None:
        """What the journal holds already."""
        for event in self.journal.events():
            if event.kind == "start":  # of a fit that began anew in the folder
                self._newest, self._params = {}, {}
            elif event.kind == "metrics":
                step = event.values["step"]
                self._newest |= {name: (step, value) for name, value in event.values["values"].items()}
            elif event.kind == "params":
                self._params |= event.values["values"]

    def _is_new(self, name: str, step: int, value: float) -> bool:
        """Whether a point is still missing: a resumed fit makes the same steps again, a later test may differ."""
        before, known = self._newest.get(name, (-1, 0.0))
        if self.command == "fit":
            return step > before
        return name != "epoch" and (step, value) != (before, known)  # Lightning counts no epochs then

    def _sample(self, last: bool) -> None:
        """Figures of the machine; in the sender's thread, which has to import mlflow anyway."""
        if self._machine is None:
            from cnn_lstm.training.tracking.machine import Machine

            self._machine = Machine()
            steps = [step for name, (step, _) in self._newest.items() if name.startswith(MACHINE)]
            self._samples = 1 + max(steps, default=-1)
        figures = {f"{MACHINE}{name}": value for name, value in self._machine.sample(now=last).items()}
        if figures:
            self._write("metrics", step=self._samples, values=figures)
            self._samples += 1


class TrackedData(Callback):
    """Tells the tracker of a fit what it is trained on, once that was read.

    Args:
        tracker: The tracker.
        source: Class and arguments of the source, as the configuration says.
    """

    def __init__(self, tracker: MLflowTracker, source: Mapping[str, Any]) -> None:
        self.tracker, self.source = tracker, source

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The data module has read its data."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, MarketDataModule) and self.tracker in trainer.loggers:
            self.tracker.dataset(data, self.source)


def tracking_uri(home: Path, configured: str | None = None) -> str:
    """The server of the configuration, else the one of MLFLOW_TRACKING_URI, else a SQLite file beside the runs.

    A saved configuration holds no credentials; they are taken from the environment where that names the same server.

    Args:
        home: Folder of the run folders.
        configured: What the configuration says.

    Example:
        >>> tracking_uri(Path("runs"), "https://mlflow.example.org")
        'https://mlflow.example.org'
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if configured is not None and not (given and without_credentials(given) == configured):
        return configured
    return given or default_uri(home)


def default_uri(home: Path) -> str:
    """The SQLite file beside the runs.

    Args:
        home: Folder of the run folders.
    """
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"
