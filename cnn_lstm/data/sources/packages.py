"""Bars that another package carries: real, larger than the sample, and there without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import pandas as pd

from cnn_lstm.data.sources.base import TIME_DTYPE, PriceSource, select
from cnn_lstm.errors import ConfigError, require

Dataset = Literal["sp500", "sp500_index", "factors"]


class SkfolioBars(PriceSource):
    """Adjusted daily closes of one of the data sets inside skfolio (BSD-3), which `pip install skfolio` brings.

    They are real, and stale: meant for examples and tests, as skfolio says. There is a column `close` and no other, so
    `data.features` must name features of the close alone. `sp500` holds 20 stocks of the S&P 500 from 1990-01-02 to
    2022-12-28 (8,313 rows each), `sp500_index` the index over the same days, `factors` five exchange-traded funds from
    2014-01-02 on.

    Among the stocks, RRC is refused by the checks (E317): its close falls to a third on 1990-04-10, as a split that
    was not adjusted for. It hardly trades until 1992: on 91 % of the days of 1990 and 1991 its close stands still.
    Leave it out with `data.symbols`, or begin with `data.start: 1993-01-01`.

    Args:
        dataset: Which of them.

    Raises:
        ConfigError: E233, there is no such data set.

    Source:
        skfolio, https://skfolio.org/api.html#datasets.

    Example:
        >>> SkfolioBars("factors").dataset
        'factors'
    """

    def __init__(self, dataset: Dataset = "sp500") -> None:
        known = get_args(Dataset)
        fix = f"use one of {', '.join(known)}"
        require(dataset in known, f"dataset {dataset!r}", "data.source.dataset", fix, code=233)
        self.dataset = dataset

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Load closes; see `PriceSource.load`.

        Raises:
            ConfigError: E235, skfolio is not installed.
        """
        try:
            from skfolio import datasets
        except ImportError as error:
            what = f"{error.name or 'skfolio'} is not installed"
            raise ConfigError(what, "data.source SkfolioBars", "pip install skfolio", code=235) from error
        # only loaders whose file lies in the package: the others of skfolio download
        names = {"sp500": "load_sp500_dataset", "sp500_index": "load_sp500_index", "factors": "load_factors_dataset"}
        wide: pd.DataFrame = getattr(datasets, names[self.dataset])()
        return select(_long(wide), symbols, start, end, f"skfolio's {self.dataset}")


def _long(wide: pd.DataFrame) -> pd.DataFrame:
    """Price table of closes with one row per day and one column per symbol; a missing close has no row.

    Example:
        >>> wide = pd.DataFrame({"A": [1.0, 2.0], "B": [3.0, None]}, index=pd.to_datetime(["2024-01-02", "2024-01-03"]))
        >>> _long(wide)[["symbol", "close"]].to_numpy().tolist()
        [['A', 1.0], ['A', 2.0], ['B', 3.0]]
    """
    when = pd.DatetimeIndex(wide.index, name="timestamp").tz_localize("UTC")
    table = wide.set_axis(when).melt(ignore_index=False, var_name="symbol", value_name="close").reset_index()
    types = {"symbol": "str", "timestamp": TIME_DTYPE, "close": "float64"}
    return table[list(types)].astype(types).dropna(subset="close").reset_index(drop=True)
