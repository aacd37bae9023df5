"""One process at a time makes a study, or takes the next trial of it.

A lock is freed by the kernel, or by the server, when the process that holds it is killed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, MultipleResultsFound, NoSuchModuleError

from cnn_lstm.credentials import without_credentials
from cnn_lstm.errors import CheckpointError, ConfigError, ResourceError
from cnn_lstm.locks import lock_file

PATIENCE = 60  # seconds to wait for a locked database, and for a process that has locked it
# how a session on a server waits for a named lock, and releases it
SESSION_LOCKS = {
    "postgresql": ("SELECT pg_advisory_lock(:number)", "SELECT pg_advisory_unlock(:number)"),
    "mysql": ("SELECT GET_LOCK(:name, -1)", "SELECT RELEASE_LOCK(:name)"),
    "mariadb": ("SELECT GET_LOCK(:name, -1)", "SELECT RELEASE_LOCK(:name)"),
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
        ResourceError: E609, if another process keeps its lock, such as one that was stopped.
    """
    url = parsed_url(storage)
    if url.get_backend_name() == "sqlite":
        try:
            lock = lock_file(Path(f"{url.database}.lock"), "sweep", PATIENCE)
        except OSError as error:
            raise _failing(storage, error.strerror or str(error)) from error
        with lock:
            yield
        return
    acquire, release = SESSION_LOCKS[url.get_backend_name()]
    lock_id = {"number": zlib.crc32(b"cnn_lstm.sweep")} if ":number" in acquire else {"name": "cnn_lstm.sweep"}
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as session:
        session.execute(text(acquire), lock_id)
        try:
            yield
        finally:
            session.execute(text(release), lock_id)


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
            fix = "choose a new --folder; the folders of the trials keep their runs"
            raise CheckpointError(
                f"the study's database is damaged: {why}", without_credentials(storage), fix, code=447
            ) from error
        if not isinstance(failure, DBAPIError):
            raise
        raise _failing(storage, str(failure.orig).strip().splitlines()[0]) from error


def _failing(storage: str, why: str) -> ResourceError:
    what, fix = without_credentials(why), "once it works again, run the same command with --resume"
    return ResourceError(f"the study's database fails: {what}", without_credentials(storage), fix, code=609)


def _damage(failure: BaseException | None) -> str:
    """What is wrong with the content of a database; empty if nothing is."""
    if isinstance(failure, MultipleResultsFound):
        return "it holds several studies of one name"
    text = str(failure.orig) if isinstance(failure, DBAPIError) else ""
    return text if any(words in text for words in ("malformed", "not a database")) else ""


def _unusable(storage: str, why: str) -> ConfigError:
    fix = "give sqlite:///FILE, postgresql+psycopg://..., or mysql://..., with the driver installed"
    return ConfigError(f"--storage: {why}", without_credentials(storage), fix, code=249)
