"""Timestamps of files -> UTC. What could mean two moments is refused, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args
from zoneinfo import ZoneInfo

import pandas as pd

from cnn_lstm.data.times import require_years, utc_or_dates
from cnn_lstm.errors import DataError

Unit = Literal["s", "ms", "us", "ns"]
UNITS = get_args(Unit)
ISO = r"\d{4}-\d{2}-\d{2}(?:[T ].*)?|\d{8}"
OFFSET = r":\d{2}\S*?\s?(Z|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class Clock:
    """How the timestamps of a file are read.

    Bars whose local times are all midnight are daily: the date is kept and becomes midnight UTC. Other bars
    are moments, converted to UTC.

    Args:
        zone: Zone of timestamps without an offset; None takes them as UTC.
        date_format: As in `strptime`, or a unit in `UNITS` of numbers since 1970; None accepts ISO dates.

    Example:
        >>> clock = Clock(ZoneInfo("America/New_York"), None)
        >>> clock.read(pd.Series(["2024-01-02 09:30"]), "prices.csv", 2)[0]
        Timestamp('2024-01-02 14:30:00+0000', tz='UTC')
    """

    zone: ZoneInfo | None
    date_format: str | None

    def read(self, cells: pd.Series, where: str, first_row: int) -> pd.Series:
        """Convert one column.

        Args:
            cells: Text, numbers (with a unit as `date_format`) or datetimes, under a RangeIndex.
            where: The file, for messages.
            first_row: Number of the first row in the file, for messages.

        Returns:
            UTC, microseconds.

        Raises:
            DataError: E309 a cell is not a date in the format; E310 offsets are mixed, or a local time exists
                twice or not at all; E311 a year is behind 9999.
        """
        if pd.api.types.is_datetime64_any_dtype(cells.dtype):
            moments: pd.Series = cells
        elif self.date_format in UNITS:
            numbers = pd.to_numeric(cells, errors="coerce")
            moments = pd.to_datetime(numbers, unit=cast(Unit, self.date_format), errors="coerce", utc=True)
        else:
            moments = self._parsed(cells.astype("str").str.strip(), where, first_row)
        if (bad := moments.isna()).any():
            row = int(bad.to_numpy().argmax())
            what = f"{str(cells.iloc[row])!r} is not {self.date_format or 'an ISO date'}"
            fix = "set data.source.date_format: 01/02/2024 could be two days"
            raise DataError(what, f"{where}:{row + first_row}, {int(bad.sum())} rows", fix, code=309)
        require_years(moments, where)
        # dates come before zones: a date exists also where the clock jumps at midnight
        if not _zoned(moments) and _midnights(moments):
            return cast(pd.Series, moments.dt.tz_localize("UTC").dt.as_unit("us"))
        return utc_or_dates(self._local(moments, where, first_row))

    def _parsed(self, text: pd.Series, where: str, first_row: int) -> pd.Series:
        """Datetimes, with a zone if the text has offsets; NaT where the text is not a date."""
        offset = text.str.extract(OFFSET, expand=False)
        mixed = offset.nunique(dropna=False) > 1
        if mixed and self.zone is None:
            raise _mixed(where, offset)
        form = self.date_format or "ISO8601"
        if self.date_format is None:
            text = text.where(text.str.fullmatch(ISO).fillna(False))
        if not mixed:
            try:
                return cast(pd.Series, pd.to_datetime(text, format=form, errors="coerce"))
            except ValueError:  # offsets in an odd place, and several of them
                raise _mixed(where, offset) from None
        aware = offset.notna()
        moments = pd.to_datetime(text[aware], format=form, errors="coerce", utc=True)
        local = pd.to_datetime(text[~aware], format=form, errors="coerce")
        utc = self._local(local, where, first_row).dt.tz_convert("UTC")
        return cast(pd.Series, pd.concat([moments, utc]).sort_index())

    def _local(self, moments: pd.Series, where: str, first_row: int) -> pd.Series:
        """The same moments in the zone of the market, as far as it is known."""
        zone = self.zone or "UTC"
        if _zoned(moments):
            return moments if self.zone is None else cast(pd.Series, moments.dt.tz_convert(self.zone))
        local = cast(pd.Series, moments.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT"))
        if (bad := local.isna() & moments.notna()).any():
            row = int(bad.to_numpy().argmax())
            what = f"{moments.iloc[row]} exists twice or not at all in {zone} (daylight saving time)"
            place = f"{where}:{moments.index[row] + first_row}, {int(bad.sum())} rows"
            raise DataError(what, place, "write timestamps with their UTC offset", code=310)
        return local


def _mixed(where: str, offset: pd.Series) -> DataError:
    kinds = ", ".join(sorted(offset.fillna("none").unique())[:4])
    what = f"timestamps with several UTC offsets ({kinds})"
    fix = "set data.source.tz to the zone of the market"
    return DataError(what, f"{where}, {len(offset)} rows", fix, code=310)


def _zoned(moments: pd.Series) -> bool:
    return isinstance(moments.dtype, pd.DatetimeTZDtype)


def _midnights(moments: pd.Series) -> bool:
    return bool((moments == moments.dt.normalize()).all())
