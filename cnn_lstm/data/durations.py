"""A length of time as users write it, such as `3mo` or `20 bars`, and moments that lie so far apart.

Shapes: n distinct timestamps of a price table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cnn_lstm.data.times import Times
from cnn_lstm.errors import ConfigError

Unit = Literal["bars", "hours", "days", "weeks", "months", "years"]
UNITS: dict[str, Unit] = {
    **dict.fromkeys(("b", "bar", "bars"), "bars"),
    **dict.fromkeys(("h", "hour", "hours"), "hours"),
    **dict.fromkeys(("d", "day", "days"), "days"),
    **dict.fromkeys(("w", "week", "weeks"), "weeks"),
    **dict.fromkeys(("mo", "month", "months"), "months"),
    **dict.fromkeys(("y", "year", "years"), "years"),
}
MOST = 10_000  # of any unit; pandas overflows far above
FORM = re.compile(r"\s*(\d{1,5})\s*([a-z]+)\s*")
FIX = "give a number and bars, h, d, w, mo or y, such as 20bars, 6mo or 1y"


@dataclass(frozen=True)
class Duration:
    """A number of bars, or of calendar units.

    Attributes:
        count: How many, at least 1.
        unit: Of what.

    Example:
        >>> length = Duration.parse("3mo", "--every")
        >>> length, str(length.shifted(np.datetime64("2011-11-30T00:00:00.000000"), 1, np.array([])))[:10]
        (Duration(count=3, unit='months'), '2012-02-29')
    """

    count: int
    unit: Unit

    @classmethod
    def parse(cls, text: str, key: str) -> Duration:
        """Reads what a user gives.

        Args:
            text: A number and a unit, with or without a blank.
            key: Name of the option, for the message.

        Raises:
            ConfigError: E236.
        """
        found = FORM.fullmatch(str(text).lower())
        unit = UNITS.get(found[2]) if found else None
        if found is None or unit is None or not 1 <= int(found[1]) <= MOST:
            raise ConfigError(f"{key} {text!r} is not a length of time", key, FIX, code=236)
        return cls(int(found[1]), unit)

    def shifted(self, moment: np.datetime64, times: int, grid: Times) -> np.datetime64 | None:
        """The moment that lies so many spans after another one.

        Months and years are counted from the first moment, so that a month's end stays one.

        Args:
            moment: A moment, UTC.
            times: How many spans after it; below 0 before it.
            grid: Distinct ascending timestamps of the prices, (n,), for a length of bars.

        Returns:
            The moment; None where it lies outside of the timestamps.
        """
        if self.unit == "bars":
            place = int(np.searchsorted(grid, moment)) + times * self.count
            return grid[place] if 0 <= place < len(grid) else None
        given: Any = {self.unit: abs(times) * self.count}
        step = pd.DateOffset(**given)
        shifted = pd.Timestamp(moment) + step if times >= 0 else pd.Timestamp(moment) - step
        moved: np.datetime64 = shifted.as_unit("us").to_datetime64()
        return moved

    def beyond(self, moment: np.datetime64, grid: Times) -> np.datetime64:
        """The moment that lies one length after another one, also where no bar is known yet.

        So many bars take as long as the last so many bars did.

        Args:
            moment: A moment, UTC.
            grid: Distinct ascending timestamps of the prices, (n,), at least one.

        Example:
            >>> days = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]").astype("datetime64[us]")
            >>> str(Duration(5, "bars").beyond(days[-1], days))[:10]
            '2020-01-15'
        """
        if self.unit != "bars":
            shifted = self.shifted(moment, 1, grid)
            assert shifted is not None, "a calendar has no end"
            return shifted
        last = int(np.searchsorted(grid, moment, side="right"))
        known = grid[max(last - 1 - self.count, 0) : max(last, 1)]
        ahead = (known[-1] - known[0]) * (self.count / max(len(known) - 1, 1))
        later: np.datetime64 = moment + ahead.astype("timedelta64[us]")
        return later

    def __str__(self) -> str:
        return f"{self.count} {self.unit if self.count > 1 else self.unit.removesuffix('s')}"
