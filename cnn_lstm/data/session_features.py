"""Where in its session a bar lies: features that need `data.exchange`.

They follow from the timestamp of the bar and the calendar alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnn_lstm.data.exchange import MINUTE, sessions_of
from cnn_lstm.data.features import Feature
from cnn_lstm.data.times import microseconds
from cnn_lstm.errors import ConfigError

SESSIONS = "sessions"  # their family
Minutes = npt.NDArray[np.float64]


def minutes_since_open(exchange: str, bars: pd.DataFrame) -> Minutes:
    """Minutes from the open of the session to the timestamp of the bar; a break counts as the rest does.

    Before the open it is 0, and after the close the length of the session.

    Args:
        exchange: Its code.
        bars: Bars of moments.

    Example:
        >>> when = pd.to_datetime(["2024-03-08 14:30", "2024-03-11 14:30"]).tz_localize("UTC")  # a change of the clock
        >>> minutes_since_open("XNYS", pd.DataFrame({"timestamp": when})).tolist()
        [0.0, 60.0]
    """
    return _minutes(exchange, bars)[0]


def minutes_to_close(exchange: str, bars: pd.DataFrame) -> Minutes:
    """Minutes from the timestamp of the bar to the close of the session, which may be an early one.

    Before the open it is the length of the session, and after the close 0.

    Args:
        exchange: Its code.
        bars: Bars of moments.

    Example:
        >>> when = pd.to_datetime(["2024-07-02 15:30", "2024-07-03 15:30"]).tz_localize("UTC")  # a half day
        >>> minutes_to_close("XNYS", pd.DataFrame({"timestamp": when})).tolist()
        [270.0, 90.0]
    """
    return _minutes(exchange, bars)[1]


def _minutes(exchange: str, bars: pd.DataFrame) -> tuple[Minutes, Minutes]:
    """Minutes since the open and to the close; NaN on days without a session."""
    times = microseconds(bars["timestamp"])
    sessions = sessions_of(exchange, times)
    number = sessions.around(times)
    opens, closes = sessions.opens[number], sessions.closes[number]
    inside = times.clip(opens, closes)
    unknown = np.where(number < 0, np.nan, 0.0)
    return (inside - opens) / MINUTE + unknown, (closes - inside) / MINUTE + unknown


def _unbound(name: str, bars: pd.DataFrame) -> NoReturn:
    """What such a feature is before the recipe gives it an exchange."""
    fix = "set data.exchange, for example XNYS"
    raise ConfigError(f"the feature {name} needs an exchange", "data.features", fix, code=230)


FUNCTIONS: dict[str, Callable[[str, pd.DataFrame], Minutes]] = {
    function.__name__: function for function in (minutes_since_open, minutes_to_close)
}
SESSION_FEATURES = {name: Feature(name, partial(_unbound, name), 0, (), SESSIONS) for name in FUNCTIONS}


def of_exchange(feature: Feature, exchange: str) -> Feature:
    """A feature of sessions with its exchange.

    Args:
        feature: One of `SESSION_FEATURES`.
        exchange: Its code; empty for none.

    Raises:
        ConfigError: E230, if there is none.
    """
    if not exchange:
        _unbound(feature.name, pd.DataFrame())
    return replace(feature, function=partial(FUNCTIONS[feature.name], exchange))
