"""A panel that does not fit in memory: files of a folder, which all processes of a machine map into memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm import specs
from cnn_lstm.data.mapped_build import PanelBuild, price_table, require_room
from cnn_lstm.data.mapped_files import PanelFiles
from cnn_lstm.data.panel_key import Request, digest_of, panel_key
from cnn_lstm.data.prepared import Prepared
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.sources.sql import database_file
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import Times
from cnn_lstm.errors import DataError, require
from cnn_lstm.files import disk_errors_in_one_line
from cnn_lstm.hints import first_names
from cnn_lstm.locks import LOCK, Lock, lock_file
from cnn_lstm.specs import Serializable

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?B)")
LEAST_BYTES = 1_000_000
LONGEST_BUILD = 7 * 86_400  # seconds


@dataclass(frozen=True)
class Mapped:
    """A panel in files, and what belongs to it.

    Attributes:
        prepared: The panel, and what is said of the table that it was made of.
        windows: Last rows of all complete windows, (n,).
        times: Distinct timestamps, ascending.
    """

    prepared: Prepared
    windows: Rows
    times: Times


class MappedPanel(Serializable):
    """The panel in files of a folder, which are mapped into memory: only what is read takes memory, while it is read.

    It is made once, block by block of symbols, by `cnn-lstm data build` or by the first command that needs it. A build
    that was stopped goes on behind its last whole block. A panel of other settings is made again in its place.

    The folder also holds the price table. Baselines and features that need all of it in memory are refused where it is
    larger than `max_memory`.

    Args:
        folder: Where the files lie; a few times the size of the prices is needed there.
        max_memory: Most that a build may take beyond what Python and its packages take, as a number of bytes or as
            text such as 512MiB.

    Example:
        >>> MappedPanel("panels/stocks", "2GiB").bytes
        2147483648
    """

    def __init__(self, folder: str, max_memory: str | int = "1GiB") -> None:
        self.folder, self.bytes = Path(folder), _size(max_memory)

    def panel_of(self, request: Request, recipe: Recipe, targets: Sequence[Target]) -> Mapped:
        """Finds the panel of the folder, or makes it.

        Args:
            request: Which prices are asked for.
            recipe: The recipe.
            targets: Its targets.

        Raises:
            DataError: If the prices are missing, damaged, or not what the recipe needs.
            ResourceError: If there is too little memory or disk space.
        """
        key = _key(request, recipe, targets)
        files = self._found(key)
        if files is None:
            with self._alone():
                files = self._found(key) or self._built(
                    key, PanelBuild(self.folder, self.bytes, request, recipe, targets)
                )
                return _mapped(files)  # before another command puts its panel in this one's place
        _prepared(files).repeat_messages()
        return _mapped(files)

    def _built(self, key: Mapping[str, Any], build: PanelBuild) -> PanelFiles:
        build.run(key)
        files = self._found(key)
        if files is None:
            raise DataError("the panel was removed meanwhile", str(self.folder), "run the command again", code=355)
        return files

    def _alone(self) -> Lock:
        """Waits until no other process builds here: of those of one fit, or of a sweep, the first one builds."""
        with disk_errors_in_one_line("cannot write the panel", self.folder, "choose another data.storage folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            return lock_file(self.folder / LOCK, "data build", LONGEST_BUILD)

    def prices(self) -> pd.DataFrame:
        """The checked price table of the panel that lies in the folder.

        Raises:
            ResourceError: E613, if it is too large for memory.
        """
        files = PanelFiles.find(self.folder)
        if files is None:
            raise DataError("the panel was removed meanwhile", str(self.folder), "run the command again", code=355)
        require_room("this command", files.state.rows, self.folder, self.bytes)
        return price_table(files)

    def is_whole(self, request: Request, recipe: Recipe, targets: Sequence[Target]) -> bool:
        """Whether the panel that is asked for is there; its files are read, and their checksums compared.

        Args:
            request: As for `panel_of`.
            recipe: As for `panel_of`.
            targets: As for `panel_of`.

        Raises:
            DataError: E356, if a file is damaged.
        """
        files = self._found(_key(request, recipe, targets))
        damaged = [] if files is None else files.damaged()
        if damaged:
            what, fix = f"the panel is damaged: {first_names(damaged)}", "remove the folder: the panel is made again"
            raise DataError(what, str(self.folder), fix, code=356)
        return files is not None

    def _found(self, key: Mapping[str, Any]) -> PanelFiles | None:
        """The panel of the folder, if it is made of what the key says."""
        files = PanelFiles.find(self.folder)
        if files is None or files.state.key not in (key, {**key, "gap_days": None}):
            return None
        # a checkpoint names the limit of gaps that the bars themselves gave its training
        return files if key["gap_days"] in (files.state.key["gap_days"], files.state.more["gap_days"]) else None


def _mapped(files: PanelFiles) -> Mapped:
    return Mapped(_prepared(files), files.array("windows"), files.array("times").view("datetime64[us]"))


def _prepared(files: PanelFiles) -> Prepared:
    more = files.state.more
    messages = tuple((name, text) for name, text in more["messages"])
    return Prepared(files.panel(), more["fingerprint"], dict(more["kinds"]), more["gap_days"], messages)


def _size(text: str | int) -> int:
    """A size in bytes, from a number or a text such as 2GiB."""
    found = SIZE.fullmatch(text) if isinstance(text, str) else None
    size = float(found[1]) * UNITS[found[2]] if found else float(text) if isinstance(text, int) else 0
    known, fix = size >= LEAST_BYTES, "give a number of bytes or a size such as 2GiB, at least 1MB"
    require(known, f"max_memory={text!r}", "data.storage", fix, code=276)
    return int(size)


def _key(request: Request, recipe: Recipe, targets: Sequence[Target]) -> dict[str, Any]:
    """All that a panel is made of: a digest of it, and the limit of gaps that the settings name."""
    span = [None if day is None else str(day) for day in (request.start, request.end)]
    symbols = None if request.symbols is None else list(request.symbols)
    prices = digest_of([_identity(request), symbols, span])
    neutral = replace(recipe, checks=replace(recipe.checks, max_gap_days=None))
    # None where nobody knows what the user's own code is now
    digest = panel_key(prices, neutral, targets) or os.urandom(16).hex()
    return {"digest": digest, "gap_days": recipe.checks.max_gap_days}


def _identity(request: Request) -> list[Any]:
    """What tells a source from others: its class and its settings, and of files their sizes and times of change.

    A source that holds a table, or anything else without a plain value, is like no other one.
    """
    source = request.source
    try:
        settings = _plain(vars(source))
    except TypeError:
        return [specs.class_path(type(source)), os.urandom(16).hex()]
    # a source of ours knows its files; of another one, each setting that is a path counts
    known = request.states()
    return [specs.class_path(type(source)), settings, list(_states_of_files(settings)) if known is None else known]


def _plain(value: Any) -> Any:
    """Settings as plain values.

    Raises:
        TypeError: If a value is none that settings are made of.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value))
    raise TypeError(type(value).__name__)


def _states_of_files(value: Any) -> Iterator[list[Any]]:
    """Path, size and time of change of each file, each file of a folder, and each database that a setting names."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _states_of_files(part)
    elif isinstance(value, str) and value and "\0" not in value:
        pattern = str(Path(database_file(value) or value).expanduser())
        for path in sorted(glob(pattern)):  # noqa: PTH207 - a setting may be an absolute pattern
            inside = sorted(Path(path).rglob("*")) if Path(path).is_dir() else [Path(path)]
            yield from ([str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in inside if file.is_file())
