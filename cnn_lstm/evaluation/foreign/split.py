"""The split of a judgement: baselines learn from what lies before the first forecast."""

from __future__ import annotations

import numpy as np

from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.spans import after
from cnn_lstm.data.splits import Boundaries, Day, Split
from cnn_lstm.data.times import Times
from cnn_lstm.errors import DataError, require


class BeforeForecasts(Split):
    """The test part begins with the first forecast; the dates before it are cut into training and validation.

    Args:
        first: Time of the first decision, ISO; or of the first bar that a forecast is about.
        back: Bars from a decision to the bar that `first` names; 0 where it names the decision.
        validation: Share of the dates before the first forecast that are for validation, at their end.

    Raises:
        DataError: E359, if too few dates lie before the first forecast.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-21", dtype="datetime64[D]").astype("datetime64[us]")
        >>> edges = BeforeForecasts("2020-01-11", validation=0.3).boundaries(days)
        >>> str(edges.validation)[:10], str(edges.test)[:10]
        ('2020-01-08', '2020-01-11')
    """

    gives_dates = True

    def __init__(self, first: Day, back: int = 0, validation: float = 0.2) -> None:
        require(0 < validation < 1, f"validation={validation}", "data.split.validation", "give a share between 0 and 1")
        require(back >= 0, f"back={back}", "data.split.back", "give 0 or more")
        self.first, self.back, self.validation = stamp(first, "data.split.first"), back, validation

    def boundaries(self, times: Times) -> Boundaries:
        """The dates for a table."""
        test = int(np.searchsorted(times, self.first)) - self.back
        validation = test - max(1, round(self.validation * test))
        if not 0 < validation < test < len(times):
            what = f"{max(test, 0)} dates of prices lie before the first forecast, {str(self.first)[:10]}"
            raise DataError(what, "the price table", "give a history that the baselines can learn from", code=359)
        return Boundaries(times[0], times[validation], times[test], after(times))
