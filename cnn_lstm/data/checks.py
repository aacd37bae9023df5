"""What is tolerated in a price table, and the checks of its rows; docs/troubleshooting.md lists the numbers."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import MAXYEAR
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.exchange import elapsed, unit_of_pauses
from cnn_lstm.data.times import microseconds
from cnn_lstm.errors import Defect, require
from cnn_lstm.hints import counted

KEYS = ["symbol", "timestamp"]
PRICES = ["open", "high", "low", "close"]
BARS = [*PRICES, "volume"]
SPLITS = (2, 3, 4, 5, 10, 20, 100)
# a real fall of 52 % (AAPL, 2000-09-29, ratio 2.078) must not look like a split 2:1
SPLIT_TOLERANCE = 0.03
DAY_TOLERANCE = 0.15
PLAIN_SINCE = int(pd.Timestamp("1900-01-02", tz="UTC").value) // 1000  # microseconds
QUIET_MOVE = math.log(1.6)  # below the smallest move that may look like a split, 2 less DAY_TOLERANCE
OHLC_TOLERANCE = 1e-6
# days; for bars of a day and less, of a week, two weeks, a month, a quarter, half a year and a year
GAP_LIMITS = (10.0, 21.0, 45.0, 90.0, 270.0, 540.0, 1100.0)
STEPS_OF_A_GAP = 2.5  # one bar may be missing, as in a week of holidays
COLLINEAR = 1 - 1e-9
COLLINEAR_ROWS = 100  # a handful of rows says nothing
OnShort = Literal["error", "skip"]  # of symbols too short, and of rows without a bar or a label
# a setting whose name in YAML has changed: checkpoints of both times are compared, so theirs stays
STORED_AS = {"refuse_unsorted": "strict"}
# settings that older checkpoints do not have: they are kept where they differ from what those did
ADDED = ("on_unlisted", "on_unlabelled")
LONGEST_GAP = 100_000  # days; a duration in nanoseconds ends soon after


@dataclass(frozen=True)
class Checks:
    """What is tolerated in a price table (`data.checks` in YAML).

    Args:
        refuse_unsorted: Refuse unsorted rows instead of sorting them.
        fill_max_gap: Longest run of missing values, in rows, that is filled with the last known value, volume
            with 0. 0 refuses missing values. Nothing is ever filled from the future.
        allow_jumps: Only warn of one-step changes that look like an unadjusted split.
        allow_ohlc: Only warn of bars whose high is below low, or whose open or close is outside of both.
        max_gap_days: Longest distance of two neighbouring bars, in days, that is not a gap; with `data.exchange` in
            sessions of the exchange. By default it is 10, and for slower bars about three of their steps, see
            `gap_limit`.
        on_short: Whether a symbol with too few rows for one window is an error or is skipped with a warning.
        on_unlisted: Whether the first and last rows of a symbol in which a price or the volume is missing are an error,
            or are skipped with a warning: a symbol before its listing and behind its last bar.
        on_unlabelled: Whether an empty cell of a column of labels is an error, or a row that nothing is forecast at,
            with a warning. The first and the last rows of a symbol may always be empty.

    Raises:
        ConfigError: E2xx, a value is out of range.

    Example:
        >>> Checks(fill_max_gap=3).fill_max_gap
        3
    """

    refuse_unsorted: bool = False
    fill_max_gap: int = 0
    allow_jumps: bool = False
    allow_ohlc: bool = False
    max_gap_days: float | None = None
    on_short: OnShort = "error"
    on_unlisted: OnShort = "error"
    on_unlabelled: OnShort = "error"

    def __post_init__(self) -> None:
        says = {name: f"data.checks.{name} is {value!r}" for name, value in asdict(self).items()}
        require(self.fill_max_gap >= 0, says["fill_max_gap"], "", "give a number of rows, 0 or more", code=212)
        known = self.max_gap_days is None or 0 < self.max_gap_days <= LONGEST_GAP
        fix = "give a positive number of days, at most 100000, or null for one that follows the bars"
        require(known, says["max_gap_days"], "", fix, code=220)
        for name in ("on_short", *ADDED):
            require(getattr(self, name) in get_args(OnShort), says[name], "", "use error or skip", code=206)

    def gap_limit(self, table: pd.DataFrame | None = None, exchange: str = "") -> float:
        """`max_gap_days`, or the limit that goes with the usual step between two bars of a symbol.

        It is one of `GAP_LIMITS`, so that further bars of the same kind do not move it.

        Args:
            table: Price table, sorted by symbol and timestamp; None where the settings name the limit.
            exchange: The exchange whose sessions are counted; empty for days.

        Returns:
            Days, or sessions.

        Example:
            >>> months = pd.date_range("2020-01-01", periods=24, freq="MS", tz="UTC")
            >>> Checks().gap_limit(pd.DataFrame({"symbol": "A", "timestamp": months}))
            90.0
        """
        if self.max_gap_days is not None:
            return self.max_gap_days
        if table is None:
            return GAP_LIMITS[0]
        usual = _usual_step(table, exchange) / 86_400
        needed = 0.0 if math.isnan(usual) else STEPS_OF_A_GAP * usual
        return next((limit for limit in GAP_LIMITS if limit >= needed), float(math.ceil(needed)))

    def on(self, table: pd.DataFrame, exchange: str = "") -> Checks:
        """These checks with the limit of gaps that holds for a table, as a checkpoint keeps it; see `gap_limit`."""
        return replace(self, max_gap_days=self.gap_limit(table, exchange))

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint, under the names that checkpoints have had from the first on."""
        defaults = Checks.__dataclass_fields__
        values = {k: v for k, v in asdict(self).items() if k not in ADDED or v != defaults[k].default}
        return {STORED_AS.get(name, name): value for name, value in values.items()}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Checks:
        """The checks of a checkpoint."""
        names = {stored: name for name, stored in STORED_AS.items()}
        return cls(**{names.get(stored, stored): value for stored, value in values.items()})


def _usual_step(table: pd.DataFrame, exchange: str) -> float:
    """Median of the seconds between two rows of a symbol, see `elapsed`; NaN where no symbol has two."""
    codes, _ = pd.factorize(table["symbol"])  # sorted, so that the rows of a symbol lie together
    steps = np.diff(elapsed(microseconds(table["timestamp"]), exchange))[codes[1:] == codes[:-1]]
    return float(np.median(steps / 1e6)) if len(steps) else math.nan


def _dates(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Dates that cannot be those of a bar: in the future, or before 1900."""
    when = table["timestamp"]
    for where in places(table, when > pd.Timestamp.now("UTC") + pd.Timedelta(days=1)):
        yield Defect(311, "date in the future", where, "correct the date or data.source.date_format")
    for where in places(table, when < pd.Timestamp("1900-01-01", tz="UTC")):
        yield Defect(311, "date before 1900", where, "correct the date or data.source.date_format")


def _values(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Infinite values, prices of 0 or below, negative volumes, and a volume that is 0 throughout."""
    for name in table.columns.difference(KEYS, sort=False):
        for where in places(table, np.isinf(table[name])):
            yield Defect(313, f"{name} is infinite", where, "correct or remove the row")
    for name in present(table, PRICES):
        for where in places(table, table[name] <= 0):
            yield Defect(314, f"{name} <= 0", where, "correct or remove the row: it has no log return")
    if "volume" not in table:
        return
    for where in places(table, table["volume"] < 0):
        yield Defect(315, "volume < 0", where, "correct or remove the row")
    silent = table["volume"].eq(0).groupby(table["symbol"]).transform("all")
    for where in places(table, silent):
        yield Defect(315, "volume is 0 throughout", where, "leave volume out of the features", fatal=False)


def _bars(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Bars that contradict themselves: open, close or low above high, open or close below low.

    A missing value is above or below nothing.
    """
    fix = "allowed by data.checks" if checks.allow_ohlc else "correct the bar, or set data.checks.allow_ohlc: true"
    low, high = table.get("low"), table.get("high")
    contradictions: dict[str, pd.Series[bool]] = {}
    for name in present(table, ["open", "close", "low"]):
        if high is not None:
            contradictions[f"{name} > high"] = table[name] > high + OHLC_TOLERANCE * high.abs()
    for name in present(table, ["open", "close"]):
        if low is not None:
            contradictions[f"{name} < low"] = table[name] < low - OHLC_TOLERANCE * low.abs()
    for what, bad in contradictions.items():
        for where in places(table, bad):
            yield Defect(316, what, where, fix, fatal=not checks.allow_ohlc)


def _jumps(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Changes by a round factor from one bar to the next, as a split that was not adjusted for makes them."""
    if "close" not in table:
        return
    close = table["close"].where(lambda c: (c > 0) & np.isfinite(c)).groupby(table["symbol"]).ffill()
    change = close / close.groupby(table["symbol"]).shift()
    opening = table["open"] / close.groupby(table["symbol"]).shift() if "open" in table else change
    for split in SPLITS:
        # a split shows at the open; by the close the day's own move may hide it
        near = _near(change, split, SPLIT_TOLERANCE) | (
            _near(opening, split, SPLIT_TOLERANCE) & _near(change, split, DAY_TOLERANCE)
        )
        for symbol, moment, times in zip(table["symbol"][near], table["timestamp"][near], change[near], strict=True):
            ratio = f"{split}:1" if times < 1 else f"1:{split}"
            what = f"looks like an unadjusted split {ratio} on {day(moment)}"
            where = f"{symbol} @ {day(moment)}, close times {times:.4g}"
            fix = "load adjusted prices, or set data.checks.allow_jumps: true"
            fix = "allowed by data.checks" if checks.allow_jumps else fix
            yield Defect(317, what, where, fix, fatal=not checks.allow_jumps)


def _near(change: pd.Series, split: int, tolerance: float) -> pd.Series:
    """Whether a change is close to a split or its inverse."""
    size = change.where(change > 1, 1 / change)
    return (size / split - 1).abs() <= tolerance


def twins(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Columns that say the same: equal in every bit, or collinear."""
    groups = _equal_columns({str(name): table[name].to_numpy() for name in table.columns.difference(KEYS, sort=False)})
    for names in groups:
        if len(names) > 1:
            where = f"{', '.join(names)}, {count_rows(len(table))}"
            yield Defect(319, "columns are equal", where, "keep one of them as a feature", fatal=False)
    if len(table) < COLLINEAR_ROWS:
        return
    firsts = [names[0] for names in groups]
    correlation = table[firsts].replace([np.inf, -np.inf], np.nan).corr().abs().to_numpy()
    for left, right in zip(*np.nonzero(np.triu(correlation > COLLINEAR, k=1)), strict=True):
        where = f"{firsts[left]}, {firsts[right]}, {count_rows(len(table))}"
        yield Defect(319, "columns are collinear", where, "keep one of them as a feature", fatal=False)


def _equal_columns(columns: Mapping[str, NDArray[Any]]) -> list[list[str]]:
    """Names of columns that are equal in every bit, in order; most differ in their first rows already."""
    groups: dict[bytes, list[str]] = {}
    begins = Counter(values[:COLLINEAR_ROWS].tobytes() for values in columns.values())
    for name, values in columns.items():
        begin = values[:COLLINEAR_ROWS].tobytes()
        key = hashlib.sha256(values.tobytes()).digest() if begins[begin] > 1 else begin
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def gaps_of(table: pd.DataFrame, checks: Checks, exchange: str = "") -> Iterator[Defect]:
    """Pauses of a symbol that are longer than the limit of gaps.

    Args:
        table: Price table, sorted by symbol and timestamp.
        checks: What is tolerated.
        exchange: The exchange whose sessions are counted; empty for days.
    """
    limit, unit = checks.gap_limit(table, exchange), unit_of_pauses(exchange)
    moments = pd.Series(elapsed(microseconds(table["timestamp"]), exchange), index=table.index)
    step = moments.groupby(table["symbol"]).diff()
    for symbol, gaps in step[step > round(limit * 86_400e6)].groupby(table["symbol"]):
        row = gaps.idxmax()
        longest = f"the longest {gaps.max() / 86_400e6:.0f} {unit} before it"
        where = f"{at_row(table, row)}, {counted(len(gaps), 'gap')}, {longest}"
        what = f"gap of more than {limit:g} {unit} in {symbol}"
        fix = "no window bridges a gap; data.checks.max_gap_days sets what is one"
        yield Defect(320, what, where, fix, fatal=False)


def intervals(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Symbols of different sampling intervals in one table."""
    step = table.groupby("symbol")["timestamp"].diff()
    median = step.groupby(table["symbol"]).median().dropna()
    if len(median) > 1 and median.max() > 2 * median.min():
        where = f"{median.idxmin()} every {median.min()}, {median.idxmax()} every {median.max()}"
        yield Defect(321, "symbols with different intervals", where, "load one interval at a time")


def _mixed(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Several sampling intervals in one symbol."""
    step = table.groupby("symbol")["timestamp"].diff()
    usual = step.groupby(table["symbol"]).transform("median")
    short = step < usual / 2
    for symbol, rows in short.groupby(table["symbol"]):
        if rows.sum() > 0.02 * (len(rows) - 1):
            where = f"{at_row(table, rows.idxmax())}, {count_rows(rows.sum())} within half the median step"
            yield Defect(321, f"mixed intervals in {symbol}", where, "load one interval at a time")


def plainly_sound(bars: Mapping[str, NDArray[np.float64]], moment: int, before: NDArray[np.float64]) -> bool:
    """Whether new bars of one moment are far from every defect that `BAR_CHECKS` look for.

    It is much faster than these, and refuses more.

    Args:
        bars: Columns of the bars of S symbols, each (S,).
        moment: Their time, in microseconds since 1970 in UTC.
        before: Close of the last bar of each symbol, (S,); NaN where there is none.
    """
    prices = [bars[name] for name in PRICES if name in bars]
    finite = all(bool(np.isfinite(values).all()) for values in bars.values())
    positive = all(bool((bars[name] > 0).all()) for name in BARS if name in bars)
    if not (finite and positive and PLAIN_SINCE <= moment <= time.time_ns() // 1000):
        return False
    high, low = bars.get("high", np.inf), bars.get("low", 0.0)
    if not all(bool(((values <= high) & (values >= low)).all()) for values in prices):
        return False
    if "close" not in bars:
        return True
    moves = [np.abs(np.log(bars[name] / before)) for name in ("open", "close") if name in bars]
    # the first bar of a symbol has no move, and NaN is not above anything
    return not any(bool((move > QUIET_MOVE).any()) for move in moves)


RowCheck = Callable[[pd.DataFrame, Checks], Iterator[Defect]]
# those that need a row and the one before it; all but `twins` and `intervals` look at one symbol at a time
BAR_CHECKS: tuple[RowCheck, ...] = (_dates, _values, _bars, _jumps)
TABLE_CHECKS: tuple[RowCheck, ...] = (*BAR_CHECKS, twins, gaps_of, intervals, _mixed)


def only_warnings(checks: Checks) -> tuple[RowCheck, ...]:
    """Those of `TABLE_CHECKS` whose defects are never fatal.

    Args:
        checks: What is tolerated.
    """
    return (twins, gaps_of, *((_jumps,) if checks.allow_jumps else ()))


def present(table: pd.DataFrame, names: list[str]) -> list[str]:
    """The names that are columns of the table."""
    return [name for name in names if name in table]


def places(table: pd.DataFrame, bad: pd.Series[bool]) -> Iterator[str]:
    """`symbol @ first date, n rows` for each symbol that has bad rows."""
    bad = bad.fillna(False)
    if not bad.any():
        return
    for symbol, when in table.loc[bad, "timestamp"].groupby(table["symbol"]):
        yield f"{symbol} @ {day(when.iloc[0])}, {count_rows(len(when))}"


def at_row(table: pd.DataFrame, row: Any) -> str:
    """`symbol @ date` of one row of a table with a RangeIndex."""
    return f"{table['symbol'][row]} @ {day(table['timestamp'][row])}"


def day(moment: pd.Timestamp) -> str:
    """The date, with the time of day if it is not midnight."""
    if moment.year > MAXYEAR:  # a date in another unit, which `strftime` does not write
        return str(moment)
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else f"{moment:%Y-%m-%d %H:%M}"


def count_rows(rows: int) -> str:
    """`1 row`, `2 rows`."""
    return counted(rows, "row")
