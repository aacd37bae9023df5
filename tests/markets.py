"""Seeded synthetic price tables: random walks of several symbols with unequal calendars, and planted signals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.sources.base import PriceSource, select

START = "2010-01-04"
PRICES = ["open", "high", "low", "close"]


class TableSource(PriceSource):
    """A table that is at hand already.

    Args:
        table: Price table.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Selects from the table."""
        return select(self.table, symbols, start, end, "the table")


def days(rows: int, start: str = START) -> pd.DatetimeIndex:
    """Business days in UTC."""
    return pd.bdate_range(start, periods=rows, tz="UTC").as_unit("us")


def bars_of(close: NDArray[np.float64], when: pd.DatetimeIndex, symbol: str = "AAA", seed: int = 0) -> pd.DataFrame:
    """Bars around given closes: the open near the last close, high and low around both, a random volume."""
    random = np.random.default_rng(seed)
    rows = len(close)
    last = np.concatenate([close[:1], close[:-1]])
    opened = last * np.exp(random.normal(0, 0.003, rows))
    high = np.maximum(opened, close) * np.exp(np.abs(random.normal(0, 0.004, rows)))
    low = np.minimum(opened, close) * np.exp(-np.abs(random.normal(0, 0.004, rows)))
    volume = np.round(np.exp(random.normal(12, 0.4, rows)))
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return pd.DataFrame({"symbol": symbol, "timestamp": when, **columns})


def walk(rows: int = 300, symbol: str = "AAA", seed: int = 0, start: str = START) -> pd.DataFrame:
    """A random walk with 1 % steps, one bar each business day."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, rows)))
    return bars_of(close, days(rows, start), symbol, seed + 1)


def market(
    rows: int = 300, symbols: Sequence[str] = ("AAA", "BBB", "CCC"), seed: int = 0, gaps: bool = True
) -> pd.DataFrame:
    """Random walks of several symbols, each with a first day of its own and some days missing.

    Args:
        rows: Rows of the first symbol before any are taken out.
        symbols: Names.
        seed: Seed.
        gaps: Take single days out of every symbol, and four weeks out of the second one.
    """
    tables = []
    for number, symbol in enumerate(symbols):
        start = str(days(1 + 7 * number)[-1])[:10]
        table = walk(rows - 7 * number, symbol, seed * 100 + number, start)
        if gaps:
            random = np.random.default_rng(seed * 100 + number)
            keep = random.random(len(table)) > 0.03
            keep[[0, -1]] = True
            if number == 1:
                keep[rows // 2 : rows // 2 + 20] = False
            table = table[keep]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def turning_market(rows: int, turn: int, until: int | None = None, seeds: Sequence[int] = (0, 1)) -> pd.DataFrame:
    """Returns that go on until a row, and turn back from then on: a model of before is wrong after it.

    Args:
        rows: Rows of each symbol.
        turn: The row.
        until: How many rows are there yet; all by default.
        seeds: Seed of each symbol.
    """
    tables = []
    for number in seeds:
        noise, returns = np.random.default_rng(number).normal(0, 0.01, rows), np.zeros(rows)
        for row in range(1, rows):
            returns[row] = (0.7 if row < turn else -0.7) * returns[row - 1] + noise[row]
        tables.append(bars_of(100 * np.exp(returns.cumsum()), days(rows), "AB"[number] * 3, number)[:until])
    return pd.concat(tables, ignore_index=True)


def autoregressive(rows: int, phi: float, symbol: str = "AAA", seed: int = 0) -> pd.DataFrame:
    """Log returns r(t) = phi r(t-1) + noise, with a standard deviation of 1 %.

    The best forecast of r(t + k) at t is phi^k r(t): `optimal_r2`.
    """
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.01 * np.sqrt(1 - phi**2), rows)
    returns = np.zeros(rows)
    for row in range(1, rows):
        returns[row] = phi * returns[row - 1] + noise[row]
    return bars_of(100 * np.exp(np.cumsum(returns)), days(rows, "1990-01-01"), symbol, seed + 1)


def optimal_r2(phi: float, delay: int) -> float:
    """R2 of the best forecast of the one-row return behind a delay, in an `autoregressive` market."""
    return float(phi ** (2 * (delay + 1)))
