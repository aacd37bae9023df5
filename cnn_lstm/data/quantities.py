"""What kind of quantity a target is, and all that follows from it: its loss, its unit, its baselines.

A target and a predictions table name the kind as text. The names are compared here, and in
`model/calibration.py`, which may not import this room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """A kind of quantity.

    Attributes:
        kind: Its name in checkpoints and predictions tables.
        loss: Name of the loss that judges forecasts of it.
        surprise: What the size of a label's surprise grows with: the volatility of one bar over the root of the
            horizon, the volatility of one bar alone, or nothing that is known.
        is_class: Whether its values are numbers of classes.
        is_volatility: Whether its values are volatilities, or logarithms of them.
        is_log: Whether its values are natural logarithms of volatilities.
        is_level: Whether its values are those of a column itself, so that a forecast of it hardly moves from the last.
        is_return: Whether its values are returns: 0 is a forecast of them, and they are far from any forecast.
        traded: Whether a position is taken on a forecast of it.
    """

    kind: str
    loss: str = "squared error"
    surprise: Literal["root of horizon", "volatility", "constant"] = "constant"
    is_class: bool = False
    is_volatility: bool = False
    is_log: bool = False
    is_level: bool = False
    is_return: bool = False
    traded: bool = False

    @property
    def is_positive(self) -> bool:
        """Whether no value is below 0: a volatility that is not a logarithm."""
        return self.is_volatility and not self.is_log

    @property
    def sign_is_direction(self) -> bool:
        """Whether the sign of a forecast, or of a level's change, says which way the price goes."""
        return self.is_return or self.is_level

    def volatility(self, values: Floats) -> Floats:
        """Volatilities of values of this quantity, both (n,)."""
        return np.exp(values) if self.is_log else values

    def of_volatility(self, volatility: Floats) -> Floats:
        """Values of this quantity of volatilities, both (n,)."""
        return np.log(volatility) if self.is_log else volatility

    def variance(self, values: Floats) -> Floats:
        """Variances of values of this quantity, both (n,).

        Example:
            >>> [quantity(kind).variance(np.array([0.5])).round(2).item() for kind in ("volatility", "log_volatility")]
            [0.25, 2.72]
        """
        if self.is_log:
            return np.asarray(np.exp(2.0 * values))
        return np.clip(values, 0.0, None) ** 2  # a linear forecaster may go below zero


QUANTITIES = {
    one.kind: one
    for one in (
        Quantity("return", surprise="root of horizon", is_return=True, traded=True),
        Quantity("class", loss="log loss", is_class=True, traded=True),
        Quantity("volatility", loss="QLIKE", surprise="volatility", is_volatility=True),
        Quantity("log_volatility", loss="QLIKE", is_volatility=True, is_log=True),
        Quantity("level", surprise="root of horizon", is_level=True),
        Quantity("value"),
    )
}


def quantity(kind: str) -> Quantity:
    """The quantity of a name; any name that is not listed is a plain value."""
    return QUANTITIES.get(kind, QUANTITIES["value"])
