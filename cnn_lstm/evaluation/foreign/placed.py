"""Puts forecasts of others on the rows of a panel, and makes the predictions table of it.

Shapes: n forecasts, N panel rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.predictions import TargetInfo, predictions_table, set_target_infos
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import ForwardReturn, Target
from cnn_lstm.data.times import utc_times
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.forms import Given
from cnn_lstm.hints import counted, first_names

log = logging.getLogger(__name__)
TRUTH_TOLERANCE = 1e-5  # of the size of the truth; labels are float32
POINTS = ("y_pred", "sample_", "lower_", "upper_", "q")  # columns that hold values of the target


@dataclass(frozen=True)
class Placed:
    """Forecasts on the rows of a panel.

    Attributes:
        table: Predictions table, with the truth of the prices.
        rows: Panel row of each forecast of the first target, (n,).
        left_out: Forecasts of other steps, and those that no bar or no complete window belongs to.
    """

    table: pd.DataFrame
    rows: Rows
    left_out: int


def place(given: Given, data: MarketData, closes: bool = False) -> Placed:
    """The predictions table of forecasts.

    Args:
        given: The forecasts.
        data: The data module, after its `setup`.
        closes: Whether the values are prices, from which returns since the last close that was known are taken.

    Raises:
        DataError: E358, if no forecast belongs to a bar, if a target is unknown, or if truths contradict the prices.
    """
    known = {target.name: target for target in data.targets}
    names = list(given.table["target"].unique()) if "target" in given.table else [data.targets[0].name]
    if "target" not in given.table and len(data.targets) > 1:
        fix = f"choose one by data.targets: {first_names(list(known))}"
        raise DataError("the forecasts are of one target, and the data have several", "data.targets", fix, code=358)
    if unknown := [name for name in names if name not in known]:
        fix = f"set data.targets; they are {first_names(list(known))}"
        raise DataError(f"forecasts of {first_names(unknown)}", "data.targets", fix, code=358)
    parts = [_of_target(given, data, known[name], closes) for name in known if name in names]
    table = pd.concat([part.table for part in parts], ignore_index=True) if len(parts) > 1 else parts[0].table
    infos = {name: given.infos.get(name, TargetInfo.of(known[name])) for name in known if name in names}
    set_target_infos(table, infos)
    left_out = sum(part.left_out for part in parts)
    if left_out:
        lost = counted(left_out, "forecast")
        log.warning("%s of %d left out: other steps, or no bar with a complete window", lost, len(given.table))
    return Placed(table, parts[0].rows, left_out)


def _of_target(given: Given, data: MarketData, target: Target, closes: bool) -> Placed:
    theirs = given.table
    if "target" in theirs:
        theirs = theirs[theirs["target"] == target.name].reset_index(drop=True)
    rows = _decisions(theirs, data, target)
    usable = (rows >= 0) & np.isin(rows, data.windows)
    if not usable.any():
        raise DataError(_no_row(theirs, data), "the table of forecasts", "give the prices that were forecast", code=358)
    theirs, rows = theirs[usable], rows[usable]
    order = np.argsort(rows, kind="stable")
    theirs, rows = theirs.iloc[order].reset_index(drop=True), rows[order]
    forecasts = {"y_pred": torch.zeros(len(rows), len(data.targets), dtype=torch.float64)}
    every = predictions_table(data.panel, data.targets, rows, forecasts, data.statistics.y_mean.tolist())
    table = every[every["target"] == target.name].reset_index(drop=True)
    attrs = every.attrs
    own = theirs.drop(columns=["symbol", "as_of", "target_end", "target"], errors="ignore")
    if closes:
        own = _returns(own, target, data, rows)
    _require_same_truth(theirs, table)
    table = table.assign(**{str(name): own[name] for name in own if name != "y_true"})
    table.attrs = attrs
    return Placed(table, rows, int((~usable).sum()))


def _decisions(theirs: pd.DataFrame, data: MarketData, target: Target) -> Rows:
    """Panel row of the last bar that each forecast knew, (n,); -1 where there is none."""
    if "as_of" in theirs and "target_end" not in theirs:
        return _rows_at(theirs["symbol"], theirs["as_of"], data)
    ends = _rows_at(theirs["symbol"], theirs["target_end"], data)
    rows = np.where(ends >= target.reach, ends - target.reach, -1)
    segment = data.panel.segment
    rows[(rows >= 0) & (segment[rows] != segment[np.maximum(ends, 0)])] = -1
    if "as_of" in theirs:  # of several steps ahead, those of our horizon; without an end, whatever was decided then
        known = _rows_at(theirs["symbol"], theirs["as_of"], data)
        return np.where(theirs["target_end"].isna(), known, np.where(rows == known, rows, -1))
    return np.where(_days_without_bar(theirs, ends, rows, data) > 0, -1, rows)


def _days_without_bar(theirs: pd.DataFrame, ends: Rows, rows: Rows, data: MarketData) -> NDArray[np.int64]:
    """Counts the times of the table that have no bar, between the decision and the end of each row.

    Whoever counts in days that have no bar, such as holidays that were filled, decides a bar later for each of them:
    such a forecast knew a part of what it is judged on.

    Args:
        theirs: Forecasts with the bar that each is about, n.
        ends: Panel row of this bar, (n,); -1 where there is none.
        rows: Panel row of the decision as our calendar counts, (n,); -1 where there is none.
        data: The data module.
    """
    between = np.zeros(len(theirs), dtype=np.int64)
    times = utc_times(theirs["target_end"])
    for symbol in theirs["symbol"].unique():
        own = (theirs["symbol"] == symbol).to_numpy()
        filled = np.unique(times[own & (ends < 0)])
        judged = own & (rows >= 0)
        first, last = (np.searchsorted(filled, data.panel.time[at[judged]]) for at in (rows, ends))
        between[judged] = last - first
    return between


def _rows_at(symbol: pd.Series, time: pd.Series, data: MarketData) -> NDArray[np.int64]:
    """Panel row of each symbol and time, (n,); -1 where there is none."""
    panel, moments = data.panel, utc_times(time)
    codes = symbol.map({name: code for code, name in enumerate(panel.symbols)}).fillna(-1).to_numpy(np.int64)
    rows = np.full(len(codes), -1, dtype=np.int64)
    for code in np.unique(codes[codes >= 0]):
        mine, own = codes == code, panel.rows_of(int(code))
        place = np.searchsorted(panel.time[own], moments[mine])
        found = np.minimum(place, own.stop - own.start - 1)
        rows[mine] = np.where(panel.time[own][found] == moments[mine], own.start + found, -1)
    return rows


def _no_row(theirs: pd.DataFrame, data: MarketData) -> str:
    """Why no forecast belongs to a bar."""
    symbols = set(theirs["symbol"].unique())
    if not symbols & set(data.panel.symbols):
        return f"forecasts of {first_names(sorted(symbols))}, prices of {first_names(list(data.panel.symbols))}"
    times = theirs["as_of"] if "as_of" in theirs else theirs["target_end"]
    first, last = (str(day)[:10] for day in (data.panel.time.min(), data.panel.time.max()))
    return f"forecasts {times.min():%Y-%m-%d}..{times.max():%Y-%m-%d} belong to no bar of {first}..{last}"


def _returns(own: pd.DataFrame, target: Target, data: MarketData, rows: Rows) -> pd.DataFrame:
    """Forecasts of prices as returns since the close of the last bar that was known."""
    if not isinstance(target, ForwardReturn):
        fix = "leave out --closes, or judge a ForwardReturn"
        raise DataError(f"prices cannot become {target.name}", "--closes", fix, code=358)
    last = data.prices[target.column].to_numpy(np.float64)[rows]
    values = {str(name): own[name] / last for name in own if str(name).startswith(POINTS)}
    made = {name: np.log(growth) if target.log else growth - 1.0 for name, growth in values.items()}
    return own.assign(**made)


def _require_same_truth(theirs: pd.DataFrame, table: pd.DataFrame) -> None:
    """Refuses a table whose truths are others than those of the prices: it is of other prices, or of another target."""
    if "y_true" not in theirs:
        return
    given, ours = (part["y_true"].to_numpy(np.float64) for part in (theirs, table))
    both = np.isfinite(given) & np.isfinite(ours)
    off = both & (np.abs(given - ours) > TRUTH_TOLERANCE * np.maximum(np.abs(ours), TRUTH_TOLERANCE))
    if off.any():
        row = table[off].iloc[0]
        what = f"{counted(int(off.sum()), 'truth')} of {int(both.sum()):,} contradict the prices"
        where = f"{row['symbol']} @ {row['as_of']:%Y-%m-%d}: {given[off][0]:.6g}, the prices give {ours[off][0]:.6g}"
        raise DataError(what, where, "give the prices and the target that were forecast", code=358)


def first_decision(given: Given) -> np.datetime64:
    """The first time that a table names: of a decision, or of what it is about."""
    column = given.table["target_end" if given.by_target_end else "as_of"]
    return np.datetime64(utc_times(column).min())
