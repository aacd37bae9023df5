"""Facts whose future values are known ahead, such as earnings dates: from a table of their own to features.

Shapes: n rows of prices, N sessions of a table, C facts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import KEYS, day
from cnn_lstm.data.features import Feature
from cnn_lstm.data.frames import price_table
from cnn_lstm.data.side_files import frame_of, require_columns
from cnn_lstm.data.sources.base import known_zone
from cnn_lstm.data.symbol_rows import rows_by_symbol
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import microseconds
from cnn_lstm.errors import DataError, require
from cnn_lstm.hints import counted, first_names

if TYPE_CHECKING:
    from cnn_lstm.data.arrow_frames import Frame

    Table = str | Path | Frame
else:
    Table = str  # a configuration names a file; a frame exists in Python alone

Aggregate = Literal["mean", "sum", "max", "last"]
FAMILY = "known ahead"
EVERY = "*"  # the symbol of facts that hold for all; no symbol has this name
WHERE = "known_future"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KnownFuture:
    """Facts whose future values are known ahead (`data.known_future` in YAML).

    The table has a column `timestamp`, a column for each fact, and `symbol` unless the facts hold for all symbols. It
    has one row per session, holidays left out, and reaches beyond the last bar. The feature of a fact at a bar is its
    aggregate over the sessions of a target's interval, which are counted in this table alone.

    Args:
        table: CSV, Parquet or Feather file; in Python also a frame of pandas, Polars or Arrow.
        columns: Names of the facts; their cells are numbers, for example 1 on the day of an event.
        aggregate: What a fact is over an interval of several sessions: mean, sum, max, or its last value.
        tz: Zone of times without one, as for `PriceFiles`; dates have none.

    Raises:
        ConfigError: If an argument is out of its range.

    Example:
        >>> KnownFuture("events.csv", ["earnings"], "max").columns
        ['earnings']
    """

    table: Table
    columns: list[str]
    aggregate: Aggregate = "mean"
    tz: str | None = None

    def __post_init__(self) -> None:
        require_columns(self.columns, "data.known_future.columns")
        known = self.aggregate in get_args(Aggregate)
        fix = f"one of {', '.join(get_args(Aggregate))}"
        require(known, f"aggregate={self.aggregate!r}", "data.known_future", fix)
        if self.tz is not None:
            known_zone(self.tz, "data.known_future.tz")

    def facts(self, targets: Sequence[Target]) -> tuple[AheadFact, ...]:
        """One feature for each fact and interval of a target, in this order.

        Example:
            >>> from cnn_lstm.data.targets import ForwardReturn
            >>> [one.name for one in KnownFuture("x.csv", ["earnings"]).facts([ForwardReturn(1, 0), ForwardReturn(5)])]
            ['earnings_ahead_1', 'earnings_ahead_2_6']
        """
        spans = dict.fromkeys((target.delay + 1, target.reach) for target in targets)
        return tuple(AheadFact.of(name, *span, self.aggregate) for name in self.columns for span in spans)

    def load(self) -> FutureTable:
        """Reads and checks the table.

        Raises:
            DataError: If it is missing or damaged.
        """
        return _read(self)


@dataclass(frozen=True)
class AheadFact:
    """A feature of a fact that is known ahead, as a checkpoint says it.

    Attributes:
        name: Name of the feature.
        fact: Column of the table.
        first: First session after the bar that counts, 1 for the next one.
        last: Last session that counts.
        aggregate: What becomes of several sessions.
    """

    name: str
    fact: str
    first: int
    last: int
    aggregate: str

    @classmethod
    def of(cls, fact: str, first: int, last: int, aggregate: str) -> AheadFact:
        """That of a fact and an interval, with its name."""
        span = f"{first}" if first == last else f"{first}_{last}"
        return cls(f"{fact}_ahead_{span}", fact, first, last, aggregate)

    def over(self, values: Floats, rows: NDArray[np.intp]) -> Floats:
        """The fact over the sessions that follow rows, (n,), of its values (N,): (n,).

        Term by term, so that the bits do not depend on the length of the table.
        """
        if self.aggregate == "last":
            return values[rows + self.last]
        total = values[rows + self.first].copy()
        for step in range(self.first + 1, self.last + 1):
            total = np.maximum(total, values[rows + step]) if self.aggregate == "max" else total + values[rows + step]
        return total / (self.last - self.first + 1) if self.aggregate == "mean" else total

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    def feature(self, table: FutureTable, open_end: bool) -> Feature:
        """The feature.

        Args:
            table: The facts.
            open_end: Whether a bar whose interval is not in the table yet has no value, instead of an error.
        """
        return Feature(self.name, _Ahead(self, table, open_end), 0, (), FAMILY)


@dataclass(frozen=True)
class _Ahead:
    """The function of a feature."""

    fact: AheadFact
    table: FutureTable
    open_end: bool

    def __call__(self, bars: pd.DataFrame) -> Floats:
        return self.table.over(self.fact, bars, self.open_end)


@dataclass(frozen=True, eq=False)
class FutureTable:
    """A checked table of facts.

    Attributes:
        columns: Names of the facts, (C,).
        sessions: Times of each symbol's sessions, ascending, microseconds since 1970 in UTC, (N,).
        values: Facts of each symbol's sessions, (N, C).
        place: The file, for messages.
    """

    columns: tuple[str, ...]
    sessions: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, Floats]
    place: str

    def digest(self) -> str:
        """SHA-256 of all that it says."""
        digest = hashlib.sha256(repr((self.columns, list(self.sessions))).encode())
        for symbol, times in self.sessions.items():
            digest.update(np.ascontiguousarray(times, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(self.values[symbol], dtype="<f8").tobytes())
        return digest.hexdigest()

    def over(self, fact: AheadFact, bars: pd.DataFrame, open_end: bool = False) -> Floats:
        """A fact over the sessions that follow each bar, (n,).

        Args:
            fact: The fact, and which sessions.
            bars: Symbol and timestamp of the bars; no other column is looked at.
            open_end: Whether a bar whose sessions are not all there has NaN, instead of an error.

        Raises:
            DataError: E374, a bar has no session in the table; E375, the table ends too early.
        """
        values, moments = np.empty(len(bars)), microseconds(bars["timestamp"])
        for rows in rows_by_symbol(bars["symbol"]):
            symbol = str(bars["symbol"].iloc[rows].iloc[0])
            values[rows] = self._of_symbol(fact, symbol, moments[rows], open_end)
        return values

    def _of_symbol(self, fact: AheadFact, symbol: str, moments: NDArray[np.int64], open_end: bool) -> Floats:
        key = EVERY if EVERY in self.sessions else symbol
        if key not in self.sessions:
            what, fix = f"{WHERE} has no row of {symbol}", "add its sessions, or leave the symbol out"
            raise DataError(what, f"{self.place} has {first_names(list(self.sessions))}", fix, code=374)
        sessions = self.sessions[key]
        rows = np.searchsorted(sessions, moments)
        lacking = sessions[np.minimum(rows, len(sessions) - 1)] != moments
        if lacking.any():
            raise self._no_session(symbol, moments[lacking], sessions)
        known = rows + fact.last < len(sessions)
        if not known.all() and not open_end:
            raise self._too_short(fact, symbol, moments[~known], len(sessions) - 1 - int(rows.max()))
        values = np.full(len(moments), np.nan)
        values[known] = fact.over(self.values[key][:, self.columns.index(fact.fact)], rows[known])
        return values

    def _no_session(self, symbol: str, moments: NDArray[np.int64], sessions: NDArray[np.int64]) -> DataError:
        where = f"{symbol} @ {_day(moments[0])}, {counted(len(moments), 'row')}"
        span = f"{self.place} runs from {_day(sessions[0])} to {_day(sessions[-1])}"
        fix = "give it one row for each session of the prices, and those after the last one"
        return DataError(f"{WHERE} has no row of a session of the prices", f"{where}; {span}", fix, code=374)

    def _too_short(self, fact: AheadFact, symbol: str, moments: NDArray[np.int64], there: int) -> DataError:
        last = _day(moments.max())
        what = f"{WHERE} ends too early for {fact.name}: {counted(there, 'session')} after {last}, it needs {fact.last}"
        where = f"{symbol} @ {_day(moments.min())}, {counted(len(moments), 'row')}; {self.place}"
        return DataError(what, where, f"add sessions until it has {fact.last} after {last}", code=375)

    def sessions_after(self, symbol: str, moment: int) -> int:
        """Number of a symbol's sessions after a moment, in microseconds since 1970 in UTC."""
        sessions = self.sessions.get(EVERY, self.sessions.get(symbol, np.empty(0, dtype=np.int64)))
        return len(sessions) - int(np.searchsorted(sessions, moment, side="right"))


def _read(settings: KnownFuture) -> FutureTable:
    wanted = set(settings.columns)
    frame, place = frame_of(settings.table, WHERE, wanted)
    zone = settings.tz or ("UTC" if isinstance(settings.table, str | Path) else None)
    table = price_table(frame, wanted, zone, of_all=EVERY)
    missing = [name for name in settings.columns if name not in table]
    if missing or table.empty:
        what = f"no column {first_names(missing)}" if missing else "0 rows"
        where = f"{place} has {first_names([str(name) for name in frame.columns])}"
        raise DataError(f"{WHERE}: {what}", where, "correct data.known_future", code=376)
    table = table[[*KEYS, *settings.columns]].sort_values(KEYS, kind="stable", ignore_index=True)
    _require_sound(table, settings.columns, place)
    sessions: dict[str, NDArray[np.int64]] = {}
    values: dict[str, Floats] = {}
    for symbol, part in table.groupby("symbol", sort=True):
        sessions[str(symbol)] = microseconds(part["timestamp"])
        values[str(symbol)] = part[settings.columns].to_numpy(dtype=np.float64)
    return FutureTable(tuple(settings.columns), sessions, values, place)


def _require_sound(table: pd.DataFrame, columns: Sequence[str], place: str) -> None:
    """Refuses a session that is there twice, and a cell without a finite number."""
    numbers = table[list(columns)].to_numpy(dtype=np.float64)
    symbols = table["symbol"]
    odd = {
        "a row names no symbol": (symbols.isna() | (symbols == "")).to_numpy(),
        "a row names no session": table["timestamp"].isna().to_numpy(),
        "two rows of one session": table.duplicated(KEYS).to_numpy(),
        **{f"{name} is empty": ~np.isfinite(numbers[:, k]) for k, name in enumerate(columns)},
    }
    for what, rows in odd.items():
        if rows.any():
            row = int(rows.argmax())
            of = "" if symbols[row] == EVERY else f"{symbols[row]} @ "
            when = "no time" if pd.isna(table["timestamp"][row]) else day(table["timestamp"][row])
            where = f"{place}: {of}{when}, {counted(int(rows.sum()), 'row')}"
            raise DataError(f"{WHERE}: {what}", where, "give each session once, with a number for each fact", code=376)


def _day(moment: int | np.int64) -> str:
    return day(pd.Timestamp(int(moment), unit="us", tz="UTC"))
