"""What a stream keeps between two bars, and the file of it: numbers and text, no objects.

Shapes: n rows of a symbol, C columns of a bar, T window length, F features.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.bounded import load_json, require_stored
from cnn_lstm.data.exchange import elapsed
from cnn_lstm.data.times import utc_index
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.files import write_whole
from cnn_lstm.inference.adaptive import Learnt
from cnn_lstm.locks import take_file

FORMAT = 1
MOST_ROWS = 2**53
Version = tuple[int, int, int]  # of a file: inode, nanoseconds and bytes
COUNTS = ("seen", "unbroken", "complete")


@dataclass(frozen=True)
class Tail:
    """What is kept of one symbol.

    Attributes:
        time: Of the last rows, microseconds since 1970 in UTC, (n,).
        bars: Their columns, (n, C).
        window: Features of the last T rows, (T, F) float32; NaN where not known.
        seen: Rows so far.
        unbroken: Rows so far of the segment that the last one belongs to.
        complete: Rows up to the last one in this segment that miss no feature.
    """

    time: NDArray[np.int64]
    bars: NDArray[np.float64]
    window: Tensor
    seen: int
    unbroken: int
    complete: int

    @classmethod
    def empty(cls, columns: int, window: int, features: int) -> Tail:
        """That of a symbol without a bar: C columns, T rows of a window, F features."""
        unknown = torch.full((window, features), torch.nan)
        return cls(np.empty(0, dtype=np.int64), np.empty((0, columns)), unknown, 0, 0, 0)

    @classmethod
    def of_history(
        cls, time: NDArray[np.int64], bars: NDArray[np.float64], values: Tensor, segment: NDArray[np.int32], window: int
    ) -> Tail:
        """That of a symbol with a history, still with all of its rows.

        Args:
            time: Microseconds since 1970 in UTC, (n,).
            bars: Columns of the bars, (n, C).
            values: Features, (n, F); NaN where not known.
            segment: Number of the stretch without a gap that each row belongs to, (n,).
            window: Rows of a window, T.
        """
        same = segment == segment[-1]
        broken = np.flatnonzero(~(same & torch.isfinite(values).all(dim=1).numpy()))
        last = torch.full((window, values.shape[1]), torch.nan)
        last[-len(values[-window:]) :] = values[-window:]
        complete = len(time) - 1 - int(broken[-1]) if len(broken) else len(time)
        return cls(time, bars, last, seen=len(time), unbroken=int(same.sum()), complete=complete)

    def with_bar(self, moment: int, bar: NDArray[np.float64], broken: bool) -> Tail:
        """The tail with one more bar, whose features are not known yet, and still with all rows.

        Args:
            moment: Its time, in microseconds since 1970 in UTC.
            bar: Its columns, (C,).
            broken: Whether a gap lies before it, so that a new segment begins.
        """
        time, bars = np.append(self.time, moment), np.concatenate([self.bars, bar[None]])
        unbroken, complete = (1, 0) if broken else (self.unbroken + 1, self.complete)
        return Tail(time, bars, self.window, self.seen + 1, unbroken, complete)

    def with_features(self, row: Tensor, whole: bool) -> Tail:
        """The tail with the features of its last bar.

        Args:
            row: The features, (F,) float32.
            whole: Whether all are known.
        """
        window = torch.cat([self.window[1:], row[None]])
        return Tail(self.time, self.bars, window, self.seen, self.unbroken, self.complete + 1 if whole else 0)

    def cut(self, rows: int) -> Tail:
        """The tail with its last rows alone."""
        time, bars = self.time[-rows:].copy(), self.bars[-rows:].copy()
        return Tail(time, bars, self.window, self.seen, self.unbroken, self.complete)

    def require_sound(self, columns: int, window: int, features: int) -> None:
        """Refuses a tail of a file whose parts do not go together.

        Args:
            columns: Columns of a bar, C.
            window: Rows of a window, T.
            features: Number of features, F.

        Raises:
            ValueError: If they do not.
        """
        rows, counts = len(self.time), (self.seen, self.unbroken, self.complete)
        kinds = (self.time.dtype.str, self.bars.dtype.str, self.window.dtype) == ("<i8", "<f8", torch.float32)
        shapes = self.time.shape == (rows,) and self.bars.shape == (rows, columns)
        if not (kinds and shapes and rows and tuple(self.window.shape) == (window, features)):
            raise ValueError("arrays that do not go together")
        if not all(type(count) is int and 0 <= count <= self.seen for count in counts) or self.seen < rows:
            raise ValueError("counts that do not go together")
        if (np.diff(self.time) <= 0).any() or self.complete > self.unbroken or self.seen > MOST_ROWS:
            raise ValueError("bars out of their order")
        if np.isinf(self.bars).any() or torch.isinf(self.window).any():
            raise ValueError("numbers that no bar has")


def last_bars(tails: Mapping[str, Tail], columns: Sequence[str]) -> pd.DataFrame:
    """The last bar of each symbol that has come: symbol, timestamp and the columns, C of them."""
    last = np.array([tail.bars[-1] for tail in tails.values()]).reshape(len(tails), len(columns))
    when = utc_index(np.array([tail.time[-1] for tail in tails.values()], dtype=np.int64))
    keys = pd.DataFrame({"symbol": pd.array(list(tails), dtype="str"), "timestamp": when})
    return pd.concat([keys, pd.DataFrame(last, columns=list(columns))], axis=1)


def behind_a_gap(tails: Sequence[Tail], moment: int, limit: float, exchange: str) -> list[bool]:
    """Whether a gap lies between the last bar of each symbol and a moment.

    Args:
        tails: What is kept of each symbol; an empty one has no gap.
        moment: In microseconds since 1970 in UTC.
        limit: Longest pause that is not a gap, in days, or sessions of the exchange.
        exchange: Its code; empty for days.

    Example:
        >>> behind_a_gap([Tail.empty(1, 1, 1)], 0, 10.0, "")
        [False]
    """
    times = [int(tail.time[-1]) if len(tail.time) else moment for tail in tails]
    moments = elapsed(np.array([*times, moment], dtype=np.int64), exchange)
    gaps: list[bool] = (moments[-1] - moments[:-1] > round(limit * 86_400e6)).tolist()
    return gaps


@dataclass(frozen=True)
class StreamState:
    """All that a stream keeps.

    Attributes:
        weights: Digest of the weights that it forecasts with.
        contract: Digest of the contract of the checkpoint.
        columns: Columns of a bar, C of them.
        symbols: Symbols that may come.
        tails: What is kept of each symbol that has come.
        latest: Time of the last bar of any symbol, microseconds since 1970 in UTC; None before the first one.
        intervals: Target, symbol and what the intervals have learnt of them.
    """

    weights: str
    contract: str
    columns: Sequence[str]
    symbols: Sequence[str]
    tails: Mapping[str, Tail]
    latest: int | None
    intervals: Sequence[tuple[str, str, Learnt]]

    def require_sound(self, columns: Sequence[str], window: int, features: int) -> None:
        """Refuses a state of a file whose parts do not go together.

        Args:
            columns: Columns of a bar, C of them.
            window: Rows of a window, T.
            features: Number of features, F.

        Raises:
            ValueError: If they do not.
        """
        for tail in self.tails.values():
            tail.require_sound(len(columns), window, features)
        symbols = list(self.symbols)
        if list(self.columns) != list(columns) or not symbols or not all(isinstance(name, str) for name in symbols):
            raise ValueError("other columns or symbols")
        if symbols != sorted(set(symbols)) or not set(self.tails) <= set(symbols):
            raise ValueError("symbols that do not go together")
        ends = [int(tail.time[-1]) for tail in self.tails.values()]
        if self.latest is None and not ends:
            return
        if type(self.latest) is not int or not ends or self.latest != max(ends):
            raise ValueError("a last bar that is not there")


def version_of(path: Path) -> Version | None:
    """What tells a file from the one that replaces it; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def write_state(state: StreamState, path: Path, last: Version | None) -> Version | None:
    """Writes a state; an old file is replaced in one step, by one process at a time.

    Args:
        state: The state.
        path: The file.
        last: The version of it that the stream has read or written; None if it has not.

    Returns:
        The version that was written.

    Raises:
        ConfigError: E288, if another process writes the file; E289, if one has saved bars there that would be lost.
        ResourceError: If it cannot be written.
    """
    counts = {symbol: {name: getattr(tail, name) for name in COUNTS} for symbol, tail in state.tails.items()}
    plain = {"format": FORMAT, **vars(state), "tails": counts}
    arrays: dict[str, NDArray[Any]] = {"state": np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)}
    for number, tail in enumerate(state.tails.values()):
        parts = {"time": tail.time, "bars": tail.bars, "window": tail.window.numpy()}
        arrays |= {f"{name}_{number}": values for name, values in parts.items()}

    def save(partial: Path) -> None:
        with partial.open("wb") as file:  # given a path, numpy would change its name
            np.savez(file, allow_pickle=False, **arrays)

    with take_file(path, "stream", "state"):
        if last not in (None, version_of(path)):
            _require_no_other_bars(state, path)
        write_whole(path, save)
        return version_of(path)


def _require_no_other_bars(state: StreamState, path: Path) -> None:
    """Two services that run on one state would lose the bars of each other, though their saves never meet."""
    try:
        there = read_state(path, state.weights, state.contract).tails
    except Exception:  # damaged, or of another checkpoint: nothing there goes on with this stream
        return
    known = {symbol: tail.time[-1] for symbol, tail in state.tails.items()}
    other = [symbol for symbol, tail in there.items() if symbol not in known or tail.time[-1] > known[symbol]]
    if other:
        what = "another process has saved later bars in this state"
        where, fix = f"{path}: of {', '.join(other)}", "restore the stream from the file, or save in another one"
        raise ConfigError(what, where, fix, code=289)


def read_state(path: Path, weights: str, contract: str) -> StreamState:
    """The state of a file; use it inside `refused_if_damaged`.

    Args:
        path: The file.
        weights: Digest of the weights of the checkpoint at hand.
        contract: Digest of its contract.

    Raises:
        CheckpointError: If the file is missing, or of another checkpoint.
    """
    if not path.is_file():
        raise CheckpointError("no such state of a stream", str(path), "write one with Stream.save", code=411)
    # opened here, since numpy leaves a damaged file open
    with zipfile.ZipFile(path) as archive:
        require_stored(archive, path.stat().st_size)
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    plain = load_json(arrays["state"].tobytes())
    if (plain["format"], plain["weights"], plain["contract"]) != (FORMAT, weights, contract):
        what = "the state was saved by a stream of another checkpoint"
        raise CheckpointError(what, str(path), "use that checkpoint, or start from a history", code=410)
    tails = {}
    for number, (symbol, counts) in enumerate(plain["tails"].items()):
        time, bars, window = (arrays[f"{name}_{number}"] for name in ("time", "bars", "window"))
        tails[symbol] = Tail(time, bars, torch.from_numpy(window), **counts)
    names = ("columns", "symbols", "latest", "intervals")
    return StreamState(weights, contract, tails=tails, **{name: plain[name] for name in names})


@contextmanager
def refused_if_damaged(path: Path) -> Iterator[None]:
    """Says in one line that a state is damaged: zip, numpy, JSON and what reads their content may stumble in any way.

    Raises:
        CheckpointError: Instead of any other error.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        what = "the state of the stream is damaged"
        raise CheckpointError(what, str(path), "start from a history", code=411) from error
