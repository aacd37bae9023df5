"""A number for each symbol, so that a window says whose it is wherever it goes: into a loader, a stream, an export."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cnn_lstm.data.features import Feature
from cnn_lstm.errors import require

SYMBOL_CODE = "symbol_code"
CODES = 1 << 24  # whole numbers below are exact in float32


def code_of(symbol: str) -> int:
    """Code of a symbol: from its name alone, so that it is the same in every table, version and program.

    Example:
        >>> code_of("JPY"), code_of("AUD")
        (4220160, 6558333)
    """
    return zlib.crc32(symbol.encode()) % CODES


def distinct_codes(symbols: Iterable[str]) -> dict[str, int]:
    """Codes by symbol, without those that two symbols share: one in 17 million pairs does."""
    codes = {symbol: code_of(symbol) for symbol in symbols}
    counts = Counter(codes.values())
    return {symbol: code for symbol, code in codes.items() if counts[code] == 1}


def with_symbol_code(features: Sequence[str], wanted: bool) -> tuple[str, ...]:
    """Names of features, followed by that of the code where it is wanted.

    Raises:
        ConfigError: If the code is among them already: it is not an input, but says whose window it is.
    """
    fix = "leave it out, and set data.per_symbol instead"
    require(SYMBOL_CODE not in features, f"{SYMBOL_CODE} is not a feature of yours", "data.features", fix, code=225)
    return (*features, *([SYMBOL_CODE] if wanted else []))


def _column(bars: pd.DataFrame) -> npt.NDArray[np.float64]:
    numbers, symbols = pd.factorize(bars["symbol"])
    return np.array([float(code_of(str(symbol))) for symbol in symbols])[numbers]


SYMBOL_FEATURE = Feature(SYMBOL_CODE, _column, 0, (), "symbol")
