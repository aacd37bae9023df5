"""Warnings of bars that no market makes: a high far above the low, a close or a volume far from its neighbours.

They are compared with the other bars of their symbol and are never refused: a crash, a listing or an index change may
be as strange. `checks.py` has what is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import SPLIT_TOLERANCE, SPLITS, Checks, RowCheck, count_rows, day
from cnn_lstm.errors import Defect

# the widest daily bars of large shares, in the flash crash of 2010-05-06, span 1.6 times their low
WIDE = math.log(5.0)
WIDE_FOR_ITSELF = math.log(1.5)
TIMES_USUAL = 20.0
DOUBLE = math.log(2.0)  # half of the monthly bars of Bitcoin span 1.5 times their low
FAR = math.log(5.0)
# a listing or a rebalancing day trades some hundred times what the days around it do
LOUD = 1e3
NEIGHBOURS = 21
HALF = math.log(1.5)
HALF_TOLERANCE = 0.05
CALM_STEPS = 8.0
# times the median; these find 97 of 100 planted splits of bars and 87 of closes alone, and none of the real moves by a
# third or a half of 20 shares in 30 years
NEAR_STEPS = 4.0
SURELY_NEAR = 0.005
CALM_SPANS = 4.0
AFTERSHOCKS = 4.5
FIX = "compare the bar with another source, and correct it"


def _ranges(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """A high that is many times the low: at all, or for a symbol of calm bars."""
    if "high" not in table or "low" not in table:
        return
    span = np.log(_positive(table["high"])) - np.log(_positive(table["low"]))
    usual = span.groupby(table["symbol"]).transform("median")
    odd = (span > WIDE) | ((span > WIDE_FOR_ITSELF) & (span > TIMES_USUAL * usual)) | (np.minimum(span, usual) > DOUBLE)
    for symbol, spans in span[odd].groupby(table["symbol"]):
        row = spans.idxmax()
        factor, at = math.exp(min(spans.max(), 700.0)), day(table["timestamp"][row])
        what = f"the high is {factor:.4g} times the low on {at}, usually {math.exp(min(usual[row], 700.0)):.4g} times"
        yield _odd(what, table, str(symbol), spans, code=347)


def _leaps(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """A close of many times the one before, or a fraction of it, that is none of a split."""
    if "close" not in table:
        return
    close = np.log(_positive(table["close"])).groupby(table["symbol"]).ffill()
    step = close.groupby(table["symbol"]).diff()
    size = step.abs()
    split = pd.Series(False, index=table.index)
    for factor in SPLITS:
        split |= (np.exp(size.clip(upper=10.0)) / factor - 1).abs() <= SPLIT_TOLERANCE
    for symbol, steps in step[(size > FAR) & ~split].groupby(table["symbol"]):
        row = steps.abs().idxmax()
        times = math.exp(min(max(steps[row], -700.0), 700.0))
        what = f"the close is {times:.4g} times the one before on {day(table['timestamp'][row])}"
        yield _odd(what, table, str(symbol), steps, code=347)


def volumes(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """A volume of a thousand times those around it."""
    if "volume" not in table:
        return
    volume = _positive(table["volume"])
    loud = volume > LOUD * volume.groupby(table["symbol"]).transform("median")
    if not loud.any():
        return
    for symbol, values in volume.groupby(table["symbol"]):
        if not values.max() > LOUD * values.min():  # a median of neighbours is not below the least
            continue
        around = values.rolling(NEIGHBOURS, center=True, min_periods=3).median()
        spread = (np.log(values) - np.log(around)).abs().median()
        # where volumes of neighbours differ much, a thousand times is not odd
        odd = (values > LOUD * around) & (np.log(values) - np.log(around) > 12 * spread)
        if odd.any():
            row = (values / around)[odd].idxmax()
            times = values[row] / around[row]
            what = f"the volume is {times:.3g} times that of the bars around it on {day(table['timestamp'][row])}"
            yield _odd(what, table, str(symbol), values[odd], code=348)


def _three_for_two(table: pd.DataFrame, checks: Checks) -> Iterator[Defect]:
    """Changes by 3:2 overnight, as a split that was not adjusted for makes them, on a day that is calm otherwise.

    A real move may be as large, but is hardly ever 3:2 within the usual move of a day, and what follows it is wild.
    """
    if "close" not in table:
        return
    symbol, close = table["symbol"], np.log(_positive(table["close"]))
    last = close.groupby(symbol).shift()
    step = close - last
    opening = np.log(_positive(table["open"])) - last if "open" in table else step
    usual = step.abs().groupby(symbol).transform("median")
    near = (opening.abs() - HALF).abs() <= (NEAR_STEPS * usual).clip(SURELY_NEAR, HALF_TOLERANCE)
    near &= ((step.abs() - HALF).abs() <= 2 * HALF_TOLERANCE) & (opening * step > 0)
    found = near & (step.abs() > CALM_STEPS * usual) & _calm(table, step.abs(), usual)
    for name, moment, change in zip(symbol[found], table["timestamp"][found], step[found], strict=True):
        ratio = "3:2" if change < 0 else "2:3"
        what = f"may be an unadjusted split {ratio} on {day(moment)}"
        where = f"{name} @ {day(moment)}, close times {math.exp(change):.4g}"
        yield Defect(317, what, where, "compare it with adjusted prices", fatal=False)


def _calm(table: pd.DataFrame, moves: pd.Series, usual: pd.Series) -> pd.Series:
    """Whether a bar spans not much more than usual; of closes alone, whether the next ones move not much more."""
    symbol = table["symbol"]
    if "high" in table and "low" in table:
        span = np.log(_positive(table["high"])) - np.log(_positive(table["low"]))
        wild = span > CALM_SPANS * span.groupby(symbol).transform("median")
    else:
        next_moves = pd.concat([moves.groupby(symbol).shift(-after) for after in (1, 2, 3)], axis=1)
        wild = next_moves.max(axis=1) > (AFTERSHOCKS * usual).clip(lower=SURELY_NEAR)
    calm: pd.Series[bool] = ~wild
    return calm


ODD_CHECKS: tuple[RowCheck, ...] = (_ranges, _leaps, volumes, _three_for_two)


def _positive(values: pd.Series) -> pd.Series:
    """The values that are numbers above 0, as all others are refused."""
    return values.where((values > 0) & np.isfinite(values))


def _odd(what: str, table: pd.DataFrame, symbol: str, rows: pd.Series, code: int) -> Defect:
    first = table["timestamp"][rows.index[0]]
    return Defect(code, what, f"{symbol} @ {day(first)}, {count_rows(len(rows))}", FIX, fatal=False)
