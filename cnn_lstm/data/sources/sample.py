"""The bars that the package carries."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import pandas as pd

from cnn_lstm.data.sources.base import PriceSource, select


class SampleBars(PriceSource):
    """Real daily bars of AAPL, GOOG, IBM and MSFT from 2000-03-01 to 2013-03-01, shipped with the package.

    Provenance and licence are in the README.md next to the file.

    Args:
        adjusted: Multiply open, high, low and close by `adj_close / close`, divide volume by this factor, so
            that splits and dividends make no jump; `adj_close` is then dropped. False gives the values as
            supplied, with `adj_close`.

    Example:
        >>> table = SampleBars().load(["IBM"], "2001-01-01", "2001-01-06")
        >>> len(table), list(table.columns)
        (4, ['symbol', 'timestamp', 'open', 'high', 'low', 'close', 'volume'])
    """

    def __init__(self, adjusted: bool = True) -> None:
        self.adjusted = adjusted

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load bars; see `PriceSource.load`."""
        with resources.files("cnn_lstm.data").joinpath("sample", "daily_bars.parquet").open("rb") as stream:
            table = pd.read_parquet(stream)
        table = select(table, symbols, start, end, "the sample")
        return adjust(table) if self.adjusted else table


def adjust(table: pd.DataFrame) -> pd.DataFrame:
    """Scale open, high, low and close by `adj_close / close`, volume by its inverse; drop `adj_close`.

    Args:
        table: Price table with the columns open, high, low, close, volume and adj_close.

    Example:
        >>> raw = pd.DataFrame([[8.0, 8.0, 8.0, 8.0, 3.0, 4.0]])
        >>> raw.columns = ["open", "high", "low", "close", "volume", "adj_close"]
        >>> adjust(raw).iloc[0].to_list()
        [4.0, 4.0, 4.0, 4.0, 6.0]
    """
    prices = ["open", "high", "low", "close"]
    factor = table["adj_close"] / table["close"]
    scaled = {name: table[name] * factor for name in prices} | {"volume": table["volume"] / factor}
    return table.assign(**scaled).drop(columns="adj_close")
