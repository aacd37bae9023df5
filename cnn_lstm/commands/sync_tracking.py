"""`cnn-lstm sync-tracking`: sends to MLflow what waits in the journals of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnn_lstm.commands.words import OneLineParser
from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.tracker import default_uri, tracking_uri


def run(words: list[str]) -> None:
    """Runs `sync-tracking`.

    Args:
        words: `sync-tracking` and its arguments.
    """
    given = _parser().parse_args(words[1:])
    for folder in given.runs:
        print(sync(folder, given.tracking_uri))


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


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm sync-tracking", description="Sends what waits in the run folder to MLflow, each point once."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run")
    parser.add_argument(
        "--tracking_uri", metavar="URI", help="MLflow server or database; the one that the run was sent to by default"
    )
    return parser
