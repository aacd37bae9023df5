"""One process at a time makes a study, or takes the next trial of it.

A lock is freed by the kernel, or by the server, when the process that holds it is killed.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, MultipleResultsFound, NoSuchModuleError

from cnn_lstm.credentials import without_credentials
from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError, ResourceError
from cnn_lstm.locks import lock_file

PATIENCE = 60  # seconds to wait for a locked database, and for a process that has locked it
POLL = 0.1  # seconds between two attempts to take the lock of a server
LOCK_ID = {"number": zlib.crc32(b"cnn_lstm.sweep"), "name": "cnn_lstm.sweep"}


@dataclass(frozen=True)
class SessionLock:
    """How a session on a server takes a named lock without waiting, asks who has it, and releases it.

    A lock that is waited for in the server has no limit there, or one that many workers in turn would reach.
    """

    take: str
    holder: str
    release: str


_MYSQL = SessionLock("SELECT GET_LOCK(:name, 0)", "SELECT IS_USED_LOCK(:name)", "SELECT RELEASE_LOCK(:name)")
SESSION_LOCKS = {
    "postgresql": SessionLock(
        "SELECT pg_try_advisory_lock(:number)",
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
        "AND (classid::bigint << 32 | objid::bigint) = :number "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        "SELECT pg_advisory_unlock(:number)",
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
# options of a connection that bound how long it waits for the locks of rows and tables; MySQL has a bound of its own
PATIENT = {
    f"postgresql+{driver}": {"options": f"-c lock_timeout={PATIENCE}s", "connect_timeout": PATIENCE}
    for driver in ("psycopg", "psycopg2")
}


def parsed_url(storage: str) -> URL:
    """Address of a study's database.

    Args:
        storage: As SQLAlchemy writes it, for example `sqlite:///study.db`.

    Raises:
        ConfigError: If it is not an address, or processes cannot share the database.

    Example:
        >>> parsed_url("sqlite:///study.db").database
        'study.db'
    """
    try:
        url = make_url(storage)
    except ArgumentError as error:
        raise _unusable(storage, "it is not the address of a database") from error
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database in (None, "", ":memory:"):
        raise _unusable(storage, "workers cannot share a database in memory")
    if kind != "sqlite" and kind not in SESSION_LOCKS:
        raise _unusable(storage, f"{kind} is not supported")
    return url


@contextmanager
def exclusive(storage: str) -> Iterator[None]:
    """Keeps out every other process that uses the same storage: by a file next to SQLite's, else by the server.

    Args:
        storage: Address of the database.

    Raises:
        ResourceError: E609, if another process keeps its lock for a minute, such as one that was stopped.
    """
    url = parsed_url(storage)
    if url.get_backend_name() == "sqlite":
        try:
            lock = lock_file(Path(f"{url.database}.lock"), "sweep", PATIENCE)
        except OSError as error:  # also a TimeoutError, which names who has it
            raise _failing(storage, error.strerror or str(error)) from error
        with lock:
            yield
        return
    lock_of_server = SESSION_LOCKS[url.get_backend_name()]
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=connect_args(url))
    with engine.connect() as session:
        _take(session, lock_of_server, storage)
        try:
            yield
        finally:
            _ask(session, lock_of_server.release)


def _take(session: Connection, lock: SessionLock, storage: str) -> None:
    """Takes a lock, once each session that has it has released it within the patience."""
    holder, since = None, time.monotonic()
    while not _ask(session, lock.take):
        if (now := _ask(session, lock.holder)) != holder:
            holder, since = now, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            who = "a session that has not said its name" if holder is None else f"session {holder} of the server"
            raise _failing(storage, f"its lock was held for {PATIENCE:.0f} s by {who}")
        time.sleep(POLL)


def _ask(session: Connection, query: str) -> Any:
    return session.execute(
        text(query), {name: value for name, value in LOCK_ID.items() if f":{name}" in query}
    ).scalar()


def connect_args(url: URL) -> dict[str, Any]:
    """Options with which a connection waits for a minute at most; what the address says itself comes first.

    Args:
        url: Address of the database.

    Example:
        >>> connect_args(parsed_url("postgresql+psycopg://me@host/optuna"))["connect_timeout"]
        60
    """
    backend, _, driver = url.drivername.partition("+")
    patient = PATIENT.get(f"{backend}+{driver or 'psycopg2'}", {})
    return {name: value for name, value in patient.items() if name not in url.query}


@contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """Reports an error of a database, or of its driver, in one line.

    Args:
        storage: Address of the database.

    Raises:
        ConfigError: If the driver is missing.
        ResourceError: If the database does not answer, is locked or full.
        CheckpointError: E447, if the database is damaged.
    """
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        raise _unusable(storage, f"its driver is missing: {error}") from error
    except Exception as error:
        failure = error if isinstance(error, DBAPIError) else error.__cause__  # Optuna wraps it in errors of its own
        if why := _damage(failure):
            raise damaged(storage, why) from error
        if not isinstance(failure, DBAPIError):
            raise
        raise _failing(storage, str(failure.orig).strip().splitlines()[0]) from error


@contextmanager
def unreadable_as_damaged(storage: str) -> Iterator[None]:
    """Says in one line that values of a study cannot be read: Optuna expects what it has written itself.

    Args:
        storage: Address of the database.

    Raises:
        CheckpointError: E447, for an error that is neither ours nor that of the database.
    """
    try:
        yield
    except CnnLstmError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError) as error:
        raise damaged(storage, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def damaged(storage: str, why: str) -> CheckpointError:
    """The error of a damaged database.

    Args:
        storage: Address of the database.
        why: What is wrong with it.
    """
    fix = "choose a new --folder; the folders of the trials keep their runs"
    return CheckpointError(f"the study's database is damaged: {why}", without_credentials(storage), fix, code=447)


def _failing(storage: str, why: str) -> ResourceError:
    what, fix = without_credentials(why), "once it works again, run the same command with --resume"
    return ResourceError(f"the study's database fails: {what}", without_credentials(storage), fix, code=609)


def _damage(failure: BaseException | None) -> str:
    """What is wrong with the content of a database; empty if nothing is."""
    if isinstance(failure, MultipleResultsFound):
        return "it holds several studies of one name"
    text = str(failure.orig) if isinstance(failure, DBAPIError) else ""
    return text if any(words in text for words in ("malformed", "not a database")) else ""


def is_inside(storage: str, folder: Path) -> bool:
    """Whether a storage is a SQLite file in a folder, or below it.

    Args:
        storage: Address of the database.
        folder: The folder.

    Example:
        >>> folder = Path("runs/sweep")
        >>> [is_inside(f"sqlite:///{file}", folder) for file in ("runs/sweep/study.db", "runs/sweep/../study.db")]
        [True, False]
    """
    url = parsed_url(storage)
    file = str(url.database)
    if url.get_backend_name() != "sqlite" or file.startswith("file:"):
        return False
    return Path(file).resolve().is_relative_to(folder.resolve())


def _unusable(storage: str, why: str) -> ConfigError:
    fix = "give sqlite:///FILE, postgresql+psycopg://..., or mysql://..., with the driver installed"
    return ConfigError(f"--storage: {why}", without_credentials(storage), fix, code=249)
