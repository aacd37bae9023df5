"""Random features that look back alone: what a user might write, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from cnn_lstm.data.features import Feature

Series = Callable[[pd.DataFrame], pd.Series]
Operation = Callable[[pd.Series, int], pd.Series]

INPUTS: dict[str, Series] = {
    "close": lambda bars: bars["close"],
    "return": lambda bars: bars["close"].pct_change(),
    "range": lambda bars: pd.Series(np.log(bars["high"] / bars["low"])),
    "volume": lambda bars: np.log1p(bars["volume"]),
    "overnight": lambda bars: bars["open"] / bars["close"].shift(1) - 1,
    # events, and repairs from the past
    "repaired": lambda bars: bars["close"].where(~(bars["close"].pct_change().abs() > 0.08)).ffill(),
    "spike": lambda bars: (bars["volume"] > 8 * bars["volume"].rolling(20).median()).astype(float),
    "pause": lambda bars: (bars["timestamp"].diff() > pd.Timedelta(days=4)).astype(float),
    "weekday": lambda bars: bars["timestamp"].dt.day_of_week.astype(float),
    "week": lambda bars: bars["close"] / bars.groupby(_week(bars))["close"].transform("first"),
}
# name: operation, and rows that it looks back; None without an end
OPERATIONS: dict[str, tuple[Operation, Callable[[int], int] | None]] = {
    "mean": (lambda x, n: x.rolling(n).mean(), lambda n: n),
    "deviation": (lambda x, n: x.rolling(n).std(), lambda n: n),
    "median": (lambda x, n: x.rolling(n).median(), lambda n: n),
    "rank": (lambda x, n: x.rolling(n).rank(), lambda n: n),
    "highest": (lambda x, n: x.rolling(n).max(), lambda n: n),
    "skew": (lambda x, n: x.rolling(n + 2).skew(), lambda n: n + 2),
    "change": (lambda x, n: x.diff(n), lambda n: n),
    "earlier": (lambda x, n: x.shift(n), lambda n: n),
    "weighted": (lambda x, n: x.ewm(span=n).mean(), None),
    "so far": (lambda x, n: x.expanding(n).mean(), None),
    "summed": (lambda x, n: x.fillna(0.0).cumsum(), None),
    "since": (lambda x, n: x.groupby((x > x.shift(1)).cumsum()).cumcount().astype(float), None),
    "line": (lambda x, n: pd.Series(np.convolve(x.fillna(0.0), np.arange(1.0, n + 1))[: len(x)]), lambda n: n),
}


def clean_feature(seed: int) -> Feature:
    """A feature of one or two operations on an input, with the warm-up that it has, a longer one, or none declared."""
    random = np.random.default_rng(seed)
    source = str(random.choice([*INPUTS]))
    names = [str(random.choice([*OPERATIONS])) for _ in range(random.integers(1, 3))]
    lengths = [int(random.integers(2, 30)) for _ in names]

    def function(bars: pd.DataFrame) -> pd.Series:
        x = INPUTS[source](bars)
        for name, length in zip(names, lengths, strict=True):
            x = OPERATIONS[name][0](x, length)
        return x

    looks_back = [OPERATIONS[name][1] for name in names]
    warmup = 0
    if None not in looks_back and random.random() < 0.7:
        warmup = 25 + sum(rule(length) for rule, length in zip(looks_back, lengths, strict=True) if rule is not None)
    return Feature(f"{source}, {' of '.join(names)}", function, warmup, ("close",), "own")


def _week(bars: pd.DataFrame) -> pd.Series:
    return pd.Series(bars["timestamp"].dt.tz_localize(None).dt.to_period("W"))
