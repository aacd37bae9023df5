"""A stand-in for Yahoo: histories as yfinance returns them, without a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yfinance

from tests.markets import bars_of

ZONE = "America/New_York"
BARS = {"1d": 1_200, "1h": 2_000}


class Ticker:
    """One symbol; the same symbol always has the same prices."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol

    def history(self, **options: Any) -> pd.DataFrame:
        """Bars of business days, or of the seven hours of each."""
        rows = BARS[options["interval"]]
        days = pd.bdate_range(options["start"], periods=rows, tz=ZONE)
        hours = pd.to_timedelta(np.arange(7) + 9.5, unit="h")
        when = days if options["interval"] == "1d" else pd.DatetimeIndex([d + h for d in days for h in hours][:rows])
        random = np.random.default_rng(sum(map(ord, self.symbol)))
        close = 50 * np.exp(np.cumsum(random.normal(0, 0.01, rows)))
        bars = bars_of(close, when.tz_convert("UTC"), self.symbol, seed=1)
        bars.columns = bars.columns.str.title()
        frame = bars.drop(columns=["Symbol", "Timestamp"]).set_index(when)
        return frame[frame.index < pd.Timestamp(options["end"], tz=ZONE)]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the stand-in in Yahoo's place."""
    monkeypatch.setattr(yfinance, "Ticker", Ticker)
