"""What a panel is made of, as one digest: equal keys give equal panels, and whatever could change one changes the key.

None stands for what nobody can prove: then nothing is kept.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm import specs
from cnn_lstm.data.panel_files import file_digest
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import microseconds

LAYOUT = 1  # of the files of a panel
ROOM = Path(__file__).parent  # its code decides what a panel is
PACKAGES = ("numpy", "pandas", "pyarrow", "TA-Lib")
STARTED = time.time_ns()
Digest = Callable[[Path], str]


@dataclass(frozen=True)
class Request:
    """Which prices are asked for.

    Attributes:
        source: Where they come from.
        symbols: Symbols; None for all.
        start: First day, ISO, or None.
        end: Day after the last one, ISO, or None.
    """

    source: PriceSource
    symbols: Sequence[str] | None
    start: str | None
    end: str | None

    def states(self) -> list[tuple[Any, ...]] | None:
        """What the disk says of each file that is read; None where something else than files is read.

        A file that is written again has another state, also where its size and its time are set back: the time of that
        change cannot be set.
        """
        try:
            files = self._files()
            return None if files is None else [(str(file), *file_state(file)) for file in files]
        except Exception:  # whatever is wrong with the files, loading them says it
            return None

    def key(self, digest: Digest = file_digest) -> str | None:
        """Digest of what the files hold and how they are read.

        Args:
            digest: Gives the digest of a file.

        Raises:
            OSError: If a file cannot be read.
        """
        files = self._files()
        if files is None:
            return None
        read = [(str(file), digest(file)) for file in files]
        attributes = {name: value for name, value in vars(self.source).items() if name != specs.ARGUMENTS}
        settings = {name: _text(value) for name, value in attributes.items()}
        return digest_of([_path(type(self.source)), settings, read, self.symbols, self.start, self.end])

    def _files(self) -> list[Path] | None:
        """Files that the source reads, if it is one of ours: nobody knows what a user's subclass reads."""
        ours = specs.defined_in(self.source).split(".")[0] == specs.__name__.split(".")[0]
        return self.source.files() if ours else None


def file_state(file: Path) -> tuple[int, int, int, int]:
    """Size, time of the last change, i-node and time of the last change of that, of a file.

    Raises:
        OSError: If there is none.
    """
    state = file.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino, state.st_ctime_ns


def table_key(table: pd.DataFrame) -> str:
    """Digest of a price table as a source returns it: its columns, types, values and the order of its rows.

    Example:
        >>> table = pd.DataFrame({"symbol": ["A", "B"], "close": [1.0, 2.0]})
        >>> table_key(table) == table_key(table[::-1])
        False
    """
    digest = hashlib.sha256(repr([(str(name), str(kind)) for name, kind in table.dtypes.items()]).encode())
    for name, kind in table.dtypes.items():
        if isinstance(kind, pd.DatetimeTZDtype):
            digest.update(microseconds(table[name]).tobytes())
        elif kind.kind in "biuf":
            digest.update(np.ascontiguousarray(table[name].to_numpy()).data)
        else:
            codes, values = pd.factorize(table[name])
            digest.update(json.dumps([str(value) for value in values]).encode() + codes.tobytes())
    return digest.hexdigest()


def panel_key(prices: str | None, recipe: Recipe, targets: Sequence[Target]) -> str | None:
    """Digest of prices, recipe and the code of both.

    Args:
        prices: That of the prices, from `Request.key` or `table_key`.
        recipe: The recipe.
        targets: Its targets.
    """
    own = [name.rpartition(".")[0] for name in recipe.features if "." in name.partition(":")[0]]
    own += [specs.defined_in(target) for target in targets]
    code = code_of_user(name for name in own if name.split(".")[0] != specs.__name__.split(".")[0])
    if prices is None or code is None:
        return None
    made_of = [recipe.to_plain(), recipe.digest_of_tables()]
    calendar = [version("exchange_calendars")] if recipe.exchange else []
    return digest_of([LAYOUT, prices, made_of, code_of_room(), [*_versions(), *calendar], code])


def digest_of(plain: Any) -> str:
    """SHA-256 of plain values.

    Example:
        >>> digest_of({"a": 1, "b": (2,)}) == digest_of({"b": [2], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@cache
def code_of_room() -> str:
    """Digest of the code of this room."""
    return digest_of([(str(file.relative_to(ROOM)), file_digest(file)) for file in sorted(ROOM.rglob("*.py"))])


@cache
def _versions() -> tuple[str, ...]:
    return (sys.version, *(version(name) for name in PACKAGES))


def code_of_user(modules: Iterable[str]) -> Mapping[str, str] | None:
    """Digests of the source files that a user's features and targets may depend on.

    These are their modules, and every module that is loaded from outside the installed packages: a function may call
    whatever its module has imported.

    Args:
        modules: Names of the modules that hold the features and targets.

    Returns:
        Digest by file, empty without any; None where a module has no file, as in a notebook, or its file has changed
        since this process began and may not be what was loaded.
    """
    named = sorted(set(modules))
    if not named:
        return {}
    try:
        own = [importlib.import_module(name) for name in named if name != "__main__"]
    except ImportError:
        return None
    files = [getattr(module, "__file__", None) for module in own]
    files += [getattr(sys.modules["__main__"], "__file__", None)] if "__main__" in named else []
    installed = tuple(os.path.realpath(place) for place in {sys.prefix, sys.base_prefix, str(ROOM.parent)})
    packages = {name.split(".")[0] for name in named}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # torch says that some of its objects are modules of files that do not exist
        loose = file and Path(file).is_absolute() and not os.path.realpath(file).startswith(installed)
        if loose or (file and name.split(".")[0] in packages):
            files.append(file)
    return _digests_of_code(files)


def _digests_of_code(files: Iterable[str | None]) -> dict[str, str] | None:
    digests = {}
    for file in dict.fromkeys(files):
        try:
            if file is None or Path(file).stat().st_mtime_ns > STARTED:
                return None
            digests[os.path.realpath(file)] = file_digest(Path(file))
        except OSError:
            return None
    return digests


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(value: Any) -> str:
    """A setting of a source as text that is the same in every process: sets have no order of their own."""
    if isinstance(value, (set, frozenset)):
        return repr(sorted(value, key=repr))
    if hasattr(value, "__dataclass_fields__") or (hasattr(value, "__dict__") and not isinstance(value, type)):
        return repr({name: _text(part) for name, part in vars(value).items()})
    return repr(value)
