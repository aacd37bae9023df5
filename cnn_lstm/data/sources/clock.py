"""Timestamps of files -> UTC. What could mean two moments is refused, never guessed."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args
from zoneinfo import ZoneInfo

import pandas as pd

from cnn_lstm.data.checks import count_rows
from cnn_lstm.data.times import at_midnight, require_years, utc_or_dates
from cnn_lstm.errors import DataError, require

log = logging.getLogger(__name__)
Unit = Literal["s", "ms", "us", "ns"]
UNITS: tuple[Unit, ...] = get_args(Unit)
AUTO = "auto"
EPOCHS = (*UNITS, AUTO)
PER_SECOND: dict[Unit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
# numbers of these moments lie 38 times apart at most, and units 1000 times: each number has one unit
FIRST_PROVEN = pd.Timestamp("1971-06-01").timestamp()
EARLY = pd.Timestamp("1970-02-01").timestamp()  # where numbers of the next smaller unit are taken to lie
STRICT = r"\d{4}-\d{2}-\d{2}(?:[T ].*)?|\d{8}(?:[T ].*)?"
YEAR_FIRST = r"^(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[T ]+(\S.*))?$"
OFFSET = r":\d{2}\S*?\s?(Z|[+-]\d{2}(?::?\d{2})?)$"
TIME_OF_DAY = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[AaPp][Mm])?|\d{1,6}"


@dataclass(frozen=True)
class Clock:
    """How the timestamps of a file are read.

    Bars whose local times are all midnight are daily: the date is kept and becomes midnight UTC. Other bars
    are moments, converted to UTC.

    Args:
        zone: Zone of timestamps without an offset; None takes them as UTC.
        date_format: As in `strptime`; or a unit in `UNITS` of numbers since 1970, or `auto` where each number proves
            its unit; None accepts dates with the year first only.
        daily: Whether bars are daily, where that is known of a whole table of which a part is read. None looks at the
            bars that are read.

    Example:
        >>> clock = Clock(ZoneInfo("America/New_York"), None)
        >>> clock.read(pd.Series(["2024-01-02 09:30"]), "prices.csv")[0]
        Timestamp('2024-01-02 14:30:00+0000', tz='UTC')
    """

    zone: ZoneInfo | None
    date_format: str | None
    daily: bool | None = None

    def read(self, cells: pd.Series, where: str) -> pd.Series:
        """Convert one column.

        Args:
            cells: Text, numbers (with a unit as `date_format`) or datetimes; the index is the number of the row in the
                file.
            where: The file, for messages.

        Returns:
            UTC, microseconds.

        Raises:
            DataError: E309 a cell is not a date in the format; E310 offsets are mixed, or a local time exists
                twice or not at all; E311 a year is behind 9999; E346 a number since 1970 is one of another unit.
        """
        moments = self._moments(cells, where)
        # dates come before zones: a date exists also where the clock jumps at midnight
        if not _zoned(moments) and self.daily is not False and _midnights(moments):
            return cast(pd.Series, moments.dt.tz_localize("UTC").dt.as_unit("us"))
        return utc_or_dates(self._local(moments, where), self.daily)

    def are_dates(self, cells: pd.Series, where: str) -> bool:
        """Whether the local times of all cells are midnight, so that `read` keeps them as dates.

        Args:
            cells: As for `read`.
            where: The file, for messages.

        Raises:
            DataError: As for `read`.

        Example:
            >>> Clock(None, None).are_dates(pd.Series(["2024-01-02", "2024-01-03 09:30"]), "prices.csv")
            False
        """
        moments = self._moments(cells, where)
        if not _zoned(moments) and _midnights(moments):
            return True
        return bool(at_midnight(self._local(moments, where)).all())

    def _moments(self, cells: pd.Series, where: str) -> pd.Series:
        """Datetimes of cells of any kind, with a zone where the cells have one."""
        if pd.api.types.is_datetime64_any_dtype(cells.dtype):
            moments: pd.Series = cells
        elif self.date_format in EPOCHS:
            moments = _since_1970(cells, str(self.date_format), where)
        else:
            moments = self._parsed(cells.astype("str").fillna("").str.strip(), where)
        if (bad := moments.isna()).any():
            raise _not_a_date(cells, bad, self.date_format, where)
        require_years(moments, where)
        return moments

    def read_joined(self, dates: pd.Series, times: pd.Series, where: str) -> pd.Series:
        """Convert a column of dates and one of times of day.

        A `date_format` without a time of day is that of the dates alone; the times are then `09:30`, `0930` or
        `093000`.
        """
        day = (
            dates.dt.strftime("%Y-%m-%d") if pd.api.types.is_datetime64_any_dtype(dates.dtype) else dates.astype("str")
        )
        form, time = self.date_format, times.astype("str").str.strip()
        if form is None or not re.search("%[HIMSpTXcfr]", form):
            form, time = form and f"{form} %H:%M:%S.%f", _plain_times(time)
        joined = (day.str.strip() + " " + time).rename(f"{dates.name} {times.name}")
        return replace(self, date_format=form).read(joined, where)

    def _parsed(self, text: pd.Series, where: str) -> pd.Series:
        """Datetimes, with a zone if the text has offsets; NaT where the text is not a date."""
        form = self.date_format or "ISO8601"
        if self.date_format is None:
            text = _iso(text)
        if "%Z" not in form:
            text, form = _plain_offsets(text, form)
        offset = text.str.extract(OFFSET, expand=False)
        aware = offset.notna()
        if not aware.any() or (aware.all() and offset.nunique() == 1):
            try:
                return cast(pd.Series, pd.to_datetime(text, format=form, errors="coerce"))
            except ValueError:  # offsets in an odd place, and several of them
                raise _mixed(where, offset, "write them as +01:00 behind the time") from None
        moments = pd.to_datetime(text[aware], format=form, errors="coerce", utc=True)
        local = pd.to_datetime(text[~aware], format=form, errors="coerce")
        if self.zone is None and (offset.nunique() > 1 or local.notna().any()):
            raise _mixed(where, offset, "set data.source.tz to the zone of the market")
        utc = self._local(local, where).dt.tz_convert("UTC")
        return cast(pd.Series, pd.concat([moments, utc]).sort_index())

    def _local(self, moments: pd.Series, where: str) -> pd.Series:
        """The same moments in the zone of the market, as far as it is known."""
        zone = self.zone or "UTC"
        if _zoned(moments):
            return moments if self.zone is None else cast(pd.Series, moments.dt.tz_convert(self.zone))
        local = cast(pd.Series, moments.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT"))
        if (bad := local.isna() & moments.notna()).any():
            at, place = _first(bad, where)
            what = f"{moments.iloc[at]} exists twice or not at all in {zone} (daylight saving time)"
            raise DataError(what, place, "write timestamps with their UTC offset", code=310)
        return local


def require_format(date_format: str | None) -> None:
    """Refuses what cannot be the `date_format` of a `Clock`.

    Raises:
        ConfigError: E209.
    """
    fix = f"use a format such as %d/%m/%Y, or one of {', '.join(EPOCHS)}"
    known = date_format is None or date_format in EPOCHS or _is_format(date_format)
    require(known, f"no date format: {date_format!r}", "data.source.date_format", fix, code=209)


def _is_format(text: str) -> bool:
    try:
        pd.to_datetime(pd.Series(["x"]), format=text, errors="coerce")
    except ValueError:
        return False
    return "%" in text


def unit_of(number: float) -> Unit | None:
    """The unit in which a number since 1970 is a moment from June 1971 to now; only one can be.

    Example:
        >>> unit_of(1725148800), unit_of(1725148800000), unit_of(20240102)
        ('s', 'ms', None)
    """
    return _units(pd.Series([float(number)])).iloc[0] or None


def are_times_of_day(times: pd.Series, dates: pd.Series) -> bool:
    """Whether one column has times of day, and the other days without a time.

    Example:
        >>> are_times_of_day(pd.Series(["09:30"]), pd.Series(["2024-01-02"]))
        True
    """
    time, day = (column.astype("str").str.strip() for column in (times, dates))
    day = day[day != ""]
    if pd.api.types.is_datetime64_any_dtype(dates.dtype):
        day = dates.dt.strftime("%Y-%m-%d %H:%M").str.removesuffix(" 00:00")
    alone = day.str.fullmatch(r"\d{8}|[^:]*[-/. ][^:]*") & ~day.str.contains(r"[T ]\d{1,2}:\d{2}")
    # text in the last lines of a file is neither, and is refused where it stands
    return bool(time.str.fullmatch(TIME_OF_DAY).mean() > 0.9 and alone.mean() > 0.9)


def _plain_times(times: pd.Series) -> pd.Series:
    """Times of day as 09:30:00.000000, from 9:30, 930, 093000 and 09:30:00.5."""
    digits = times.str.fullmatch(r"\d{1,6}")
    longest = times[digits].str.len().max() if digits.any() else 0
    if longest <= 2 and not (times[digits].astype("int64") == 0).all():
        return times  # hours, or minutes after midnight
    padded = times.str.zfill(4 if longest <= 4 else 6)
    split = padded.str.replace(r"^(\d{2})(\d{2})(\d{2})?$", r"\1:\2:\3", regex=True).str.removesuffix(":")
    times = times.where(~digits, split)
    times = times.where(~times.str.fullmatch(r"\d{1,2}:\d{2}"), times + ":00")
    return times.where(times.str.contains(".", regex=False), times + ".0")


def _units(numbers: pd.Series) -> pd.Series:
    """The unit of each number since 1970, or nothing where none or no time since June 1971 fits."""
    latest = pd.Timestamp.now("UTC").timestamp() + 86_400
    units = pd.Series("", index=numbers.index, dtype="str")
    for unit, factor in PER_SECOND.items():
        units = units.mask((numbers >= FIRST_PROVEN * factor) & (numbers <= latest * factor), unit)
    return units


def _since_1970(cells: pd.Series, date_format: str, where: str) -> pd.Series:
    """Moments of numbers since 1970; NaT where a cell is not a number.

    Raises:
        DataError: E346.
    """
    numbers = pd.to_numeric(cells, errors="coerce")
    numbers = numbers.mask(numbers.abs() == float("inf"))
    likely = _units(numbers)
    if date_format == AUTO:
        unclear = numbers.notna() & (likely == "")
        if unclear.any():
            at, place = _first(unclear, where)
            what = f"{cells.iloc[at]} does not prove its unit: it is not a moment since June 1971 in any"
            raise DataError(what, place, f"set data.source.date_format to one of {', '.join(UNITS)}", code=346)
        return _moments(numbers, likely)
    unit = cast(Unit, date_format)
    _refuse_days(numbers, unit, where)
    own = pd.Series(unit, index=numbers.index, dtype="str")
    seconds = numbers / PER_SECOND[unit]
    strange = (seconds >= 0) & (seconds < EARLY) | (seconds > pd.Timestamp.now("UTC").timestamp() + 86_400)
    other = strange & (likely != "") & (likely != unit)
    rest = seconds[~strange]
    if len(rest) and 0 <= rest.min() - seconds[other].max() < EARLY:
        return _moments(numbers, own)  # the first days of a table that begins in January 1970
    if other.any():
        at, place = _first(other, where)
        right = likely.iloc[at]
        moment = pd.Timestamp(numbers.iloc[at] / PER_SECOND[cast(Unit, right)], unit="s")
        what = f"{cells.iloc[at]} is in {right} since 1970 ({moment:%Y-%m-%d}), not in {unit}"
        fix = f"set data.source.date_format: {right if other.all() and likely.nunique() == 1 else AUTO}"
        raise DataError(what, f"{place} of {len(cells)}", fix, code=346)
    if len(numbers) > 1 and ((seconds >= 0) & (seconds < EARLY)).all():
        log.warning("all bars lie in January 1970 — %s — check data.source.date_format", where)
    return _moments(numbers, own)


def _refuse_days(numbers: pd.Series, unit: Unit, where: str) -> None:
    """Refuses days written as numbers, such as 20240102, in place of numbers since 1970."""
    days = pd.to_datetime(numbers.astype("str").str.removesuffix(".0"), format="%Y%m%d", errors="coerce")
    if len(days) and days.between("1900-01-01", pd.Timestamp.now()).all():
        what = f"{numbers.iloc[0]:.0f} is a day, not a number of {unit} since 1970"
        place = f"{where}:{numbers.index[0]}, {count_rows(len(numbers))}"
        raise DataError(what, place, "leave out data.source.date_format", code=346)


def _moments(numbers: pd.Series, units: pd.Series) -> pd.Series:
    """Moments in UTC of numbers, each in its unit; exact for whole numbers."""
    moments = pd.Series(pd.NaT, index=numbers.index, dtype="datetime64[us, UTC]")
    for unit in UNITS:
        chosen = (units == unit) & numbers.notna()
        if chosen.any():
            part = pd.to_datetime(numbers[chosen], unit=unit, errors="coerce", utc=True)
            moments[chosen] = part.dt.as_unit("us")
    return moments


def _iso(text: pd.Series) -> pd.Series:
    """Dates with the year first in ISO form, other texts as nothing: 2024/1/8 is one date, 1/8/2024 could be two."""
    strict = text.str.fullmatch(STRICT)
    if strict.all():
        return text
    parts = text[~strict].str.extract(YEAR_FIRST)
    day = parts[0] + "-" + parts[2].str.zfill(2) + "-" + parts[3].str.zfill(2)
    moment = day.where(parts[4].isna(), day + " " + parts[4].fillna("").str.replace(r"^(\d):", r"0\1:", regex=True))
    return text.where(strict, moment.reindex(text.index))


def _plain_offsets(text: pd.Series, form: str) -> tuple[pd.Series, str]:
    """Texts and their format with offsets such as +0100 for GMT+0100, UTC+1 and UTC."""
    named = text.str.contains(r"(?:GMT|UTC)(?:[+-]\d{1,2}(?::?\d{2})?)?$")
    if not named.any():
        return text, form
    plain = text[named].str.replace(r"^([^:]*\d)\s*(?:GMT|UTC)$", r"\1", regex=True)  # a day alone has no offset
    plain = plain.str.replace(r"(?:GMT|UTC)$", "+0000", regex=True)
    plain = plain.str.replace(r"(?:GMT|UTC)([+-])(\d)$", r"\g<1>0\g<2>00", regex=True)
    plain = plain.str.replace(r"(?:GMT|UTC)([+-]\d{2})$", r"\g<1>00", regex=True)
    plain = plain.str.replace(r"(?:GMT|UTC)([+-])", r"\1", regex=True)
    # the letters stand in the format as they are, with the offset or in its place
    form = re.sub(r"(?:GMT|UTC)(%z)?$", "%z", form)
    return text.where(~named, plain.reindex(text.index)), form


def _not_a_date(cells: pd.Series, bad: pd.Series, date_format: str | None, where: str) -> DataError:
    """Why a cell is not a date, and what helps."""
    (at, place), count = _first(bad, where), int(bad.sum())
    row, text, place = cells.index[at], str(cells.iloc[at]).strip(), f"{place} of {len(cells)}"
    short = repr(text if len(text) <= 40 else text[:40] + "...")
    few = count < len(cells) / 2 and not re.match(r"\d", text)
    if not text or text.lower() in {"nan", "nat", "none"}:
        return DataError("no date", place, "give each row a date, or remove these rows", code=309)
    if few and text.strip("<>").lower() in {"date", "datetime", "time", "timestamp", str(cells.name).strip().lower()}:
        return DataError(f"line {row} repeats the header ({short})", place, "remove the line", code=309)
    if few:
        return DataError(f"line {row} is not a bar: it begins with {short}", place, "remove the line", code=309)
    if date_format in EPOCHS:
        return DataError(f"{short} is not a number since 1970", place, "set data.source.date_format", code=309)
    if date_format is not None:
        return DataError(f"{short} is not {date_format}", place, "correct data.source.date_format", code=309)
    fix = "set data.source.date_format: 01/02/2024 could be two days"
    if re.fullmatch(r"\d+(\.\d+)?", text) and (unit := unit_of(float(text))):
        fix = f"set data.source.date_format: {unit} for a number since 1970, or auto"
    elif re.fullmatch(r"[2-6]\d{4}(\.\d+)?", text):
        fix = "write the column as dates: Excel counts days"
    elif re.fullmatch(TIME_OF_DAY, text):
        fix = "name the days too: data.source.columns: {date: ..., time: ...}"
    elif re.search(r":\d{2}\s*[A-Z]{3,5}$", text):
        fix = "leave out the zone's name and set data.source.tz, or write UTC offsets"
    return DataError(f"{short} is not an ISO date", place, fix, code=309)


def _first(bad: pd.Series, where: str) -> tuple[int, str]:
    """Position of the first bad row, and its place in the file with the number of bad rows."""
    at = int(bad.to_numpy().argmax())
    return at, f"{where}:{bad.index[at]}, {count_rows(int(bad.sum()))}"


def _mixed(where: str, offset: pd.Series, fix: str) -> DataError:
    kinds = ", ".join(sorted(offset.fillna("none").unique())[:4])
    return DataError(f"timestamps with several UTC offsets ({kinds})", f"{where}, {len(offset)} rows", fix, code=310)


def _zoned(moments: pd.Series) -> bool:
    return isinstance(moments.dtype, pd.DatetimeTZDtype)


def _midnights(moments: pd.Series) -> bool:
    return bool((moments == moments.dt.normalize()).all())
