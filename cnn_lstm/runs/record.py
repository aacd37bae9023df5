"""The MLflow record of a command: its options, its beginning and honest end, what it keeps."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse.typing import register_type
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from cnn_lstm.errors import TrackingError, interruption
from cnn_lstm.inference.pyfunc import save_pyfunc
from cnn_lstm.model.forecaster import CHECKPOINT_KEY
from cnn_lstm.training.interrupts import ended_by_sigterm
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.credentials import TrackingUri, without_credentials
from cnn_lstm.training.tracking.delivery import SETTINGS, Delivery
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.tracker import EXPERIMENT, MLflowTracker, TrackedData, default_uri, tracking_uri

log = logging.getLogger(__name__)
# what MLflow, or we for it, set in the environment
ENVIRONMENT = ("MLFLOW_TRACKING_URI", *SETTINGS)
Tracking = Literal["lenient", "strict"]

register_type(TrackingUri, serializer=without_credentials, deserializer=TrackingUri)


def add_tracking_arguments(parser: LightningArgumentParser) -> None:
    """Options of the record.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--mlflow", type=bool, default=True, help="Write to MLflow.")
    parser.add_argument(
        "--tracking_uri",
        type=TrackingUri | None,
        default=None,
        help="MLflow server or database; MLFLOW_TRACKING_URI by default, else mlflow.db next to the run folder.",
    )
    parser.add_argument(
        "--tracking", type=Tracking, default="lenient", help="Whether an MLflow that does not answer stops the command."
    )
    parser.add_argument(
        "--experiment", type=str | None, default=None, help="MLflow experiment; MLFLOW_EXPERIMENT_NAME or cnn_lstm."
    )
    parser.add_argument(
        "--register_model", type=str | None, default=None, help="Name under which fit registers the best model."
    )


class RunRecord:
    """What a command keeps in MLflow; without a tracker, nothing.

    Args:
        run: The run folder.
        command: Name of the command.
        config: Its configuration.
        text: The configuration as it is saved.
        resumed: Whether a fit goes on from a checkpoint.
    """

    def __init__(self, run: RunFolder, command: str, config: Any, text: str, resumed: bool) -> None:
        self.run, self.command, self.text, self.resumed = run, command, text, resumed
        self.register: str | None = config.register_model
        journal = Journal(run.tracking)
        self.tracker: MLflowTracker | None = None
        if config.mlflow and (command == "fit" or journal.exists()):
            home = run.path.resolve().parent
            uri = tracking_uri(home, config.tracking_uri)
            experiment = config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
            delivery = Delivery(run.path, journal, uri, beside=uri == default_uri(home))
            self.tracker = MLflowTracker(run, command, delivery, experiment, strict=config.tracking == "strict")

    def callbacks(self) -> list[Callback]:
        """What tells the tracker of the data of a fit."""
        if self.tracker is None or self.command != "fit":
            return []
        return [TrackedData(self.tracker, yaml.safe_load(self.text)["data"]["source"])]

    @contextmanager
    def kept(self, trainer: Trainer) -> Iterator[None]:
        """Begins the record, and ends it with what became of the command.

        Args:
            trainer: The trainer of the command; one that runs for a look only has no loggers.
        """
        if self.tracker is None or self.tracker not in trainer.loggers:
            self.tracker = None
            yield
            return
        try:
            with ended_by_sigterm(lambda: trainer.received_sigterm):
                self.tracker.begin(self.text, self.resumed)
                yield
        except BaseException as error:
            killed = interruption(error) is not None
            if killed:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C leaves at once
            self.tracker.end("KILLED" if killed else "FAILED")
            raise
        self.tracker.end("FINISHED")

    def log(self, metrics: dict[str, float]) -> None:
        """Logs figures of the command as a whole.

        Args:
            metrics: Figures by name.
        """
        if self.tracker is not None:
            self.tracker.log_metrics(metrics)

    def keep(self, *files: Path) -> None:
        """Keeps files of the run folder.

        Args:
            files: Those that are there are kept.
        """
        for file in files:
            if self.tracker is not None:
                self.tracker.artifact(file)

    def keep_model(self) -> None:
        """Makes the best checkpoint an MLflow model, and keeps it.

        Raises:
            TrackingError: If that fails and tracking is strict; else it is a warning, since the fit is done.
        """
        best = self.run.checkpoints / "best.ckpt"
        if self.tracker is None or not best.is_file():
            return
        checkpoint = torch.load(best, weights_only=True, map_location="cpu")
        try:
            save_pyfunc(best, self.run.model)
        except Exception as error:  # whatever MLflow has to say
            failure = TrackingError(
                f"no MLflow model was made: {type(error).__name__}: {error}", str(self.run.model), code=703
            )
            if self.tracker.strict:
                raise failure from error
            log.warning("%s — %s", failure.what, failure.where)
            return
        digest = checkpoint[CHECKPOINT_KEY]["digest"]
        self.tracker.model(self.run.model, digest, checkpoint["global_step"], self.register)

    def where(self) -> dict[str, str]:
        """How to look at the record."""
        if self.tracker is None:
            return {}
        uri = without_credentials(self.tracker.delivery.uri)
        return {"MLflow": uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"}
