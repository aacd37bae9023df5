"""The zoo: features of a user's own that look ahead, each in a way met in practice, and clean ones next to them.

Every function is named by its import path, as a user would name it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.data.features import feature
from tests.markets import market


@feature()
def full_sample_zscore(bars: pd.DataFrame) -> pd.Series:
    return (bars["close"] - bars["close"].mean()) / bars["close"].std()


@feature()
def sample_mean_by_groupby(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] / bars.groupby("symbol")["close"].transform("mean")


@feature()
def filled_backwards(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].where(bars.index % 3 == 0).bfill()


@feature()
def interpolated(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].where(bars.index % 4 == 0).interpolate()


@feature(warmup=2)
def centred_mean(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] / bars["close"].rolling(5, center=True).mean()


@feature(inputs=("volume",))
def negative_shift(bars: pd.DataFrame) -> pd.Series:
    return bars["volume"].shift(-1)


@feature()
def weekly_close(bars: pd.DataFrame) -> pd.Series:
    """The close at the end of the week, joined to all days of it."""
    week = bars["timestamp"].dt.tz_localize(None).dt.to_period("W")
    return bars["close"] / bars.groupby(week)["close"].transform("last")


@feature()
def winsorised(bars: pd.DataFrame) -> pd.Series:
    returns = bars["close"].pct_change()
    return returns.clip(float(returns.quantile(0.05)), float(returns.quantile(0.95)))


@feature()
def full_sample_rank(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].rank(pct=True)


@feature()
def full_sample_quantiles(bars: pd.DataFrame) -> pd.Series:
    return pd.qcut(bars["close"], 5, labels=False).astype("float64")


@feature()
def rebased_on_the_last_close(bars: pd.DataFrame) -> pd.Series:
    return pd.Series(bars["close"] / bars["close"].iloc[-1])


@feature()
def sign_of_the_target(bars: pd.DataFrame) -> pd.Series:
    return pd.Series(np.sign(bars["close"].shift(-3) / bars["close"].shift(-1) - 1))


@feature()
def highest_to_come(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] / bars["close"][::-1].cummax()[::-1]


@feature(inputs=("open", "high", "low", "close"))
def first_component(bars: pd.DataFrame) -> pd.Series:
    """Principal component of the bars over the whole sample."""
    values = pd.DataFrame(np.log(bars[["open", "high", "low", "close"]])).diff().fillna(0.0).to_numpy()
    return pd.Series(values @ np.linalg.svd(values, full_matrices=False)[2][0])


@feature(cross_sectional=True)
def others_on_their_next_day(table: pd.DataFrame) -> pd.Series:
    """Mean close of all symbols on the day after, as when calendars are joined on the wrong date."""
    mean = table.groupby("timestamp")["close"].mean()
    return table["timestamp"].map(mean.shift(-1))


@feature(cross_sectional=True)
def mean_of_the_survivors(table: pd.DataFrame) -> pd.Series:
    """Mean close of those symbols that have a bar on the last day of all."""
    alive = table.loc[table["timestamp"] == table["timestamp"].max(), "symbol"]
    mean = table[table["symbol"].isin(alive)].groupby("timestamp")["close"].mean()
    return table["timestamp"].map(mean)


LEAKS = (
    full_sample_zscore,
    sample_mean_by_groupby,
    filled_backwards,
    interpolated,
    centred_mean,
    negative_shift,
    weekly_close,
    winsorised,
    full_sample_rank,
    full_sample_quantiles,
    rebased_on_the_last_close,
    sign_of_the_target,
    highest_to_come,
    first_component,
    others_on_their_next_day,
    mean_of_the_survivors,
)


# -- rare leaks: they see the future at a few rows alone ---------------------------------------------------------------


def eventful(rows: int = 420, seed: int = 4) -> pd.DataFrame:
    """A market in which things happen: bad ticks, limit moves, stale prices, spikes of volume and days without one."""
    table: pd.DataFrame = market(rows, seed=seed)
    random = np.random.default_rng(seed)
    prices = ["open", "high", "low", "close"]
    for symbol in table["symbol"].unique():
        at = table.index[table["symbol"] == symbol]
        chosen = random.permutation(at[30:-5])[:18]
        ticks, limits, stale, spikes, silent = np.split(chosen, [3, 6, 10, 14])
        table.loc[ticks, prices] *= 1.15  # for one bar
        for row in limits:
            table.loc[at[at >= row], prices] *= 1.12  # and it stays there
        for row in stale:
            table.loc[row, prices] = table.loc[row - 1, "close"]
        table.loc[spikes, "volume"] *= 40.0
        table.loc[silent, "volume"] = 0.0
    table = table.drop(index=at[-12:])
    return table.reset_index(drop=True)  # the last symbol is taken off the list


@feature()
def outliers_filled_backwards(bars: pd.DataFrame) -> pd.Series:
    """The close, where it moved by more than 8 % that of the next bar."""
    return bars["close"].where(~(bars["close"].pct_change().abs() > 0.08)).bfill()


@feature(warmup=5)
def bad_ticks_smoothed(bars: pd.DataFrame) -> pd.Series:
    """The close, or the median with its neighbours where it lies far from that."""
    median = bars["close"].rolling(3, center=True).median()
    far = (bars["close"] / median - 1).abs() > 0.08
    return pd.Series(bars["close"].where(~far, median) / bars["close"].rolling(5).mean())


@feature(warmup=1)
def limit_move_tomorrow(bars: pd.DataFrame) -> pd.Series:
    """The size of the limit move that the next bar brings, else today's return."""
    returns = bars["close"].pct_change()
    return returns.shift(-1).where(returns.shift(-1).abs() > 0.1, returns)


@feature(inputs=("high", "low", "close"))
def locked_until_released(bars: pd.DataFrame) -> pd.Series:
    """The close, on a bar without a range that of the next bar with one."""
    return bars["close"].where(bars["high"] > bars["low"]).bfill().fillna(bars["close"])


@feature()
def stale_prices_interpolated(bars: pd.DataFrame) -> pd.Series:
    """The close, where it did not move the line between its neighbours."""
    return bars["close"].where(bars["close"].diff() != 0).interpolate()


@feature(inputs=("volume",))
def silent_days_filled(bars: pd.DataFrame) -> pd.Series:
    """The volume, on a day without any that of the next one."""
    return pd.Series(np.log(bars["volume"].replace(0.0, np.nan).bfill()))


@feature(warmup=20, inputs=("volume",))
def event_window(bars: pd.DataFrame) -> pd.Series:
    """Whether a spike of volume lies within three rows, before or after."""
    spike = bars["volume"] > 8 * bars["volume"].rolling(20).median()
    return spike.astype(float).rolling(7, center=True, min_periods=1).max()


@feature()
def before_a_holiday(bars: pd.DataFrame) -> pd.Series:
    """Whether the next bar is more than a weekend away."""
    away = bars["timestamp"].shift(-1) - bars["timestamp"]
    return (away > pd.Timedelta(days=3)).astype(float)


@feature()
def first_bars_filled(bars: pd.DataFrame) -> pd.Series:
    """A trend whose first rows are filled from its first value."""
    return (bars["close"] / bars["close"].rolling(20).mean()).bfill()


@feature()
def last_bar_of_the_month(bars: pd.DataFrame) -> pd.Series:
    month = bars["timestamp"].dt.tz_localize(None).dt.to_period("M")
    return pd.Series((month != month.shift(-1).fillna(month)).astype(float))


@feature()
def one_split_adjusted(bars: pd.DataFrame) -> pd.Series:
    """The close, the bar before a jump of 10 % and more in units of the one after it."""
    ratio = bars["close"].shift(-1) / bars["close"]
    return bars["close"].where(~(ratio > 1.1), bars["close"] * ratio)


@feature(cross_sectional=True)
def delisting_is_near(table: pd.DataFrame) -> pd.Series:
    """1 at the last three bars of a symbol that ends before the others."""
    of_symbol = table.groupby("symbol")["timestamp"]
    left = of_symbol.cumcount(ascending=False)
    return pd.Series(((left < 3) & (of_symbol.transform("max") < table["timestamp"].max())).astype(float))


@feature(cross_sectional=True)
def halted_ones_take_their_next_close(table: pd.DataFrame) -> pd.Series:
    """The close, where the symbol has a bar without volume that of its next bar."""
    close = table["close"].where(table["volume"] > 0)
    return pd.Series(close.groupby(table["symbol"]).bfill())


@feature(warmup=5, inputs=("high", "close"))
def best_price_of_the_event(bars: pd.DataFrame) -> pd.Series:
    """On a bar that moved by 10 % and more the highest of the next three bars, else the close; over its mean."""
    best = bars["high"][::-1].rolling(4, min_periods=1).max()[::-1]
    moved = bars["close"].pct_change().abs() > 0.1
    return pd.Series(best.where(moved, bars["close"]) / bars["close"].rolling(5).mean())


RARE = (
    outliers_filled_backwards,
    bad_ticks_smoothed,
    limit_move_tomorrow,
    locked_until_released,
    stale_prices_interpolated,
    silent_days_filled,
    event_window,
    before_a_holiday,
    first_bars_filled,
    last_bar_of_the_month,
    one_split_adjusted,
    delisting_is_near,
    halted_ones_take_their_next_close,
    best_price_of_the_event,
)


# -- clean ones: what the leaks should have been -----------------------------------------------------------------------


@feature(warmup=19)
def trailing_zscore(bars: pd.DataFrame) -> pd.Series:
    window = bars["close"].rolling(20)
    return (bars["close"] - window.mean()) / window.std()


@feature(warmup=4)
def filled_forwards(bars: pd.DataFrame) -> pd.Series:
    """The close of the last Monday, or of the first day of a week."""
    week = bars["timestamp"].dt.tz_localize(None).dt.to_period("W")
    return bars["close"] / bars.groupby(week)["close"].transform("first")


@feature(warmup=1, inputs=("volume",))
def positive_shift(bars: pd.DataFrame) -> pd.Series:
    return bars["volume"].shift(1)


@feature(cross_sectional=True, warmup=1)
def others_on_the_same_day(table: pd.DataFrame) -> pd.Series:
    returns = table.groupby("symbol")["close"].pct_change()
    return returns.groupby(table["timestamp"]).transform("mean")


CLEAN = (trailing_zscore, filled_forwards, positive_shift, others_on_the_same_day)


@feature()
def next_return(bars: pd.DataFrame) -> pd.Series:
    """The target itself, for a delay of 1 and a horizon of 1."""
    close = pd.Series(np.log(bars["close"]))
    return close.shift(-2) - close.shift(-1)


# -- warm-up and levels ------------------------------------------------------------------------------------------------


@feature()
def undeclared_memory(bars: pd.DataFrame) -> pd.Series:
    """An endless average without a warm-up: it never forgets where the table begins."""
    return bars["close"] / bars["close"].ewm(span=200).mean()


@feature()
def dollars(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] - bars["close"].shift(1)


@feature()
def reads_other_symbols(bars: pd.DataFrame) -> pd.Series:
    """State between calls: the last bars it was given are those of another symbol."""
    before = reads_other_symbols.__dict__.get("last", 1.0)
    reads_other_symbols.__dict__["last"] = float(bars["close"].iloc[0])
    return pd.Series(bars["close"] * 0.0 + before)


def path(function: Any) -> str:
    """The name of a feature of the zoo in a configuration."""
    return f"{__name__}.{function.__name__}"
