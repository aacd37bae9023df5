"""Are the bars what a forecast may rest on? Their age, symbols that are missing, old bars that have changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.exchange import sessions_of
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.odd_bars import ODD_CHECKS
from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.data.times import time_text
from cnn_lstm.hints import counted, first_names
from cnn_lstm.model.contract import Contract
from cnn_lstm.service.health import Sign

MOST_AGE = {"session": 1, "weekday": 2, "day": 2, "bar": 12}  # a weekday may be a holiday
COMPARED = 500  # newest bars of a symbol that odd bars are looked for in
DAY, MINUTE = 86_400_000_000, 60_000_000  # microseconds


@dataclass(frozen=True)
class Age:
    """How old the newest bar of a symbol is.

    Attributes:
        symbol: The symbol.
        last: Its newest bar.
        age: Sessions, weekdays, days or bars that have passed since; 0 for a bar of today.
        unit: What is counted.
    """

    symbol: str
    last: pd.Timestamp
    age: int
    unit: str


def ages(data: MarketData, now: pd.Timestamp) -> list[Age]:
    """The age of the newest bar of each symbol.

    With `data.exchange` sessions are counted that have ended. Without it daily bars count weekdays, or days where they
    have bars on weekends. Intraday bars count weekdays too, or bars where they have some on weekends: that market never
    closes.

    Args:
        data: Data that are set up.
        now: The moment of the look, UTC.
    """
    panel, unit = data.panel, _unit(data)
    step = float(np.median(np.diff(np.unique(panel.time)).astype(np.int64))) if len(panel) > 1 else DAY
    found = []
    for symbol, last in pd.Series(panel.time).groupby(panel.symbol).max().items():
        moment = pd.Timestamp(last, tz="UTC")
        age = _passed(moment, now, unit, step, data.recipe.exchange)
        found.append(Age(panel.symbols[int(str(symbol))], moment, max(age, 0), unit))
    return found


def _unit(data: MarketData) -> str:
    if data.recipe.exchange:
        return "session"
    microseconds = data.panel.time.astype(np.int64)
    on_weekends = (pd.DatetimeIndex(data.panel.time).day_of_week >= 5).mean() > 0.1
    is_daily = bool((microseconds % DAY == 0).all())
    return ("day" if is_daily else "bar") if on_weekends else "weekday"


def _passed(last: pd.Timestamp, now: pd.Timestamp, unit: str, step: float, exchange: str) -> int:
    if unit == "session":
        moments = np.array([last.value // 1000, now.value // 1000])
        sessions = sessions_of(exchange, moments)
        begun = sessions.number(moments)
        return int(begun[1] - begun[0] - 1) if last.value // 1000 % DAY == 0 else int(begun[1] - begun[0])
    if unit == "bar":
        return int((now - last) / pd.Timedelta(step, "us"))
    if unit == "day":
        return int((now.normalize() - last.normalize()).days)
    return int(np.busday_count(last.date(), now.date()))


def age_sign(found: list[Age]) -> Sign:
    """Whether a symbol has no bar of late: a forecast of old bars looks like any other one."""
    unit = found[0].unit
    old = sorted((one for one in found if one.age > MOST_AGE[unit]), key=lambda one: -one.age)
    newest = max(one.last for one in found)
    if not old:
        oldest = max(one.age for one in found)
        return Sign(
            "age", "fine", f"The newest bar is of {_at(newest)}; none is more than {counted(oldest, unit)} old."
        )
    who = first_names([one.symbol for one in old], most=3)
    worst = f"{_at(old[0].last)}, {counted(old[0].age, unit)} ago"
    which = f"{counted(len(old), 'symbol')} of {len(found)}"
    return Sign("age", "watch", f"The newest bar is old: {who} ({which}), the oldest one of {worst}. Look at the feed.")


def _at(moment: pd.Timestamp) -> str:
    return time_text(np.datetime64(moment.tz_localize(None)))


def data_sign(data: MarketData, contract: Contract, end: pd.Timestamp) -> Sign:
    """Whether old bars have changed, symbols are missing, or new bars are odd.

    Args:
        data: Data that are set up.
        contract: What the checkpoint says of its data.
        end: First moment that the fit knew nothing of.
    """
    reasons = []
    prices = data.prices
    if contract.fingerprint not in (data.fingerprint, data_fingerprint(prices[prices["timestamp"] < end])):
        reasons.append(
            f"The bars before {end:%Y-%m-%d} are not those that the model was trained on: the source has corrected or "
            "rescaled them, or gives other symbols or dates."
        )
    if missing := sorted(set(contract.symbols) - set(data.panel.symbols)):
        reasons.append(f"{counted(len(missing), 'symbol')} of the training have no bars: {first_names(missing)}.")
    if odd := list(_new_odd_bars(prices, data.recipe.checks, end)):
        more = f" ({len(odd) - 1} more like it)" if len(odd) > 1 else ""
        reasons.append(f"A new bar is odd: {odd[0]}{more}.")
    if reasons:
        return Sign("data", "watch", " ".join(reasons))
    return Sign("data", "fine", "The old bars are those of the training, and no new one is odd.")


def _new_odd_bars(prices: pd.DataFrame, checks: Checks, end: pd.Timestamp) -> Iterator[str]:
    """What the checks of odd bars find among the newest bars that they did not find before the end of the test."""
    newest = prices.groupby("symbol").tail(COMPARED).reset_index(drop=True)
    before = set(_odd(newest[newest["timestamp"] < end].reset_index(drop=True), checks))
    yield from (one for one in _odd(newest, checks) if one not in before)


def _odd(prices: pd.DataFrame, checks: Checks) -> Iterable[str]:
    if not len(prices):
        return []
    return [f"{defect.what} ({defect.where})" for check in ODD_CHECKS for defect in check(prices, checks)]
