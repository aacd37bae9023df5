"""The `feature` decorator: what a function must tell about itself to be offered as a feature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE = "__cnn_lstm_feature__"


@dataclass(frozen=True)
class FeatureInfo:
    """What `feature` wrote down about one function.

    Attributes:
        name: Name in the YAML, without parameters.
        family: Heading in the table of features.
        inputs: Columns that the function reads.
        warmup_rule: Rows at the start of each symbol without a value; given the parameters where it is a function.
        at_least: Smallest value of each parameter.
        cross_sectional: Whether the function reads the rows of all symbols with the same timestamp.
        defaults: The integer parameters and their defaults, in order.
        meaning: First paragraph of the docstring.
        kind: Name of the kind of quantity, `volatility` or `log_volatility`; empty for anything else.
        running: Whether the last bits of a value depend on rows before its warm-up.
    """

    name: str
    family: str
    inputs: tuple[str, ...]
    warmup_rule: int | Callable[..., int]
    at_least: tuple[int, ...]
    cross_sectional: bool
    defaults: dict[str, int]
    meaning: str
    kind: str = ""
    running: bool = False

    @property
    def pattern(self) -> str:
        """Name with the names of its parameters."""
        return "_".join([self.name, *(f"{{{parameter}}}" for parameter in self.defaults)])

    @property
    def default(self) -> str:
        """Name with the default parameters."""
        return "_".join([self.name, *map(str, self.defaults.values())])

    @property
    def warmup(self) -> int:
        """Rows without a value, for the default parameters."""
        return self.warmup_of(*self.defaults.values())

    def warmup_of(self, *parameters: int) -> int:
        """Rows without a value, for these parameters."""
        return self.warmup_rule(*parameters) if callable(self.warmup_rule) else self.warmup_rule


def feature(
    name: str = "",
    *,
    family: str = "",
    inputs: tuple[str, ...] = ("close",),
    warmup: int | Callable[..., int] = 0,
    at_least: int | tuple[int, ...] = 1,
    cross_sectional: bool = False,
    kind: str = "",
    running: bool = False,
) -> Callable[[Function], Function]:
    """Declare a function of bars as a feature; the function itself is returned unchanged.

    Args:
        name: Name in the YAML; the function's own name if empty.
        family: Heading in the table of features; the module's own name if empty.
        inputs: Columns that the function reads.
        warmup: Rows at the start of each symbol that are blanked, so many that the values behind them do not
            depend on where the history starts. A number, or a function of the parameters.
        at_least: Smallest value that a parameter may take; one for all, or one each.
        cross_sectional: Give the function the whole table, not one symbol. Of other symbols it may only use
            rows of the same timestamp.
        kind: `volatility` or `log_volatility`, of one bar: then a target of that kind can be anchored on it.
        running: Whether the last bits of a value depend on rows before its warm-up, as those of a recursion or of a
            running sum do. It matters for the features of the package; a user's own function is given all rows.

    Example:
        >>> @feature(inputs=("high", "low"), warmup=lambda period: period - 1)
        ... def mean_range(bars, period=5):
        ...     "Mean of high / low - 1."
        ...     return (bars["high"] / bars["low"] - 1).rolling(period).mean()
        >>> declaration_of(mean_range).defaults, declaration_of(mean_range).warmup_of(5)
        ({'period': 5}, 4)
    """

    def declare(function: Function) -> Function:
        called = name or function.__name__
        heading = family or function.__module__.rpartition(".")[2]
        meaning = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        parameters = list(inspect.signature(function).parameters.values())[1:]
        defaults = {parameter.name: parameter.default for parameter in parameters}
        smallest = at_least if isinstance(at_least, tuple) else (at_least,) * len(defaults)
        rules = (warmup, smallest, cross_sectional, defaults)
        declared = FeatureInfo(called, heading, inputs, *rules, meaning, kind, running)
        setattr(function, _ATTRIBUTE, declared)
        return function

    return declare


def declaration_of(function: Any) -> FeatureInfo | None:
    """What `feature` wrote down about a function, or None."""
    declared = getattr(function, _ATTRIBUTE, None)
    return declared if isinstance(declared, FeatureInfo) else None
