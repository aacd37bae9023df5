"""The features that come with the package, and those that a model has by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cnn_lstm.data.indicators import (
    averages,
    bands,
    calendars,
    cross_section,
    moments,
    momentum,
    oscillators,
    patterns,
    regimes,
    returns,
    trend,
    volatility,
    volume,
)
from cnn_lstm.data.indicators.declare import Declaration, declaration_of

DEFAULT_FEATURES = (
    "log_return_1",
    "log_return_5",
    "log_return_20",
    "overnight_gap",
    "close_location",
    "garman_klass_volatility_20",
    "realised_volatility_20",
    "rsi_14",
    "macd_hist_12_26_9",
    "bollinger_b_20_2",
    "volume_trend_5_20",
    "close_to_sma_20",
    "close_to_sma_50",
    "drawdown_252",
)

_FAMILIES: tuple[ModuleType, ...] = (
    returns,
    averages,
    momentum,
    oscillators,
    trend,
    bands,
    volatility,
    moments,
    volume,
    patterns,
    regimes,
    calendars,
    cross_section,
)


@dataclass(frozen=True)
class FeatureInfo:
    """What the list of features says of one feature.

    Attributes:
        name: Name without parameters.
        pattern: Name with the names of its parameters.
        default: Name with the default parameters.
        inputs: Columns that it reads.
        warmup: Rows without a value at the start of a symbol, with the default parameters.
        family: Kind of feature.
        cross_sectional: Whether rows of other symbols with the same timestamp count.
        meaning: Meaning, unit and source.
    """

    name: str
    pattern: str
    default: str
    inputs: tuple[str, ...]
    warmup: int
    family: str
    cross_sectional: bool
    meaning: str


# name without parameters -> declaration and function
OFFERED: dict[str, tuple[Declaration, Callable[..., Any]]] = {
    declaration.name: (declaration, function)
    for module in _FAMILIES
    for function in vars(module).values()
    if (declaration := declaration_of(function)) is not None
}


def available_features() -> list[FeatureInfo]:
    """All offered features, family by family.

    Example:
        >>> known = {info.name: info for info in available_features()}
        >>> known["macd_hist"].pattern, known["macd_hist"].default
        ('macd_hist_{fast}_{slow}_{signal}', 'macd_hist_12_26_9')
    """
    return [feature_info(declaration) for declaration, _ in OFFERED.values()]


def feature_info(declaration: Declaration) -> FeatureInfo:
    """What the list of features says of a declared function."""
    name, defaults = declaration.name, declaration.defaults
    return FeatureInfo(
        name=name,
        pattern="_".join([name, *(f"{{{parameter}}}" for parameter in defaults)]),
        default="_".join([name, *map(str, defaults.values())]),
        inputs=declaration.inputs,
        warmup=declaration.warmup_of(*defaults.values()),
        family=declaration.family,
        cross_sectional=declaration.cross_sectional,
        meaning=declaration.meaning,
    )
