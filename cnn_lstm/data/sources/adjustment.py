"""Prices that follow an adjusted close: open, high and low are scaled along, as the vendor scaled the close."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from cnn_lstm.data.sources.column_names import plain_name
from cnn_lstm.errors import require

CLOSES = {"close", "last", "price", "close_price"}


def is_adjusted(name: str) -> bool:
    """Whether a column's name says that its prices are adjusted.

    Example:
        >>> is_adjusted("Adj Close"), is_adjusted("adjusted_close"), is_adjusted("Close")
        (True, True, False)
    """
    return re.search("(^|_)adj", plain_name(name)) is not None


def with_adjustment(
    names: Mapping[str, int], header: list[str], adjust: bool | None, where: str
) -> tuple[dict[str, int], int | None]:
    """What is read as close, and the column of the close that open, high and low belong to.

    Args:
        names: Positions of the columns by our names.
        header: Names of the columns.
        adjust: Whether to adjust; None does it where the close is mapped to an adjusted one.
        where: The file, for messages.

    Returns:
        The names with the adjusted close as close, and the position of the raw close; None where nothing is scaled.

    Raises:
        ConfigError: E274, there is nothing to adjust by.
    """
    if adjust is False or (adjust is None and not ("close" in names and is_adjusted(header[names["close"]]))):
        return dict(names), None
    adjusted = next((k for k, name in enumerate(header) if is_adjusted(name) and "close" in plain_name(name)), None)
    raw = next((k for k, name in enumerate(header) if plain_name(name) in CLOSES), None)
    if adjust:
        fix = "leave out data.source.adjust"
        require(
            None not in (adjusted, raw), "adjust: true, without a close and an adjusted close", where, fix, code=274
        )
    if "close" in names and is_adjusted(header[names["close"]]):
        adjusted = names["close"]
    kept = {ours: position for ours, position in names.items() if position != adjusted}
    return kept | ({} if adjusted is None else {"close": adjusted}), raw


def scaled(
    numbers: Mapping[str, pd.Series[float]], raw_close: pd.Series[float], names: Mapping[str, str]
) -> dict[str, pd.Series[float]]:
    """Open, high and low times the ratio of the adjusted close to the raw one; all other columns as they are.

    The volume stays as it is, as in `YahooBars`: vendors correct it for splits themselves.

    Args:
        numbers: Columns by our names; the close is the adjusted one.
        raw_close: The close that open, high and low belong to.
        names: Name in the file of each column; those that say that they are adjusted stay.

    Example:
        >>> columns = {"high": pd.Series([10.0]), "close": pd.Series([4.0])}
        >>> scaled(columns, pd.Series([8.0]), {"high": "High", "close": "Adj Close"})["high"].tolist()
        [5.0]
    """
    factor = numbers["close"] / raw_close.where(raw_close > 0)
    moved = [name for name in ("open", "high", "low") if name in numbers and not is_adjusted(names[name])]
    return dict(numbers) | {name: numbers[name] * factor for name in moved}
