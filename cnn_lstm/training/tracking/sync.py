"""Sends to MLflow what waits in the journal of a run."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.tracker import default_uri, tracking_uri


def sync(run: Path, uri: str | None) -> str:
    """Sends what waits in the journal of a run; a run that was killed without a word is told so.

    Args:
        run: The run folder.
        uri: Tracking URI; the run's own by default.

    Returns:
        What was done.

    Raises:
        ConfigError: If the folder has no journal.
        TrackingError: If the server does not take it, or another process is sending it.
    """
    journal = Journal(run / "tracking")
    first = next((event for event in journal.events() if event.kind == "start"), None)
    if first is None:
        raise ConfigError("no MLflow record", str(journal.path), "name the folder of a run of fit", code=241)
    delivery = _delivery(run, journal, uri, first.values["uri"])
    if not journal.take():
        raise TrackingError("another process is sending the record", str(run), "wait for its end", code=702)
    try:
        last = [event.kind for event in journal.events() if event.kind in ("start", "resume", "end")][-1]
        if last != "end":
            journal.append("end", status="KILLED")
        delivery.deliver()
    finally:
        journal.give_back()
    return f"{run}: {delivery.sent} events sent to {without_credentials(delivery.uri)}, run {delivery.run_id}"


def _delivery(run: Path, journal: Journal, uri: str | None, recorded: str | None) -> Delivery:
    """To the given server, else where the run was sent; that is null for the database beside the runs."""
    home = run.resolve().parent
    address = uri or tracking_uri(home, recorded)
    return Delivery(run, journal, address, beside=address == default_uri(home))
