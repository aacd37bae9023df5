"""Sends a journal to a tracking server: all events in order, each of them once."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

from cnn_lstm.bounded import load_json, with_checksum, without_checksum
from cnn_lstm.credentials import MASK, without_credentials
from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.files import replace_file
from cnn_lstm.hints import counted
from cnn_lstm.locks import take_folder
from cnn_lstm.training.tracking.events import Content, End, Start
from cnn_lstm.training.tracking.journal import Event, Journal
from cnn_lstm.training.tracking.remedies import in_short, remedy
from cnn_lstm.training.tracking.run_files import refuse_files_outside

if TYPE_CHECKING:
    from cnn_lstm.training.tracking.store import MlflowStore

log = logging.getLogger(__name__)
# Seconds per request, and no repetition by MLflow: we repeat requests ourselves, from the journal. MLflow may not print
# an address with its credentials at the end of a run.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow keeps its connections to a database as long as the process lives; one to a file costs nothing to open again
LITE = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
MOST = 500  # events of one request
INTERVAL = 5.0  # seconds between two deliveries
PAUSES = (5.0, 15.0)  # seconds after the first failure, and at most
PATIENCE = 10.0  # seconds that a server may keep a run waiting without a sign of life
MAKING = 60.0  # the same for a database, whose tables take seconds to make
DEFAULT_PLACE = "beside the runs"  # the key that run folders written before have in sent.json


def tracking_uri(home: Path, configured: str | None = None) -> str:
    """The server of the configuration, else the one of MLFLOW_TRACKING_URI, else a SQLite file next to the runs.

    A saved configuration holds no credentials. They are taken from the environment where it names the same server.

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
    """The SQLite file next to the runs."""
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"


class Place(TypedDict, total=False):
    """How far a journal has come to a server."""

    run_id: str | None
    offset: int


class Delivery:
    """The way of a journal to a server.

    How far it has come is kept in the run folder, by server: a run that is sent to another server, or moved to another
    folder, arrives there whole.

    Args:
        run: The run folder.
        journal: The run's journal.
        uri: Tracking URI, with its credentials.
        default: Whether the URI is the database next to the run folder, wherever that lies.
    """

    def __init__(self, run: Path, journal: Journal, uri: str, default: bool = False) -> None:
        self.run, self.journal, self.uri, self.default = run.resolve(), journal, uri, default
        self._key = DEFAULT_PLACE if default else without_credentials(uri)
        self._file = journal.folder / "sent.json"
        self._store: MlflowStore | None = None
        self._warned = False
        self.patience = PATIENCE if urlsplit(uri).scheme in ("http", "https") else MAKING
        self.sent = 0

    @classmethod
    def of_run(cls, run: Path, uri: str | None, home: Path | None = None) -> Delivery:
        """The delivery of a run folder's journal.

        Args:
            run: The run folder.
            uri: Tracking URI of the configuration; see `tracking_uri` for what None means.
            home: Folder that holds the default database; by default the one that the run folder lies in.
        """
        parent = run.resolve().parent
        address = tracking_uri(home or parent, uri)
        return cls(run, Journal(run / "tracking"), address, default=address == default_uri(parent))

    @property
    def run_id(self) -> str | None:
        """The run's identifier on the server, once it is known."""
        return self._place().get("run_id")

    @property
    def waiting(self) -> int:
        """Events that have not arrived yet."""
        return sum(1 for _ in self.journal.events(self._offset()))

    @property
    def again(self) -> str:
        """The command that sends the rest; it names the server where nothing but the run folder would."""
        named = self.default or without_credentials(os.environ.get("MLFLOW_TRACKING_URI", "")) == self._key
        address = "" if named else f" --tracking_uri {quote(self._key)}"
        return f"cnn-lstm sync-tracking {self.journal.folder.parent}{address}"

    @property
    def left(self) -> str:
        """What has not been sent, where it is, and the command that sends it."""
        return f"{self.waiting} events wait for MLflow in {self.journal.folder} — when it is back: {self.again}"

    def deliver(self) -> None:
        """Sends what the journal holds.

        Raises:
            TrackingError: If the server does not take it; the rest stays in the journal.
        """
        if not self.journal.exists() or self._offset() == self.journal.size():
            return
        if f"={MASK}" in self.uri:
            fix = f"set MLFLOW_TRACKING_URI to the whole address; then: cnn-lstm sync-tracking {self.run}"
            raise TrackingError("the address of MLflow lacks a secret, which is not saved", self.uri, fix, code=701)
        with suppress(OSError):  # else a power cut could leave less of the journal than was sent
            self.journal.flush()
        try:
            store = self._opened()
            for events in of_one_kind(self.journal.events(self._offset())):
                store.apply(events)
                self._write(self._read() | {self._key: {"run_id": store.run_id, "offset": events[-1].end}})
                self.sent += len(events)
        except Exception as error:  # anything that a server, a database or a network may raise
            where = without_credentials(self.uri)
            help_first = remedy(error, where)
            fix = f"{help_first}; then: {self.again}" if help_first else f"when it does: {self.again}"
            start = self.journal.start()
            reason = in_short(error, start.experiment if start else "")
            raise TrackingError(f"MLflow does not take the run: {reason}", where, fix, code=701) from error

    def _opened(self) -> MlflowStore:
        if self._store is None:
            from cnn_lstm.training.tracking.store import MlflowStore

            settings = SETTINGS | (LITE if urlsplit(self.uri).scheme.startswith("sqlite") else {})
            for name, value in settings.items():
                os.environ.setdefault(name, value)
            store = MlflowStore(self.uri, self.run, self.run_id)
            if self.run_id is not None and not store.knows_run():  # another database at the same address
                self._write({key: value for key, value in self._read().items() if key != self._key})
                store.run_id = None
            self._store = store
        return self._store

    def _offset(self) -> int:
        """Where the next event begins; of a journal that a power cut has shortened, all is sent again, each once."""
        offset = self._place().get("offset", 0)
        return offset if offset <= self.journal.size() else 0

    def _place(self) -> Place:
        return self._read().get(self._key, {})

    def _read(self) -> dict[str, Place]:
        try:
            places = without_checksum(load_json(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            if not self._warned:
                log.warning("[W371] a damaged file is passed over: the record is sent again — %s", self._file)
            self._warned = True
            return {}
        return {key: place for key, place in places.items() if _is_place(place)}

    def _write(self, places: dict[str, Place]) -> None:
        text = json.dumps(with_checksum(places), indent=2) + "\n"
        replace_file(self._file, lambda partial: partial.write_text(text, encoding="utf-8"))


def _is_place(place: object) -> bool:
    """Whether an entry of sent.json can be gone on from; without it, the run is sent from its start."""
    if not isinstance(place, dict) or not isinstance(place.get("run_id"), str | None):
        return False
    offset = place.get("offset", 0)
    return type(offset) is int and offset >= 0


def of_one_kind(events: Iterator[Event[Content]]) -> Iterator[list[Event[Content]]]:
    """Groups neighbours of one kind, one group per request.

    Args:
        events: In order.
    """
    for _, group in groupby(events, lambda event: event.content.kind):
        while part := list(islice(group, MOST)):
            yield part


def sync(run: Path, uri: str | None) -> str:
    """As `send_rest`, for a command of its own: nobody else may write in the run folder.

    Args:
        run: The run folder.
        uri: Tracking URI; by default the one that the run was sent to.

    Returns:
        What was done.

    Raises:
        ConfigError: If the folder has no journal, or another command writes there.
        TrackingError: If the server does not take it, or another process is sending it.
    """
    _started(Journal(run / "tracking"))
    with take_folder(run, "sync-tracking", "run"):
        return send_rest(run, uri)


def send_rest(run: Path, uri: str | None) -> str:
    """Sends what waits in the journal of a run; a record without an end gets one, since its process was killed.

    Args:
        run: The run folder.
        uri: Tracking URI; by default the one of MLFLOW_TRACKING_URI, else the database next to the run folder.

    Returns:
        What was done.

    Raises:
        ConfigError: If the folder has no journal; E296, if only the journal names the server; E297, if it names a file
            outside of the run.
        TrackingError: If the server does not take it, or another process is sending it.
    """
    journal = Journal(run / "tracking")
    delivery = Delivery.of_run(run, uri or _known_address(run, _started(journal).uri))
    refuse_files_outside(run, journal)
    if not journal.take("sync-tracking"):
        where = f"{run}: {journal.sender()}"
        raise TrackingError("another process is sending the record", where, "wait for its end", code=702)
    try:
        journal.end_broken_line()
        if not journal.has_ended():
            journal.append(End("KILLED"))
        delivery.deliver()
    finally:
        journal.give_back()
    return (
        f"{run}: {counted(delivery.sent, 'event')} sent to {without_credentials(delivery.uri)}, run {delivery.run_id}"
    )


def _started(journal: Journal) -> Start:
    """The beginning of a journal."""
    start = journal.start()
    if start is None:
        raise ConfigError("no MLflow record", str(journal.path), "name the folder of a run of fit", code=241)
    return start


def _known_address(run: Path, named: str | None) -> str | None:
    """The address of a journal, if the user's environment or the place of the run says the same.

    A run folder may come from a stranger, whose server it would name.
    """
    given, here = os.environ.get("MLFLOW_TRACKING_URI"), default_uri(run.resolve().parent)
    if named in (None, here) or (given is not None and without_credentials(given) == named):
        return named
    fix = "if you know it, add --tracking_uri with that address, or set MLFLOW_TRACKING_URI to it"
    raise ConfigError(f"only the run folder says where to send it: {named}", str(run), fix, code=296)


class Sender:
    """A thread that delivers while the training goes on.

    Args:
        delivery: What it calls.
        sample: Called before each delivery, with whether it is the last one; it logs metrics of the machine.
        quiet: Whether a server that is down gives no warning.
    """

    def __init__(self, delivery: Delivery, sample: Callable[[bool], None] | None = None, quiet: bool = False) -> None:
        self.delivery, self.sample, self.quiet = delivery, sample, quiet
        self.problem: TrackingError | None = None
        self._tried, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self) -> None:
        """Begins to deliver."""
        self._thread.start()

    def first_result(self) -> TrackingError | None:
        """Waits for the first delivery; returns what went wrong."""
        if not self._tried.wait(self.delivery.patience):
            where = without_credentials(self.delivery.uri)
            return TrackingError(f"MLflow does not answer within {self.delivery.patience:.0f} s", where, code=701)
        return self.problem

    def close(self) -> bool:
        """Delivers the rest; gives up on a server that does not answer.

        Returns:
            Whether everything has arrived.
        """
        self._closing.set()
        arrived, since = self.delivery.sent, time.monotonic()
        while self._thread.is_alive() and time.monotonic() - since < self.delivery.patience:
            self._thread.join(0.05)
            if self.delivery.sent > arrived:
                arrived, since = self.delivery.sent, time.monotonic()
        return not self._thread.is_alive() and self.problem is None

    def _work(self) -> None:
        pause = 0.0
        while True:
            last = self._closing.wait(pause)
            self._sample(last)
            pause = INTERVAL if self._delivered() else min(max(PAUSES[0], 2 * pause), PAUSES[1])
            self._tried.set()
            if last:
                return

    def _sample(self, last: bool) -> None:
        try:
            if self.sample is not None:
                self.sample(last)
        except Exception as error:  # a metric of the machine is not worth a record
            log.warning("no metrics of the machine: %s", in_short(error))
            self.sample = None

    def _delivered(self) -> bool:
        before, sent = self.problem, self.delivery.sent
        try:
            self.delivery.deliver()
        except TrackingError as error:
            self.problem = error
            if before is None and not self.quiet:
                kept = "the journal keeps it, the training goes on"
                helps = error.fix.partition("; then: ")[0] if "; then: " in error.fix else ""
                log.warning("%s — %s — %s", error.what, error.where, f"{helps}; {kept}" if helps else kept)
            return False
        self.problem = None
        if before is not None:
            log.warning("MLflow answers again: %d events of the journal have arrived", self.delivery.sent - sent)
        return True
