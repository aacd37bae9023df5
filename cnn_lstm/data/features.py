"""From names to columns: the features of a price table.

One name is one column: `rsi_14` is the function `rsi` with its first parameter 14, `rsi` the same with the
default. A dotted name is the import path of a function of one's own; any other column of the table passes
through as it is.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

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
from cnn_lstm.data.indicators.declare import Declaration, declaration_of, feature
from cnn_lstm.errors import CnnLstmError, ConfigError

__all__ = [
    "DEFAULT_FEATURES",
    "Feature",
    "FeatureInfo",
    "available_features",
    "compute_features",
    "default_importer",
    "feature",
    "latest_values",
    "most_history",
    "needed_history",
    "required_columns",
    "resolve_features",
]

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
# rows of a symbol that are computed in one go, see `compute_features`
BLOCK = 2048
# a block starts behind so many warm-ups: its values owe the rows before it less than a float32 can tell
_WARMUPS = 2
_KEYS = ("symbol", "timestamp")
_NAME = re.compile(r"(?P<base>.+?)(?P<numbers>(?:_\d+)*)")
_CODE = 225


@dataclass(frozen=True)
class Feature:
    """One column to be computed.

    Attributes:
        name: Name of the column, as the user wrote it.
        function: From the bars of one symbol (cross-sectional: from the whole table) to one value a row.
        warmup: Rows at the start of each symbol that are NaN.
        inputs: Columns that the function reads.
        family: Kind of feature; "columns" for a raw column, "own" for a function of the user's.
        cross_sectional: Whether rows of other symbols with the same timestamp count.
    """

    name: str
    function: Callable[[pd.DataFrame], Any]
    warmup: int
    inputs: tuple[str, ...]
    family: str
    cross_sectional: bool = False


@dataclass(frozen=True)
class FeatureInfo:
    """One entry of the list of features.

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


def _offered() -> dict[str, tuple[Declaration, Callable[..., Any]]]:
    functions = [function for module in _FAMILIES for function in vars(module).values()]
    declared = [(declaration_of(function), function) for function in functions]
    return {declaration.name: (declaration, function) for declaration, function in declared if declaration}


_OFFERED = _offered()


def available_features() -> list[FeatureInfo]:
    """All offered features, family by family.

    Example:
        >>> offers = {offer.name: offer for offer in available_features()}
        >>> offers["macd_hist"].pattern, offers["macd_hist"].default
        ('macd_hist_{fast}_{slow}_{signal}', 'macd_hist_12_26_9')
    """
    return [_offer(declaration) for declaration, _ in _OFFERED.values()]


def _offer(declaration: Declaration) -> FeatureInfo:
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
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(f"cannot import feature {path!r}", told, "check the path", code=_CODE) from error
    if not callable(function):
        raise ConfigError(f"feature {path!r} is not a function", type(function).__name__, code=_CODE)
    return function  # type: ignore[no-any-return]


def resolve_features(
    names: Sequence[str],
    columns: Collection[str],
    import_function: Callable[[str], Callable[..., Any]] = default_importer,
) -> list[Feature]:
    """The features behind names.

    Args:
        names: Offered names, columns of the table, or import paths of own functions.
        columns: Columns of the price table.
        import_function: From an import path to a function; the place to refuse a path.

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
    if twice:
        raise ConfigError(f"feature given twice: {', '.join(map(repr, twice))}", "", "remove one", code=_CODE)
    resolved = [_resolve(name, columns, import_function) for name in names]
    for item in resolved:
        missing = [column for column in item.inputs if column not in columns]
        if missing:
            what = f"feature {item.name!r} needs the column {', '.join(map(repr, missing))}"
            raise ConfigError(what, f"the table has {', '.join(columns)}", code=_CODE)
    return resolved


def _resolve(name: str, columns: Collection[str], import_function: Callable[[str], Callable[..., Any]]) -> Feature:
    base, numbers = _parse(name)
    if base in _OFFERED:
        return _with_parameters(name, *_OFFERED[base], numbers)
    if name in columns and name not in _KEYS:
        return Feature(name, itemgetter(name), 0, (name,), "columns")
    if "." in name:
        return _own(name, import_function(name), columns)
    raise ConfigError(f"unknown feature {name!r}", "", _nearest(name, columns), code=_CODE)


def _parse(name: str) -> tuple[str, tuple[int, ...]]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name!r} is not a feature name", code=_CODE)
    return match["base"], tuple(int(number) for number in match["numbers"].split("_")[1:])


def _with_parameters(
    name: str, declaration: Declaration, function: Callable[..., Any], numbers: tuple[int, ...]
) -> Feature:
    defaults = declaration.defaults
    if len(numbers) > len(defaults):
        what = f"feature {name!r} has {len(numbers)} parameters, at most {len(defaults)}"
        raise ConfigError(what, "", f"write {_offer(declaration).pattern!r}", code=_CODE)
    parameters = defaults | dict(zip(defaults, numbers, strict=False))
    for (parameter, value), smallest in zip(parameters.items(), declaration.at_least, strict=True):
        if value < smallest:
            what = f"feature {name!r}: {parameter} must be at least {smallest}"
            raise ConfigError(what, "", f"the default is {_offer(declaration).default!r}", code=_CODE)
    return Feature(
        name=name,
        function=partial(function, **parameters),
        warmup=declaration.warmup_of(*parameters.values()),
        inputs=declaration.inputs,
        family=declaration.family,
        cross_sectional=declaration.cross_sectional,
    )


def _own(name: str, function: Callable[..., Any], columns: Collection[str]) -> Feature:
    declaration = declaration_of(function)
    if declaration is None:
        # a table without a close must not be refused for a function that does not say what it reads
        return Feature(name, function, 0, ("close",) if "close" in columns else (), "own")
    warmup = declaration.warmup_of(*declaration.defaults.values())
    return Feature(name, function, warmup, declaration.inputs, "own", declaration.cross_sectional)


def _nearest(name: str, columns: Collection[str]) -> str:
    base, _ = _parse(name)
    match = difflib.get_close_matches(name, [column for column in columns if column not in _KEYS], 1)
    if not match:
        match = [near + name[len(base) :] for near in difflib.get_close_matches(base, list(_OFFERED), 1, 0.5)]
    return f"did you mean {match[0]!r}?" if match else "docs/features.md lists the features"


def required_columns(features: Sequence[Feature]) -> tuple[str, ...]:
    """Columns that the features read, each once, in order of need.

    Example:
        >>> required_columns(resolve_features(["rsi", "volume_ratio"], ["close", "volume"]))
        ('close', 'volume')
    """
    return tuple(dict.fromkeys(column for item in features for column in item.inputs))


def compute_features(table: pd.DataFrame, features: Sequence[Feature]) -> pd.DataFrame:
    """The columns of a price table.

    Infinite values become NaN, and so do the first `warmup` rows of each symbol.

    Averages that never end and running sums owe their last bits to the whole past. Offered features are therefore
    computed in blocks of `BLOCK` rows, counted from the first row of each symbol, with two warm-ups before each block:
    every value is a function of `needed_history` rows, bit for bit. Functions of the user's own are given all rows.

    Args:
        table: `symbol`, `timestamp` and numeric columns, sorted by symbol and timestamp.
        features: What to compute, from `resolve_features`.

    Returns:
        One float64 column a feature, named after it and in its order, on the index of the table.

    Raises:
        ConfigError: A function failed, or did not return one number a row.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=3, tz="UTC")
        >>> table = pd.DataFrame({"symbol": "A", "timestamp": days, "close": [1.0, 2.0, 1.0]})
        >>> features = resolve_features(["simple_return", "close"], table.columns)
        >>> compute_features(table, features).values.tolist()
        [[nan, 1.0], [1.0, 2.0], [-0.5, 1.0]]
    """
    values = np.full((len(features), len(table)), np.nan)
    symbols = [np.asarray(rows) for rows in table.groupby("symbol", sort=False).indices.values()]
    with np.errstate(all="ignore"):  # log of 0 and division by 0 give a missing value
        for rows in symbols:
            bars = table.iloc[rows].reset_index(drop=True)
            for column, item in enumerate(features):
                if not item.cross_sectional:
                    values[column, rows] = _in_blocks(item, bars)
        for column, item in enumerate(features):
            if item.cross_sectional:
                values[column] = _evaluate(item, table)
    values[~np.isfinite(values)] = np.nan
    for rows in symbols:
        for column, item in enumerate(features):
            values[column, rows[: item.warmup]] = np.nan
    return pd.DataFrame(values.T, index=table.index, columns=[item.name for item in features])


def _in_blocks(item: Feature, bars: pd.DataFrame) -> npt.NDArray[np.float64]:
    rows = len(bars)
    if rows <= BLOCK or item.family == "own":
        return _evaluate(item, bars)
    values = np.empty(rows)
    for start in range(0, rows, BLOCK):
        first, stop = _first_row(item, start), min(start + BLOCK, rows)
        part = bars.iloc[first:stop].reset_index(drop=True)
        values[start:stop] = _evaluate(item, part)[start - first :]
    return values


def _first_row(item: Feature, row: int) -> int:
    """First row of a symbol that the value of a row is computed from."""
    return 0 if item.family == "own" else max(0, row // BLOCK * BLOCK - _WARMUPS * item.warmup)


def needed_history(features: Sequence[Feature], row: int) -> int:
    """How many rows of a symbol, up to and with the given one, its features are computed from.

    Args:
        features: From `resolve_features`.
        row: Number of the row, from 0 at the first one of the symbol.

    Example:
        >>> features = resolve_features(["close_to_sma_20"], ["close"])
        >>> needed_history(features, 100), needed_history(features, BLOCK), needed_history(features, 2 * BLOCK - 1)
        (101, 39, 2086)
    """
    return row + 1 - min(_first_row(item, row) for item in features)


def most_history(features: Sequence[Feature]) -> int | None:
    """The largest `needed_history` of any row; None where a function of the user's own takes all rows."""
    if any(item.family == "own" for item in features):
        return None
    return BLOCK + _WARMUPS * max(item.warmup for item in features)


def latest_values(
    tails: Mapping[str, pd.DataFrame], seen: Mapping[str, int], features: Sequence[Feature]
) -> dict[str, npt.NDArray[np.float64]]:
    """The last row of `compute_features` of each symbol, from its last rows alone.

    Args:
        tails: Of each symbol with a row at the latest timestamp, in the order of their names, the last
            `needed_history` rows.
        seen: Of each symbol, how many rows it has had.
        features: What to compute.

    Returns:
        Of each symbol the values, (F,).
    """
    values = {symbol: np.full(len(features), np.nan) for symbol in tails}
    crossing = [item for item in features if item.cross_sectional]
    joined = pd.concat(tails.values(), ignore_index=True) if crossing else pd.DataFrame()
    ends = np.cumsum([len(bars) for bars in tails.values()]) - 1
    parts: dict[str, dict[int, pd.DataFrame]] = {symbol: {} for symbol in tails}
    with np.errstate(all="ignore"):
        for column, item in enumerate(features):
            known = {symbol: bars for symbol, bars in tails.items() if seen[symbol] > item.warmup}
            if item.cross_sectional:
                found = dict(zip(tails, _evaluate(item, joined)[ends], strict=True))
            else:
                found = {symbol: _latest(item, bars, seen[symbol], parts[symbol]) for symbol, bars in known.items()}
            for symbol in known:
                values[symbol][column] = found[symbol] if np.isfinite(found[symbol]) else np.nan
    return values


def _latest(item: Feature, bars: pd.DataFrame, seen: int, parts: dict[int, pd.DataFrame]) -> float:
    """Value of the last row; features that begin at the same row share the part of the bars."""
    first = _first_row(item, seen - 1) - (seen - len(bars))
    if first not in parts:
        parts[first] = bars.iloc[first:].reset_index(drop=True)
    return float(_evaluate(item, parts[first])[-1])


def _evaluate(item: Feature, bars: pd.DataFrame) -> npt.NDArray[np.float64]:
    try:
        # a shallow copy: what a user's function writes into its bars must not reach the next function
        column = pd.Series(item.function(bars.copy(deep=False)))
    except CnnLstmError:
        raise
    except Exception as error:  # a user's function may fail in any way
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(f"feature {item.name!r} failed", told, "mend the function", code=_CODE) from error
    if len(column) != len(bars):
        what = f"feature {item.name!r} returned {len(column)} values for {len(bars)} rows"
        raise ConfigError(what, "", "return one value a row", code=_CODE)
    if not pd.api.types.is_numeric_dtype(column.dtype):
        what = f"feature {item.name!r} is not numeric"
        raise ConfigError(what, f"dtype {column.dtype}", "return numbers", code=_CODE)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
