"""Panels that were built before, in a folder: each is written whole, checked when it is read, and removed when old.

A panel is found by its key alone, which says everything that it was made of; see `panel_key`. What cannot be read or
written costs time and nothing else: the panel is built again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_lstm.bounded import load_json
from cnn_lstm.data.panel_files import DamagedPanelError, file_digest, read_panel, write_panel
from cnn_lstm.data.panel_key import file_state
from cnn_lstm.data.prepared import Prepared, plain_of
from cnn_lstm.files import reason_text, replace_file, replace_folder, size_text
from cnn_lstm.hints import counted

log = logging.getLogger(__name__)
AUTO, FOLDER = "auto", Path("runs/.panels")
# of a panel that is worth keeping by itself, features times rows: it takes some seconds to build
WORTH_KEEPING = 4_000_000
ENTRY, MEMORY = "entry.json", "files.json"
NAMED = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\.\d+\.partial")
FRESH = 2_000_000_000  # nanoseconds: a file that was just written may be written again within one tick of its clock
GB = 10**9
SHARE_OF_FREE = 0.5  # of the free disk space that a panel may take
_warned: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class PanelCache:
    """The panels of a folder.

    Args:
        folder: The folder, which is made when something is kept.
        limit: Most gigabytes of all panels together; those that were not used for longest are removed.
        least: Least features times rows of a panel that is kept.
    """

    folder: Path
    limit: float
    least: int

    @classmethod
    def of(cls, setting: str | None, limit: float) -> PanelCache | None:
        """The one of a setting: a folder, `auto`, or None for none."""
        if setting is None:
            return None
        automatic = setting == AUTO
        return cls(FOLDER if automatic else Path(setting).expanduser(), limit, WORTH_KEEPING if automatic else 0)

    @property
    def has_any(self) -> bool:
        """Whether there may be something to find: else nobody need know the key."""
        with suppress(OSError), os.scandir(self.folder) as entries:
            return any(NAMED.fullmatch(entry.name) for entry in entries)
        return False

    def find(self, key: str) -> Prepared | None:
        """The panel of a key, if it was kept and is intact; a damaged one is removed."""
        place = self._place(key)
        if not place.is_dir():
            return None
        try:
            entry = _read_entry(place / ENTRY, key)
            symbols = tuple(entry["symbols"])
            panel = read_panel(place, symbols, entry["digests"])
            messages = tuple((name, text) for name, text in entry["messages"])
            found = Prepared(panel, entry["fingerprint"], dict(entry["kinds"]), entry["gap_limit"], messages)
        except (DamagedPanelError, OSError, ValueError, KeyError, TypeError) as error:
            self._warn(f"[W387] a panel is damaged: {error}", place, "it is removed, and built again")
            shutil.rmtree(place, ignore_errors=True)
            return None
        with suppress(OSError):
            os.utime(place)  # used now
        return found

    def keep(self, key: str, prepared: Prepared) -> None:
        """Writes a panel, and removes old ones where all together are too large; a disk that refuses gives W386."""
        place, size = self._place(key), sum(array.nbytes for array in prepared.panel.arrays().values())
        if prepared.panel.values.numel() < self.least or size > self.limit * GB or place.is_dir():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > SHARE_OF_FREE * shutil.disk_usage(self.folder).free:
                raise OSError(f"{size_text(size)} would take more than half of the free space")
            replace_folder(place, lambda folder: _write(prepared, key, folder))
            self._remove_oldest(place)
        except OSError as error:
            fix = "the next command builds it again: set data.cache to another folder, or to null"
            self._warn(f"[W386] the panel cannot be kept: {reason_text(error, place)}", self.folder, fix)

    def digest(self, file: Path) -> str:
        """SHA-256 of a file; one that the disk says has not changed is not read again.

        Raises:
            OSError: If it cannot be read.
        """
        name, state, known = str(file.absolute()), list(file_state(file)), self._memory()
        if known.get(name, [])[:-1] == state:
            return str(known[name][-1])
        found = file_digest(file)
        if list(file_state(file)) == state and max(state[1], state[3]) < time.time_ns() - FRESH:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                text = json.dumps(known | {name: [*state, found]})
                replace_file(self.folder / MEMORY, lambda partial: partial.write_text(_sealed(text), encoding="utf-8"))
        return found

    def clean(self) -> tuple[int, int]:
        """Removes everything that was kept; returns the number of panels, and their bytes."""
        places = [place for place in self._places() if not place.name.startswith(".")]
        size = sum(map(_size, places))
        for place in self._places():
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            (self.folder / MEMORY).unlink(missing_ok=True)
            self.folder.rmdir()  # unless something else lies there
        return len(places), size

    def _place(self, key: str) -> Path:
        return self.folder / key[:32]

    def _places(self) -> list[Path]:
        """Folders of panels, those that a killed process has left unfinished among them."""
        with suppress(OSError):
            return [place for place in self.folder.iterdir() if NAMED.fullmatch(place.name) and place.is_dir()]
        return []

    def _remove_oldest(self, newest: Path) -> None:
        places = sorted((place for place in self._places() if place != newest), key=_used, reverse=True)
        total = _size(newest)
        for place in places:
            total += _size(place)
            if total > self.limit * GB:
                shutil.rmtree(place, ignore_errors=True)

    def _memory(self) -> dict[str, list[Any]]:
        """What is remembered of files: their state and digest by path."""
        try:
            known: dict[str, list[Any]] = load_json(_unsealed((self.folder / MEMORY).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}
        return known

    def _warn(self, what: str, where: Path, fix: str) -> None:
        if (str(self.folder), what) not in _warned:
            _warned.add((str(self.folder), what))
            log.warning("%s — %s — %s", what, where, fix)


def clean_text(cache: PanelCache | None) -> str:
    """Empties a cache, and says what was removed."""
    if cache is None:
        return "data.cache is null: nothing is kept\n"
    panels, size = cache.clean()
    return f"{counted(panels, 'panel')} removed, {size_text(size)}, from {cache.folder}\n"


def _write(prepared: Prepared, key: str, folder: Path) -> None:
    digests = write_panel(prepared.panel, folder)
    text = json.dumps({"key": key, "digests": digests, **plain_of(prepared)})
    (folder / ENTRY).write_text(_sealed(text), encoding="utf-8")


def _read_entry(path: Path, key: str) -> dict[str, Any]:
    entry: dict[str, Any] = load_json(_unsealed(path.read_text(encoding="utf-8")))
    if entry["key"] != key:
        raise DamagedPanelError("it is that of another key")
    return entry


def _sealed(text: str) -> str:
    """A text behind a line with its digest."""
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def _unsealed(sealed: str) -> str:
    """What `_sealed` was given.

    Raises:
        DamagedPanelError: If it is another text.
    """
    _, _, text = sealed.partition("\n")
    if _sealed(text) != sealed:
        raise DamagedPanelError(f"{ENTRY} has another digest")
    return text


def _used(place: Path) -> float:
    with suppress(OSError):
        return place.stat().st_mtime
    return 0.0


def _size(place: Path) -> int:
    total = 0
    for file in place.glob("*"):
        with suppress(OSError):
            total += file.stat().st_size
    return total
