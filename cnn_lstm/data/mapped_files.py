"""A panel in files: one for each array, written block by block, and read by mapping them into memory.

A build that is killed goes on behind its last whole block. Until the last one is written, the files lie in a folder of
another name, so that a panel is there whole or not at all.

Shapes: N panel rows, F features, H targets, n rows of a block.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.bounded import load_json, with_checksum, without_checksum
from cnn_lstm.data.windows import ARRAYS, TENSORS, Panel
from cnn_lstm.errors import DataError
from cnn_lstm.files import flush_folder, write_text_whole

LAST = ("windows", "times")  # written once all blocks are there
STATE = "panel.json"
FORMAT = 1
READ_BYTES = 8 << 20


@dataclass
class State:
    """What is written so far, in plain values.

    Attributes:
        key: What the panel is made of.
        symbols: Names of the symbols.
        segments: Gap-free stretches.
        arrays: Type, rows and columns of each array, by its name; CRC-32 once it is whole.
        more: What the builder keeps with it.
    """

    key: dict[str, Any]
    symbols: list[str] = field(default_factory=list)
    segments: int = 0
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> State | None:
        """What a file says; None if there is none, or another version has written it."""
        try:
            values = without_checksum(load_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
        known = values.pop("format", None) == FORMAT
        return cls(**values) if known and set(values) == set(cls.__dataclass_fields__) else None

    def write(self, path: Path) -> None:
        """Writes the file, whole."""
        write_text_whole(path, json.dumps(with_checksum({"format": FORMAT, **vars(self)})))

    @property
    def rows(self) -> int:
        """Panel rows, N."""
        return int(self.arrays["time"]["rows"]) if "time" in self.arrays else 0

    def size(self, name: str) -> int:
        """Bytes of an array."""
        array = self.arrays[name]
        return int(array["rows"] * array["columns"] * np.dtype(array["dtype"]).itemsize)


class PanelWriter:
    """Writes a panel block by block; a block holds whole symbols.

    Args:
        folder: Where the panel is to lie.
        key: What it is made of: an unfinished one of another key is removed, one of this key is gone on with.
        more: What the builder keeps with a panel that it begins.

    Attributes:
        state: What is written so far.
    """

    def __init__(self, folder: Path, key: dict[str, Any], more: dict[str, Any]) -> None:
        self.folder, self._unfinished = folder, folder / "unfinished"
        state = State.read(self._unfinished / STATE)
        if state is None or state.key != key:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished.mkdir(parents=True)
            state = State(key, more=more)
        self.state, self._files = state, dict[str, IO[bytes]]()
        for name in LAST:
            state.arrays.pop(name, None)
        for name in state.arrays:  # what a killed process has written behind the last whole block
            self._open(name).truncate(state.size(name))
            self._files[name].seek(0, os.SEEK_END)

    def __enter__(self) -> PanelWriter:
        """Returns the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files; what is not finished is gone on with by the next writer."""
        for file in self._files.values():
            file.close()

    def add(self, panel: Panel, numbers: Sequence[NDArray[np.float64]]) -> None:
        """Writes a block; it counts once `flush` has noted it.

        Args:
            panel: The panel of its symbols.
            numbers: Columns of the price table, each (n,).

        Raises:
            DataError: E354, if its symbols do not follow those before it.
        """
        state = self.state
        if state.symbols and panel.symbols[0] <= state.symbols[-1]:
            what = f"the symbol {panel.symbols[0]} comes behind {state.symbols[-1]}"
            fix = "the source has to give its blocks in the order of the symbols, each symbol in one block"
            raise DataError(what, "data.source", fix, code=354)
        for name in TENSORS:
            self.append(name, getattr(panel, name).numpy())
        self.append("symbol", panel.symbol + np.int32(len(state.symbols)))
        self.append("segment", panel.segment + np.int32(state.segments))
        self.append("time", panel.time.astype(np.int64))
        for k, values in enumerate(numbers):
            self.append(f"bars_{k}", values)
        state.symbols.extend(panel.symbols)
        state.segments += int(panel.segment[-1])

    def flush(self) -> None:
        """Notes what is written so far, so that a killed build goes on behind it."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.state.write(self._unfinished / STATE)

    def written(self) -> PanelFiles:
        """What is written so far; what is written to its arrays is written to the files."""
        return PanelFiles(self._unfinished, self.state, mode="r+")

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Writes further rows, (n,) or (n, columns), of an array."""
        values = np.ascontiguousarray(values)
        columns = values.shape[1] if values.ndim > 1 else 1
        fresh = {"dtype": values.dtype.str, "rows": 0, "columns": columns}
        array = self.state.arrays.setdefault(name, fresh)
        array["rows"] += len(values)
        (self._files.get(name) or self._open(name)).write(values.data)

    def finish(self) -> None:
        """Puts the whole panel in its place."""
        self.flush()
        files = self.written()
        for name, array in self.state.arrays.items():
            array["crc"] = files.crc(name)
        self.flush()
        place = self.folder / "panel"
        shutil.rmtree(place, ignore_errors=True)
        self._unfinished.replace(place)
        flush_folder(self.folder)

    def _open(self, name: str) -> IO[bytes]:
        path = self._unfinished / f"{name}.bin"
        self._files[name] = file = path.open("r+b" if path.exists() and name in self.state.arrays else "w+b")
        return file


class PanelFiles:
    """A panel that was written.

    Args:
        place: The folder of the files.
        state: What its file says.
        mode: As for `np.memmap`; what is written to the arrays stays in this process by default.
    """

    def __init__(self, place: Path, state: State, mode: Literal["c", "r+"] = "c") -> None:
        self._place, self.state, self._mode = place, state, mode

    @classmethod
    def find(cls, folder: Path) -> PanelFiles | None:
        """The panel of a folder, if there is one and it is whole."""
        place = folder / "panel"
        state = State.read(place / STATE)
        if state is None:
            return None
        files = cls(place, state)
        return files if all(files._has_its_size(name) for name in state.arrays) else None

    def panel(self) -> Panel:
        """The panel, mapped into memory."""
        arrays = {name: self.array(name) for name in ARRAYS}
        arrays["time"] = arrays["time"].view("datetime64[us]")
        return Panel.of_arrays(arrays, tuple(self.state.symbols))

    def array(self, name: str) -> NDArray[Any]:
        """One array, mapped into memory."""
        about = self.state.arrays[name]
        shape = (about["rows"], about["columns"]) if name in TENSORS else (about["rows"],)
        if not about["rows"]:
            return np.empty(shape, dtype=about["dtype"])
        return np.memmap(self._place / f"{name}.bin", dtype=about["dtype"], mode=self._mode, shape=shape)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an array."""
        with (self._place / f"{name}.bin").open("rb") as file:
            while chunk := file.read(READ_BYTES):
                yield chunk

    def crc(self, name: str) -> int:
        """CRC-32 of an array."""
        crc = 0
        for chunk in self.chunks(name):
            crc = zlib.crc32(chunk, crc)
        return crc

    def damaged(self) -> list[str]:
        """Names of the arrays whose bytes are not those that were written."""
        return [name for name, array in self.state.arrays.items() if self.crc(name) != array["crc"]]

    def _has_its_size(self, name: str) -> bool:
        path = self._place / f"{name}.bin"
        return path.is_file() and path.stat().st_size == self.state.size(name)
