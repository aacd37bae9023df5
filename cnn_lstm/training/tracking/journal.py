"""What a run's record holds, in a file of the run folder, one JSON object per line.

Events are written first and sent later: a server that is down costs nothing and loses nothing. The file only grows, and
each line is one write, so that a killed process leaves at most one broken line, which readers skip.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from cnn_lstm.bounded import load_json, with_checksum, without_checksum
from cnn_lstm.credentials import clean
from cnn_lstm.files import disk_errors_in_one_line, flush_with_name, make_folder
from cnn_lstm.locks import LOCK, Lock, holder_of, try_lock
from cnn_lstm.training.metric_names import all_grouped, grouped
from cnn_lstm.training.tracking.event_checks import event_of
from cnn_lstm.training.tracking.events import Content, End, Metrics, Params, Resume, Start

log = logging.getLogger(__name__)
# where a flipped bit has taken the end of a line, or a kill has left none
GLUED = re.compile(rb'(?<=\})[^\n,\]](?=\{"kind": )', re.DOTALL)
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


@dataclass
class Journal:
    """The journal of a run.

    Args:
        folder: Its folder within the run folder.
    """

    folder: Path
    _lock: Lock | None = field(default=None, init=False, repr=False)
    _damaged: set[int] = field(default_factory=set, init=False, repr=False)
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
        event = {"kind": content.kind, "at": time.time_ns() // 1_000_000, **clean(vars(content))}
        self._write(json.dumps(with_checksum(event)).encode() + b"\n")

    def end_broken_line(self) -> None:
        """Ends a line that a killed process broke off, so that it is named as damaged; only for who took the journal.

        Raises:
            ResourceError: If the run folder cannot be written.
        """
        self._write(b"")

    def _write(self, line: bytes) -> None:
        with disk_errors_in_one_line("cannot write the run folder", self.path, "free disk space"):
            make_folder(self.folder, parents=False)  # and not the run folder, which may have been moved
            content = line if self._last_line_whole else self._missing_end() + line
            with self.path.open("ab", buffering=0) as file:
                file.write(content)
            self._last_line_whole = True

    def flush(self) -> None:
        """Waits until all lines are on the disk.

        Raises:
            OSError: If they cannot be written.
        """
        if self.exists():
            flush_with_name(self.path)

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
                for part in GLUED.split(line):
                    try:
                        at, content = event_of(without_checksum(load_json(part)))
                    except ValueError:
                        self._name_damaged(offset - len(line), len(line))
                    else:
                        yield Event(at, content, offset)

    def _name_damaged(self, begin: int, length: int) -> None:
        """Warns once of a line that a kill has broken off, or whose content does not have its checksum."""
        if begin not in self._damaged:
            self._damaged.add(begin)
            where = f"{self.path}: bytes {begin} to {begin + length}"
            log.warning("[W370] a damaged line of the record is skipped — %s — what follows it is kept", where)

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

    def take(self, command: str) -> bool:
        """Whether this process is now the one that sends the journal; it stays so until it ends or gives back.

        Args:
            command: Its command, for others that would send it.
        """
        if self._lock is None:
            self.folder.mkdir(exist_ok=True)
            self._lock = try_lock(self.folder / LOCK)
            if self._lock is not None:
                self._lock.sign(command)
        return self._lock is not None

    def sender(self) -> str:
        """Who sends the journal, for people."""
        return holder_of(self.folder / LOCK)

    def give_back(self) -> None:
        """Lets another process send the journal."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class KnownValues:
    """The last point of each metric, and the parameters: a resumed fit and a repeated test write no point twice.

    Args:
        fit: Whether a fit writes the record: when resumed, it repeats steps. Later commands may repeat a step with
            another value.
    """

    def __init__(self, fit: bool) -> None:
        self.fit = fit
        self._points: dict[str, tuple[int, float]] = {}  # step and value
        self._params: dict[str, str] = {}

    def named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics under the names that the record gives them: with groups, but in one that an earlier version began.

        Args:
            metrics: Metrics by Lightning's names.
        """
        former = any(grouped(name) != name for name in self._points)
        return dict(metrics) if former else all_grouped(metrics)

    def recall(self, journal: Journal) -> None:
        """Reads what a journal holds.

        Args:
            journal: The journal of the record.
        """
        for event in journal.events():
            content = event.content
            if isinstance(content, Start):  # of a fit that began again in the folder
                self._points, self._params = {}, {}
            elif isinstance(content, Metrics):
                self._points |= {name: (content.step, value) for name, value in content.values.items()}
            elif isinstance(content, Params):
                self._params |= content.values

    def add_metrics(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """Adds metrics of a step; returns those that were missing.

        Args:
            values: Metrics by name.
            step: The step.
        """
        new = {name: value for name, value in values.items() if self._is_new(name, step, value)}
        self._points |= {name: (step, value) for name, value in new.items()}
        return new

    def _is_new(self, name: str, step: int, value: float) -> bool:
        last = self._points.get(name, (-1, 0.0))
        if self.fit:
            return step > last[0]
        return name != "epoch" and (step, value) != last  # Lightning counts no epochs then

    def add_params(self, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Adds parameters; returns the new ones, and `before -> now` of those that have another value.

        Args:
            values: Parameters by name.
        """
        new = {name: value for name, value in values.items() if name not in self._params}
        self._params |= new
        changed = {name: value for name, value in values.items() if self._params[name] != value}
        return new, {name: f"{self._params[name]} -> {value}" for name, value in changed.items()}

    def next_step(self, prefix: str) -> int:
        """The step after the last one of the metrics whose names begin with a prefix.

        Args:
            prefix: The prefix.
        """
        return 1 + max((step for name, (step, _) in self._points.items() if name.startswith(prefix)), default=-1)
