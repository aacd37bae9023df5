"""Evenings on which the source has lost a symbol that `data.symbols` lists: the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.errors import DataError


def without_lost(data: MarketData, trained: Sequence[str], read: Callable[[], object]) -> frozenset[str]:
    """Reads the prices; listed symbols of the training that the source has lost are left out of the data.

    A name that the training did not know is rather misspelt than lost, and is refused as everywhere. So is a list of
    which nothing is left: then the source itself is not there.

    Args:
        data: Data of a run, whose `symbols` become those that are there.
        trained: Symbols of the training.
        read: Reads the prices of the data.

    Returns:
        The symbols that are left out.

    Raises:
        DataError: E333 or E302, if others than these, or all, are not there; whatever else `read` raises.
    """
    asked = tuple(data.symbols or ())
    while True:
        try:
            read()
        except DataError as error:
            left = [name for name in data.symbols or () if name not in error.symbols]
            if not error.symbols or not left or not set(error.symbols) <= set(trained):
                raise
            data.symbols = left
        else:
            return frozenset(asked) - frozenset(data.symbols or ())
