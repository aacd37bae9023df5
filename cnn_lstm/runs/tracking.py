"""What a run keeps in MLflow: the options of its record, its beginning and end, its model."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser

from cnn_lstm.credentials import TrackingUri, without_credentials
from cnn_lstm.errors import TrackingError, interruption
from cnn_lstm.inference.pyfunc import save_pyfunc
from cnn_lstm.model.contract import digest_of
from cnn_lstm.runs.beginning import Beginning
from cnn_lstm.training.interrupts import ended_by_sigterm
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import LITE, SETTINGS, Delivery
from cnn_lstm.training.tracking.record import EXPERIMENT, Record, status_of

log = logging.getLogger(__name__)
# what MLflow sets in the environment, and what we set for it
ENVIRONMENT = ("MLFLOW_TRACKING_URI", *SETTINGS, *LITE)
Tracking = Literal["lenient", "strict"]

# an address without secrets comes back as it was given, and YAML knows no class derived from str
register_type(TrackingUri, serializer=lambda uri: without_credentials(str(uri)), deserializer=TrackingUri)


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


def record_of_run(run: RunFolder, command: str, config: Any) -> Record:
    """The record of a command that works in a run folder; only a fit begins one.

    Args:
        run: The run folder.
        command: Name of the command.
        config: Its configuration.
    """
    delivery = Delivery.of_run(run.path, config.tracking_uri)
    return Record(
        run,
        command,
        delivery,
        config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT,
        required=config.tracking == "strict",
        register=config.register_model,
        enabled=config.mlflow and (command == "fit" or delivery.journal.exists()),
    )


@contextmanager
def recording(record: Record, config: str, resumed: bool) -> Iterator[None]:
    """Begins a record, and ends it with what became of the command.

    Args:
        record: The record.
        config: The configuration as it is saved.
        resumed: Whether a fit goes on from a checkpoint.
    """
    with record.ended() if record.enabled else nullcontext(), _interruptible(record):
        record.begin(config, resumed)
        yield


@contextmanager
def recorded_fit(beginning: Beginning, terminated: Callable[[], bool]) -> Iterator[None]:
    """Ends the record of a fit with what became of it, if it has begun; a fit of no epochs begins at its end.

    Args:
        beginning: It begins the record when the training starts.
        terminated: Whether somebody else has handled a SIGTERM already, such as a trainer's loops.
    """
    with ExitStack() as ends, _interruptible(beginning.record, terminated):
        ends.push(lambda kind, error, trace: beginning.begun and beginning.record.end(status_of(error)))
        yield
        beginning.begin()


@contextmanager
def _interruptible(record: Record, terminated: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Makes SIGTERM an orderly end of a command with a record, and lets a second Ctrl-C leave at once."""
    if not record.enabled:
        yield
        return
    try:
        with ended_by_sigterm(terminated):
            yield
    except BaseException as error:
        if interruption(error) is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C leaves at once
        raise


def keep_model(record: Record) -> None:
    """Makes the best checkpoint of a run an MLflow model, and keeps it in the run's record.

    Args:
        record: The record.

    Raises:
        TrackingError: If that fails and MLflow is required; else it is a warning, since the fit is done.
    """
    best, folder = record.run.checkpoints / "best.ckpt", record.run.model
    if not record.enabled or not best.is_file():
        return
    checkpoint = torch.load(best, weights_only=True, map_location="cpu")
    try:
        save_pyfunc(best, folder)
    except Exception as error:  # anything that MLflow may raise
        failure = TrackingError(f"no MLflow model was made: {type(error).__name__}: {error}", str(folder), code=703)
        if record.required:
            raise failure from error
        log.warning("%s — %s", failure.what, failure.where)
        return
    record.model(folder, digest_of(checkpoint), checkpoint.get("global_step", 0))  # an ensemble has no step
