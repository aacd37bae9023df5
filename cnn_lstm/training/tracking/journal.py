"""What a run's record holds, in a file of the run folder, one JSON object per line.

Events are written first and sent later: a server that is down costs nothing and loses nothing. The file only grows, and
each line is one write, so that a killed process leaves at most one broken line, which readers skip.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Generic, TypeVar

from cnn_lstm.errors import ResourceError
from cnn_lstm.files import try_lock
from cnn_lstm.training.tracking.events import KINDS, Content, End, Resume, Start

ContentT = TypeVar("ContentT", bound=Content, covariant=True)


@dataclass(frozen=True)
class Event(Generic[ContentT]):
    """One line of the journal.

    Attributes:
        at: When it happened, in milliseconds since 1970, UTC.
        content: What happened.
        end: Byte of the file after the line.
    """

    at: int
    content: ContentT
    end: int

    @property
    def kind(self) -> str:
        """What happened in one word, for example `metrics`."""
        return self.content.kind


@dataclass
class Journal:
    """The journal of a run.

    Args:
        folder: Its folder within the run folder.
    """

    folder: Path
    _lock: IO[bytes] | None = field(default=None, init=False, repr=False)
    _last_line_whole: bool = field(default=False, init=False, repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "journal.jsonl"

    def exists(self) -> bool:
        """Whether the run has a record."""
        return self.path.is_file()

    def append(self, content: Content) -> None:
        """Adds an event that happens now.

        Raises:
            ResourceError: If the run folder cannot be written.
        """
        event = {"kind": content.kind, "at": time.time_ns() // 1_000_000, **vars(content)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            start = b"" if self._last_line_whole else self._missing_end()
            with self.path.open("ab", buffering=0) as file:
                file.write(start + json.dumps(event).encode() + b"\n")
            self._last_line_whole = True
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

    def events(self, offset: int = 0) -> Iterator[Event[Content]]:
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
                    fields = json.loads(line)
                    content, at = KINDS[fields.pop("kind")], fields.pop("at")
                    yield Event(at, content(**fields), offset)

    def start(self) -> Start | None:
        """The beginning of the record; None where there is none."""
        return next((event.content for event in self.events() if isinstance(event.content, Start)), None)

    def has_ended(self) -> bool:
        """Whether the record has come to an end since it last began or went on."""
        states = [event.content for event in self.events() if isinstance(event.content, Start | Resume | End)]
        return bool(states) and isinstance(states[-1], End)

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
