"""Sends to MLflow what waits in the journal of a run."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.events import End
from cnn_lstm.training.tracking.journal import Journal


def sync(run: Path, uri: str | None) -> str:
    """Sends what waits in the journal of a run; a record without an end gets one, since its process was killed.

    Args:
        run: The run folder.
        uri: Tracking URI; by default the one that the run was sent to.

    Returns:
        What was done.

    Raises:
        ConfigError: If the folder has no journal.
        TrackingError: If the server does not take it, or another process is sending it.
    """
    journal = Journal(run / "tracking")
    start = journal.start()
    if start is None:
        raise ConfigError("no MLflow record", str(journal.path), "name the folder of a run of fit", code=241)
    delivery = Delivery.of_run(run, uri or start.uri)
    if not journal.take():
        raise TrackingError("another process is sending the record", str(run), "wait for its end", code=702)
    try:
        if not journal.has_ended():
            journal.append(End("KILLED"))
        delivery.deliver()
    finally:
        journal.give_back()
    return f"{run}: {delivery.sent} events sent to {without_credentials(delivery.uri)}, run {delivery.run_id}"
