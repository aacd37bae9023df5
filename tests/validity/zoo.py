"""The zoo: features of a user's own that look ahead, each in a way met in practice, and clean ones next to them.

Every function is named by its import path, as a user would name it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.data.features import feature


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
