"""Bars from Yahoo Finance, one symbol after the other, with a cache that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from cnn_lstm.bounded import load_json
from cnn_lstm.data.muted_warnings import muted
from cnn_lstm.data.sources.base import PriceSource, check_symbols, utc_moment
from cnn_lstm.errors import ConfigError, DataError, Defect, DefectsError, require
from cnn_lstm.files import replace_file
from cnn_lstm.hints import nearest

DAILY = ("1d", "5d", "1wk", "1mo", "3mo")
INTRADAY = ("1m", "2m", "5m", "15m", "30m", "60m", "90m", "1h")
# days that Yahoo keeps the bars of an interval; less a day, for its clock is that of the exchange
KEPT_DAYS = {"1m": 29, "60m": 729, "1h": 729}
KEPT_DAYS |= {interval: 59 for interval in INTRADAY if interval not in KEPT_DAYS}
BARS = ["open", "high", "low", "close", "volume"]
MAX_WAIT = 60.0
TIMEOUT = 10.0
OnMissing = Literal["error", "skip"]


@dataclass(frozen=True)
class _Request:
    """What decides the bars: one entry of the cache."""

    symbol: str
    interval: str
    start: str
    end: str
    adjust: bool


class _MissingError(Exception):
    """Yahoo has no bars of one symbol; the text is the reason."""


class YahooBars(PriceSource):
    """Bars from Yahoo Finance through yfinance.

    Each download is kept as Parquet with a JSON of its request next to it, so a second run needs no network.
    Adjusted prices change with each dividend: the digest in the JSON tells if two runs saw the same bars.

    The bar of today is never loaded, as it is not finished: an `end` of None or later than today means today,
    exclusive.

    Args:
        interval: One of 1d, 5d, 1wk, 1mo, 3mo, 1m, 2m, 5m, 15m, 30m, 60m, 90m, 1h. Yahoo keeps hourly bars for
            two years, bars of minutes for 60 days, of one minute for 30. Without `data.start` all of them are loaded.
        adjust: Correct open, high, low and close for splits and dividends. False corrects for splits only and
            adds the column `adj_close`.
        cache_dir: Folder of the cache.
        on_missing: Whether a symbol without bars is an error, or is skipped with a warning.
        retries: How often a download is tried again when Yahoo refuses it for too many requests; all waiting
            together takes at most 60 s.

    Raises:
        ConfigError: E2xx, an argument is malformed.

    Example:
        >>> YahooBars(interval="1h").interval
        '1h'
    """

    local = False

    def __init__(
        self,
        interval: str = "1d",
        adjust: bool = True,
        cache_dir: str = "~/.cache/cnn_lstm",
        on_missing: OnMissing = "error",
        retries: int = 3,
    ) -> None:
        if interval not in DAILY + INTRADAY:
            fix = nearest(interval, DAILY + INTRADAY) or f"use one of {', '.join(DAILY + INTRADAY)}"
            raise ConfigError(f"interval {interval!r} is not one of Yahoo's", "data.source.interval", fix, code=234)
        known = on_missing in get_args(OnMissing)
        require(known, f"on_missing {on_missing!r}", "data.source.on_missing", "use error or skip", code=233)
        require(retries >= 0, f"retries is {retries}", "data.source.retries", "give 0 or more", code=233)
        self.interval, self.adjust = interval, adjust
        self.cache_dir = Path(cache_dir).expanduser()
        self.on_missing, self.retries = on_missing, retries

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load bars from the cache or from Yahoo; see `PriceSource.load`.

        Raises:
            ConfigError: Symbols or start are not given, or malformed.
            DataError: E333 Yahoo has no bars of a symbol or cannot be reached; E334 unknown layout.
        """
        if start is None and self.interval in KEPT_DAYS:
            start = f"{_oldest(self.interval):%Y-%m-%d}"
        if symbols is None or start is None:
            missing = "symbols" if symbols is None else "start"
            raise ConfigError(f"data.{missing} is not given", "YahooBars", f"give data.{missing}", code=233)
        first, last = _span(start, end)
        days = f"{first:%Y-%m-%d}", f"{last.ceil('D'):%Y-%m-%d}"
        tables: list[pd.DataFrame] = []
        reasons: dict[str, str] = {}
        for symbol in check_symbols(symbols):
            try:
                table = self._bars(_Request(symbol, self.interval, *days, self.adjust))
                # Yahoo is asked for whole days of the exchange
                kept = table[(table["timestamp"] >= first) & (table["timestamp"] < last)]
                if kept.empty:
                    raise _MissingError("no bar in this span")
                tables.append(kept)
            except _MissingError as reason:
                reasons[symbol] = str(reason)
        where = f"{start} to {end or 'today'}"
        fix = "correct the symbols or the span, or set data.source.on_missing: skip"
        if self.interval in KEPT_DAYS and first < (oldest := _oldest(self.interval)):
            kept_for = f"Yahoo keeps {self.interval} bars for {KEPT_DAYS[self.interval]} days"
            fix = f"{kept_for}: leave data.start out, or give {oldest:%Y-%m-%d} or later"
        defects = [Defect(333, f"no rows for {name}: {why}", where, fix) for name, why in reasons.items()]
        if defects and (self.on_missing == "error" or not tables):
            error = DefectsError(defects)
            error.symbols = tuple(reasons)
            raise error
        for name, why in reasons.items():
            warnings.warn(f"{name} is skipped, no rows: {why}", stacklevel=2)
        return pd.concat(tables, ignore_index=True)

    def _bars(self, request: _Request) -> pd.DataFrame:
        key = hashlib.sha256(json.dumps(asdict(request), sort_keys=True).encode()).hexdigest()
        entry = self.cache_dir / key
        cached = read_entry(entry)
        if cached is not None:
            return cached
        table = _long(self._download(request), request)
        try:
            write_entry(entry, table, asdict(request))
        except OSError as error:
            warnings.warn(f"{self.cache_dir} takes no cache entry: {error.strerror}", stacklevel=4)
        return table

    def _download(self, request: _Request) -> pd.DataFrame:
        # yfinance takes a second to import; sources that need no network do not pay for it
        import yfinance
        from yfinance.exceptions import YFException, YFRateLimitError

        waited = 0.0
        for attempt in range(self.retries + 1):
            try:
                return _history(yfinance, request)
            except YFRateLimitError as error:
                pause = min(2.0 ** (attempt + 1), MAX_WAIT - waited)
                if attempt == self.retries or pause <= 0:
                    raise _MissingError(_line(error)) from error
                time.sleep(pause)
                waited += pause
            except YFException as error:
                raise _MissingError(_line(error)) from error
            except OSError as error:
                if getattr(getattr(error, "response", None), "status_code", 0):  # Yahoo answered: an HTTP error
                    raise _MissingError(_line(error)) from error
                fix = "check the network, ask for a span that is in the cache, or use PriceFiles"
                raise DataError(f"Yahoo cannot be reached: {_line(error)}", request.symbol, fix, code=333) from error
            except (ValueError, LookupError, TypeError) as error:  # an HTML page, or a changed layout, ends here
                raise _MissingError(f"unreadable answer, {type(error).__name__}: {_line(error)}") from error
        raise AssertionError("the last attempt returns or raises")


def _oldest(interval: str) -> pd.Timestamp:
    """The first day whose intraday bars Yahoo still has."""
    return pd.Timestamp.now("UTC").normalize() - pd.Timedelta(days=KEPT_DAYS[interval])


def _span(start: str, end: str | None) -> tuple[pd.Timestamp, pd.Timestamp]:
    today = pd.Timestamp.now("UTC").normalize()
    first = utc_moment(start, "data.start")
    last = min(today, utc_moment(end, "data.end")) if end is not None else today
    fix = "end is exclusive, and today is not finished"
    require(first < last, f"start {start} is not before end {last:%Y-%m-%d}", "", fix, code=223)
    return first, last


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _outspoken(yfinance: Any) -> Iterator[None]:
    """Let yfinance raise its reasons, not log them; its own `raise_errors=True` is deprecated and partial."""
    hidden, yfinance.config.debug.hide_exceptions = yfinance.config.debug.hide_exceptions, False
    try:
        with muted("yfinance", level=logging.CRITICAL):
            yield
    finally:
        yfinance.config.debug.hide_exceptions = hidden


def _history(yfinance: Any, request: _Request) -> pd.DataFrame:
    """One request with every option given: yfinance has changed its defaults more than once."""
    with _outspoken(yfinance):
        frame: pd.DataFrame = yfinance.Ticker(request.symbol).history(
            start=request.start,
            end=request.end,
            interval=request.interval,
            prepost=False,
            actions=False,
            auto_adjust=request.adjust,
            back_adjust=False,
            repair=False,
            keepna=True,  # a hole is shown to the checks, not closed here
            rounding=False,
            timeout=TIMEOUT,
        )
    return frame


def _long(frame: pd.DataFrame | None, request: _Request) -> pd.DataFrame:
    """One symbol's frame in the layout of a price table."""
    if frame is None or frame.empty:
        raise _MissingError("an empty table")
    frame = _flat(frame, request.symbol)
    if frame["close"].isna().all():
        raise _MissingError("every close is missing")
    index = pd.DatetimeIndex(frame.index)
    if request.interval in DAILY:
        when = index.tz_localize(None).normalize().tz_localize("UTC")
    elif index.tz is None:
        raise _layout(request.symbol, "intraday times without a zone")
    else:
        when = index.tz_convert("UTC")
    names = [*BARS, *(["adj_close"] if "adj_close" in frame else [])]
    keys = pd.DataFrame({"symbol": request.symbol, "timestamp": when.as_unit("us")}).astype({"symbol": "str"})
    return keys.assign(**{name: frame[name].to_numpy("float64") for name in names})


def _flat(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Columns of one level, in our names."""
    if frame.columns.nlevels > 1:
        levels = range(frame.columns.nlevels)
        price = next((level for level in levels if "Close" in frame.columns.get_level_values(level)), None)
        if price is None or not frame.columns.get_level_values(price).is_unique:
            raise _layout(symbol, f"columns {list(frame.columns)[:6]}")
        frame = frame.set_axis(frame.columns.get_level_values(price), axis=1)
    frame = frame.set_axis([str(name).lower().replace(" ", "_") for name in frame.columns], axis=1)
    if lost := [name for name in BARS if name not in frame]:
        raise _layout(symbol, f"no column {', '.join(lost)}, found {', '.join(frame.columns)}")
    return frame


def _layout(symbol: str, what: str) -> DataError:
    return DataError(f"unknown layout: {what}", symbol, "another version of yfinance may be needed", code=334)


# -- the cache: an entry is a Parquet file and a JSON with its digest, both whole or not there -------------------------


def read_entry(entry: Path) -> pd.DataFrame | None:
    """The cached bars, or None if there are none or they are damaged.

    Args:
        entry: Path of the entry, without an ending.
    """
    try:
        content = entry.with_suffix(".parquet").read_bytes()
        entered = load_json(entry.with_suffix(".json").read_text(encoding="utf-8"))
        if entered["sha256"] != hashlib.sha256(content).hexdigest():
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return pd.read_parquet(BytesIO(content))


def write_entry(entry: Path, table: pd.DataFrame, request: dict[str, str | bool]) -> None:
    """Write the bars, then the JSON that vouches for them: a crash in between leaves an entry without use.

    Args:
        entry: Path of the entry, without an ending.
        table: Bars.
        request: What was asked for; the JSON adds the time, the number of rows and the digest of the file.

    Raises:
        OSError: The folder takes no file.
    """
    stream = BytesIO()
    table.to_parquet(stream, compression="zstd", index=False)
    content = stream.getvalue()
    entered = request | {
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": len(table),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    entry.parent.mkdir(parents=True, exist_ok=True)
    replace_file(entry.with_suffix(".parquet"), lambda partial: partial.write_bytes(content))
    text = json.dumps(entered, indent=1)
    replace_file(entry.with_suffix(".json"), lambda partial: partial.write_text(text, encoding="utf-8"))
