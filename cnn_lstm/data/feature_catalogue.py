"""The features that come with the package, those that a model has by default, and the way from a name to a feature.

One name is one column. `rsi_14` is the function `rsi` with its first parameter 14; `rsi` is the same function with
the default. A dotted name is the import path of a user's own function. Any other column of the table passes through
as it is.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from operator import itemgetter
from types import ModuleType
from typing import Any

import pandas as pd

from cnn_lstm.data.features import FAMILY_OF_USER, Feature
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
from cnn_lstm.data.indicators.any_column import OF_ANY_COLUMN
from cnn_lstm.data.indicators.declare import FeatureInfo, declaration_of
from cnn_lstm.data.session_features import SESSION_FEATURES
from cnn_lstm.data.symbol_codes import SYMBOL_CODE, SYMBOL_FEATURE
from cnn_lstm.errors import ConfigError, require

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

_KEYS = ("symbol", "timestamp")
_NAME = re.compile(r"(?P<base>.+?)(?P<numbers>(?:_\d+)*)")
_CODE = 225
_OF_CLOSE_AND_RANGE = (returns, averages, momentum, oscillators, trend, bands, volatility, moments)
_FAMILIES: tuple[ModuleType, ...] = (*_OF_CLOSE_AND_RANGE, volume, patterns, regimes, calendars, cross_section)


# name without parameters -> declaration and function
OFFERED: dict[str, tuple[FeatureInfo, Callable[..., Any]]] = {
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
    return [declaration for declaration, _ in OFFERED.values()]


def default_importer(path: str) -> Callable[..., Any]:
    """Import `package.module.function`.

    Raises:
        ConfigError: The module cannot be imported or has no such function.

    Example:
        >>> default_importer("math.sqrt")(9.0)
        3.0
    """
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's module may fail in any way while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"cannot import feature {path!r}", reason, "check the path", code=_CODE) from error
    if not callable(function):
        raise ConfigError(f"feature {path!r} is not a function", type(function).__name__, code=_CODE)
    return function  # type: ignore[no-any-return]  # whatever the module holds under the name


def resolve_features(
    names: Sequence[str],
    columns: Collection[str],
    import_function: Callable[[str], Callable[..., Any]] = default_importer,
) -> list[Feature]:
    """The features that names stand for.

    Args:
        names: Names of the catalogue, columns of the table, or import paths of a user's own functions.
        columns: Columns of the price table.
        import_function: Gives the function of an import path; it may refuse the path.

    Raises:
        ConfigError: A name is unknown or given twice, a parameter is wrong, or the table lacks a column.

    Example:
        >>> features = resolve_features(["log_return_5", "rsi", "close"], ["symbol", "timestamp", "close"])
        >>> [(feature.name, feature.warmup, feature.family) for feature in features]
        [('log_return_5', 5, 'returns'), ('rsi', 263, 'oscillators'), ('close', 0, 'columns')]
        >>> resolve_features(["rsii_14"], ["close"])
        Traceback (most recent call last):
        cnn_lstm.errors.ConfigError: error[E225]: unknown feature 'rsii_14' — did you mean 'rsi_14'?
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    require(not twice, f"feature given twice: {', '.join(map(repr, twice))}", "", "remove one", code=_CODE)
    resolved = [_resolve(name, columns, import_function) for name in names]
    for item in resolved:
        missing = [column for column in item.inputs if column not in columns]
        what = f"feature {item.name!r} needs the column {', '.join(map(repr, missing))}"
        require(not missing, what, f"the table has {', '.join(columns)}", "", code=_CODE)
    return resolved


def _resolve(name: str, columns: Collection[str], import_function: Callable[[str], Callable[..., Any]]) -> Feature:
    if name == SYMBOL_CODE:
        return SYMBOL_FEATURE
    if name in SESSION_FEATURES:
        return SESSION_FEATURES[name]
    base, numbers = _parse(name)
    if base in OFFERED:
        return _with_parameters(name, *OFFERED[base], numbers)
    if name in columns and name not in _KEYS:
        return Feature(name, itemgetter(name), 0, (name,), "columns")
    if ":" in name:
        return _of_column(name)
    if "." in name:
        return _user_feature(name, import_function(name), columns)
    raise ConfigError(f"unknown feature {name!r}", "", _nearest(name, columns), code=_CODE)


def _of_column(name: str) -> Feature:
    """`log_mean_5:rate`: a function of a column over a number of rows."""
    stem, _, column = name.partition(":")
    function, _, rows = stem.rpartition("_")
    known = function in OF_ANY_COLUMN and rows.isdecimal() and int(rows) >= 1
    patterns = " or ".join(f"{one}_ROWS:COLUMN" for one in OF_ANY_COLUMN)
    require(known, f"unknown feature {name!r}", "", f"write {patterns}", code=_CODE)
    of_column = partial(_evaluated, OF_ANY_COLUMN[function], column, int(rows))
    return Feature(name, of_column, int(rows) - 1, (column,), "columns")


def _evaluated(function: Callable[..., pd.Series], column: str, rows: int, bars: pd.DataFrame) -> pd.Series:
    return function(bars[column], rows)


def raw_columns(names: Sequence[str]) -> list[str]:
    """What a table must have as columns for these features, as far as their names say it.

    A name with a dot is a user's own function; any other that is not of the catalogue is a column, or a function of
    one.

    Example:
        >>> raw_columns(["log_mean_5:rate", "rate", "my.package.function"])
        ['rate', 'rate']
    """
    return [name.partition(":")[2] or name for name in names if "." not in name.partition(":")[0]]


def _parse(name: str) -> tuple[str, tuple[int, ...]]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name!r} is not a feature name", code=_CODE)
    return match["base"], tuple(int(number) for number in match["numbers"].split("_")[1:])


def _with_parameters(
    name: str, declaration: FeatureInfo, function: Callable[..., Any], numbers: tuple[int, ...]
) -> Feature:
    defaults = declaration.defaults
    what = f"feature {name!r} has {len(numbers)} parameters, at most {len(defaults)}"
    require(len(numbers) <= len(defaults), what, "", f"write {declaration.pattern!r}", code=_CODE)
    parameters = defaults | dict(zip(defaults, numbers, strict=False))
    for (parameter, value), smallest in zip(parameters.items(), declaration.at_least, strict=True):
        what = f"feature {name!r}: {parameter} must be at least {smallest}"
        require(value >= smallest, what, "", f"the default is {declaration.default!r}", code=_CODE)
    warmup, bound = declaration.warmup_of(*parameters.values()), partial(function, **parameters)
    kinds = (declaration.family, declaration.cross_sectional, declaration.kind or "value", declaration.running)
    return Feature(name, bound, warmup, declaration.inputs, *kinds)


def _user_feature(name: str, function: Callable[..., Any], columns: Collection[str]) -> Feature:
    declaration = declaration_of(function)
    if declaration is None:
        # a table without a close must not be refused for a function that does not say what it reads
        return Feature(name, function, 0, ("close",) if "close" in columns else (), FAMILY_OF_USER)
    crossed, kind = declaration.cross_sectional, declaration.kind
    return Feature(name, function, declaration.warmup, declaration.inputs, FAMILY_OF_USER, crossed, kind)


def _nearest(name: str, columns: Collection[str]) -> str:
    base, _ = _parse(name)
    match = difflib.get_close_matches(name, [column for column in columns if column not in _KEYS], 1)
    if not match:
        match = [
            near + name[len(base) :] for near in difflib.get_close_matches(base, [*OFFERED, *SESSION_FEATURES], 1, 0.5)
        ]
    return f"did you mean {match[0]!r}?" if match else "docs/features.md lists the features"


def required_columns(features: Sequence[Feature]) -> tuple[str, ...]:
    """Columns that the features read, each once, in order of need.

    Example:
        >>> required_columns(resolve_features(["rsi", "volume_ratio"], ["close", "volume"]))
        ('close', 'volume')
    """
    return tuple(dict.fromkeys(column for item in features for column in item.inputs))
