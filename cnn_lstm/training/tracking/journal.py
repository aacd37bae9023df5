"""What a run has to tell its tracking server, in a file of the run folder, a JSON object a line.

Written first and sent later: a server that is down costs nothing and loses nothing. The file is only ever appended to,
each line in one write, so that a killed process leaves at most one broken line, which readers pass over.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cnn_lstm.errors import ResourceError
from cnn_lstm.files import try_lock


@dataclass(frozen=True)
class Event:
    """One line of the journal.

    Attributes:
        kind: What happened, for example `metrics`.
        at: When, in milliseconds since 1970, UTC.
        values: What is to be told.
        end: Byte of the file after the line.
    """

    kind: str
    at: int
    values: dict[str, Any]
    end: int


@dataclass
class Journal:
    """The journal of a run.

    Args:
        folder: Its folder within the run folder.
    """

    folder: Path
    _lock: IO[bytes] | None = field(default=None, init=False, repr=False)
    _mended: bool = field(default=False, init=False, repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "journal.jsonl"

    def exists(self) -> bool:
        """Whether the run has told anything yet."""
        return self.path.is_file()

    def append(self, kind: str, **values: Any) -> None:
        """Adds an event that happens now.

        Raises:
            ResourceError: If the run folder cannot be written.
        """
        event = {"kind": kind, "at": time.time_ns() // 1_000_000, **values}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            start = b"" if self._mended else self._missing_end()
            with self.path.open("ab", buffering=0) as file:
                file.write(start + json.dumps(event).encode() + b"\n")
            self._mended = True
        except OSError as error:
            raise ResourceError(
                f"cannot write the run folder: {error.strerror}", str(self.path), "free disk space", code=606
            ) from error

    def _missing_end(self) -> bytes:
        """The end of a line that a killed process broke off."""
        if not self.size():
            return b""
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return b"" if file.read(1) == b"\n" else b"\n"

    def events(self, offset: int = 0) -> Iterator[Event]:
        """Whole events from a byte of the file on, in order."""
        if not self.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                offset += len(line)
                if not line.endswith(b"\n"):
                    return  # it is being written
                with suppress(ValueError, KeyError, TypeError):  # broken off
                    values = json.loads(line)
                    yield Event(values.pop("kind"), values.pop("at"), values, offset)

    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size if self.exists() else 0

    def take(self) -> bool:
        """Whether this process is now the one that sends the journal; it stays so until it ends or gives back."""
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # a file system without locks
                self._lock = try_lock(self.folder / "lock")
        return self._lock is not None

    def give_back(self) -> None:
        """Lets another process send the journal."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
