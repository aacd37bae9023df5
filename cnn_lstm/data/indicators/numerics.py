"""Numerical helpers shared by the indicators.

What looks at a window owes its bits to the rows of this window alone: pandas and TA-Lib take sums, means and
deviations from running sums, whose rounding depends on rows that have left the window. Recursive indicators are
TA-Lib's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]

HLC = ("high", "low", "close")
OHLC = ("open", *HLC)
HLCV = (*HLC, "volume")

# the least volatility that a logarithm is taken of: this share of the volatility of a quarter of daily bars
FLOOR, FLOOR_ROWS = 0.1, 63
_CHUNK = 4096
# movement below this share of the level is rounding, not movement
_ROUNDING = 1e-12


def memory(alpha: float, tolerance: float = 1e-8, stages: int = 1) -> int:
    """Rows until `stages` exponential smoothings in a row forget how they began, to within `tolerance`.

    Example:
        >>> memory(2 / (26 + 1))
        240
        >>> memory(1 / 14, stages=2)
        291
    """
    left = math.log(tolerance)
    steps = -left
    for _ in range(20):  # fixed point of: steps = -log(tolerance) + log(1 + steps + steps**2 / 2 + ...)
        steps = -left + math.log(sum(steps**k / math.factorial(k) for k in range(stages)))
    return math.ceil(steps / -math.log1p(-alpha)) if alpha < 1 else 0


def ema_memory(period: int, tolerance: float = 1e-8, stages: int = 1) -> int:
    """Warm-up of `stages` exponential averages with alpha = 2 / (period + 1), their seeds included."""
    return stages * period + memory(2 / (period + 1), tolerance, stages)


def wilder_memory(period: int, tolerance: float = 1e-8, stages: int = 1) -> int:
    """Warm-up of `stages` of Wilder's averages, alpha = 1 / period, their seeds included."""
    return stages * period + memory(1 / period, tolerance, stages)


def log_change(later: pd.Series, earlier: pd.Series) -> pd.Series:
    """Log(later / earlier), row by row of two columns of one table."""
    return pd.Series(log_ratio(later.to_numpy(), earlier.to_numpy()), index=later.index, copy=False)


def log_returns(bars: pd.DataFrame, period: int = 1) -> pd.Series:
    """Log return of the close over `period` bars."""
    close = bars["close"]
    values = close.to_numpy()
    return pd.Series(log_ratio(values, lagged(values, period)), index=close.index, copy=False)


def log_ratio(later: FloatArray, earlier: FloatArray) -> FloatArray:
    """Log(later / earlier), (n,); a missing value where it has none, as pandas would have it."""
    with np.errstate(all="ignore"):
        values: FloatArray = np.log(later / earlier)
    return values


def lagged(values: FloatArray, period: int) -> FloatArray:
    """The values `period` rows before, NaN on the first rows; of float64, as `Series.shift` in a tenth of its time."""
    before = np.full(len(values), np.nan)
    before[period:] = values[: max(len(values) - period, 0)]
    return before


def true_range(bars: pd.DataFrame) -> pd.Series:
    """Wilder's true range in units of price; NaN on the first row."""
    previous = bars["close"].shift(1)
    return bars["high"].clip(lower=previous) - bars["low"].clip(upper=previous)


def typical_price(bars: pd.DataFrame) -> pd.Series:
    """(high + low + close) / 3."""
    return (bars["high"] + bars["low"] + bars["close"]) / 3


def share_of_range(part: pd.Series, bars: pd.DataFrame, neutral: float) -> pd.Series:
    """Part / (high - low); a bar without a range is `neutral`."""
    share = ratio_to_range(part.to_numpy(), bars, neutral)
    return pd.Series(share, index=part.index, copy=False)


def ratio_to_range(part: FloatArray, bars: pd.DataFrame, neutral: float) -> FloatArray:
    """`share_of_range` of an array, (n,)."""
    spread = bars["high"].to_numpy() - bars["low"].to_numpy()
    with np.errstate(all="ignore"):
        return np.where(spread == 0, neutral, part / spread)


def from_talib(
    function: Callable[..., Any], inputs: Sequence[pd.Series], *parameters: int, output: int = 0
) -> FloatArray:
    """One output of a TA-Lib function, started again behind every gap of its inputs.

    TA-Lib itself returns NaN for ever after the first NaN.

    Args:
        function: A function of `talib`.
        inputs: Its columns.
        *parameters: Its parameters, in its order.
        output: Which of its outputs.
    """
    columns = [np.ascontiguousarray(column, dtype=np.float64) for column in inputs]
    present = np.logical_and.reduce([np.isfinite(column) for column in columns])
    if len(present) and present.all():
        result = function(*columns, *parameters)
        whole: FloatArray = result[output] if isinstance(result, tuple) else result
        return whole.astype(np.float64, copy=False)  # patterns are whole numbers
    values = np.full(len(present), np.nan)
    edges = np.flatnonzero(np.diff(present, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2):
        result = function(*(column[start:stop] for column in columns), *parameters)
        values[start:stop] = result[output] if isinstance(result, tuple) else result
    return values


def over_windows(function: Callable[..., FloatArray], period: int, *columns: pd.Series | FloatArray) -> FloatArray:
    """A statistic of the last `period` rows, each window by itself, (n,).

    Args:
        function: From one array (n, period) per column to values (n,).
        period: Rows of a window.
        *columns: What the windows are cut from.

    Example:
        >>> over_windows(lambda window: window.max(axis=1), 2, pd.Series([1.0, 3.0, 2.0])).tolist()
        [nan, 3.0, 3.0]
    """
    arrays = [np.ascontiguousarray(column, dtype=np.float64) for column in columns]
    values = np.full(len(arrays[0]), np.nan)
    if len(values) < period:
        return values
    windows = [np.lib.stride_tricks.sliding_window_view(array, period) for array in arrays]
    # in chunks, so that memory stays small; copied, so that sums run in one order wherever the window lies
    for start in range(0, len(windows[0]), _CHUNK):
        part = [np.ascontiguousarray(window[start : start + _CHUNK]) for window in windows]
        values[period - 1 + start :][: len(part[0])] = function(*part)
    return values


def rolling_sum(column: pd.Series, period: int) -> pd.Series:
    """Sum of the last `period` rows; unknown where one of them is, or is infinite.

    Example:
        >>> rolling_sum(pd.Series([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]), 3).tolist()
        [nan, nan, nan, nan, nan, 15.0]
    """
    return pd.Series(_of_last(np.add, _known(column.to_numpy()), period), index=column.index, copy=False)


def rolling_mean(column: pd.Series, period: int) -> pd.Series:
    """Mean of the last `period` rows; that value itself where it stands still.

    Example:
        >>> rolling_mean(pd.Series([0.1, 0.1, 0.1, 0.4]), 3).round(3).tolist()
        [nan, nan, 0.1, 0.2]
    """
    return pd.Series(mean_of_last(column.to_numpy(), period), index=column.index, copy=False)


def mean_of_last(values: FloatArray, period: int) -> FloatArray:
    """`rolling_mean` of an array, (n,)."""
    values = _known(values)
    mean = _of_last(np.add, values, period) / period
    still = values[1:] == values[:-1]
    if period > 1 and still.any():
        since = _fold(np.logical_and, still, period - 1)
        mean[period - 1 :][since] = values[period - 1 :][since]
    return mean


def max_of_last(values: FloatArray, period: int) -> FloatArray:
    """Largest of the last `period` rows, (n,); unknown where one of them is, or is infinite.

    Example:
        >>> max_of_last(np.array([1.0, 3.0, 2.0, 1.0]), 2).tolist()
        [nan, 3.0, 3.0, 2.0]
    """
    return _of_last(np.maximum, _known(values), period)


def _known(values: FloatArray) -> FloatArray:
    """The values, NaN where they are infinite: what would not leave a window again, were it summed, is not known."""
    return np.where(np.isfinite(values), values, np.nan)


def _of_last(join: np.ufunc, values: FloatArray, period: int) -> FloatArray:
    joined = np.full(len(values), np.nan)
    joined[period - 1 :] = _fold(join, values, period)
    return joined


def _fold(join: np.ufunc, values: npt.NDArray[Any], period: int) -> npt.NDArray[Any]:
    """All windows of `period` rows, each joined to one value in an order that is the same for every window.

    Windows of 1, 2, 4, ... rows are joined from two of half their length, and that of `period` from these: the number
    of passes grows with the logarithm of the period.

    Args:
        join: Joins two arrays, such as `np.add`.
        values: (n,).
        period: Rows of a window.

    Returns:
        One value per whole window, (n - period + 1,); empty where there is none.
    """
    if len(values) < period:
        return values[:0]
    joined, done, size = values, 0, 1  # `values` holds the windows of `size` rows, `joined` those of the `done` first
    while done < period:
        if period & size:
            joined = join(joined[: len(joined) - size], values[done:]) if done else values
            done += size
        if done < period:
            values, size = join(values[:-size], values[size:]), 2 * size
    return joined


def rolling_std(column: pd.Series, period: int, ddof: int = 1) -> pd.Series:
    """Standard deviation of the last `period` rows; exactly 0 where nothing moves but the rounding.

    The one of pandas keeps a residue of rows that have left the window, so a ratio of two calm windows is noise.

    Example:
        >>> rolling_std(pd.Series([0.1, 0.1, 0.1, 0.3]), 2).round(3).tolist()
        [nan, 0.0, 0.0, 0.141]
    """
    return pd.Series(std_of_last(column.to_numpy(), period, ddof), index=column.index, copy=False)


def std_of_last(values: FloatArray, period: int, ddof: int = 1) -> FloatArray:
    """`rolling_std` of an array, (n,)."""

    def deviation(windows: FloatArray) -> FloatArray:
        spread = windows.std(axis=1, ddof=ddof)
        return np.where(spread <= _ROUNDING * np.abs(windows).max(axis=1), 0.0, spread)

    return over_windows(deviation, period, values)


def root_mean_square(column: pd.Series, period: int) -> pd.Series:
    """Root of the mean square of the last `period` rows.

    Example:
        >>> root_mean_square(pd.Series([3.0, 4.0, 0.0, 0.0]), 2).round(3).tolist()
        [nan, 3.536, 2.828, 0.0]
    """
    values = over_windows(lambda windows: np.sqrt((windows**2).mean(axis=1)), period, column)
    return pd.Series(values, index=column.index)


def log_root_mean_square(column: pd.Series, period: int) -> pd.Series:
    """Log of `root_mean_square`, which is at least `FLOOR` of that of the last `FLOOR_ROWS` rows.

    The logarithm of a row without movement is minus infinity, and that of a row with hardly any is an outlier. The
    floor is a share of the column's own recent size, so that it knows nothing of later rows and of no unit. Where
    nothing has moved for `FLOOR_ROWS` rows the result is minus infinity.

    Example:
        >>> moves = pd.Series([1.0] * 63 + [0.0, 0.5])
        >>> log_root_mean_square(moves, 1).tail(3).round(3).tolist()
        [0.0, -2.311, -0.693]
    """
    size = root_mean_square(column, period)
    if period < FLOOR_ROWS:  # a longer window holds those rows: it is above the floor by itself
        # not `clip`, which takes an unknown floor as none: then the start of the history would matter
        size = pd.Series(np.maximum(size, _floor(column.to_numpy(dtype=np.float64).tobytes())), index=column.index)
    return pd.Series(np.log(size), index=column.index)


@lru_cache(maxsize=8)
def _floor(column: bytes) -> FloatArray:
    """What the size of a column is at least, (n,): the same for all periods, one feature after the other."""
    return FLOOR * root_mean_square(pd.Series(np.frombuffer(column)), FLOOR_ROWS).to_numpy()


def log_memory(period: int) -> int:
    """Rows that `log_root_mean_square` needs."""
    return max(period, FLOOR_ROWS)


def standardised(windows: FloatArray) -> FloatArray:
    """Each window minus its mean, divided by its deviation, (n, period); NaN where only rounding moves."""
    centred = windows - windows.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    level = np.abs(windows).max(axis=1, keepdims=True)
    scaled: FloatArray = centred / np.where(deviation > _ROUNDING * level, deviation, np.nan)
    return scaled


def correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Pearson's correlation, window by window: (n, period) and (n, period) -> (n,)."""
    values: FloatArray = (standardised(first) * standardised(second)).mean(axis=1)
    return values
