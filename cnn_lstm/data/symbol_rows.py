"""Where the rows of each symbol lie: found in one pass over a table, instead of one pass per symbol.

Shapes: n rows, S symbols.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

Places = list[slice] | list[npt.NDArray[np.int64]]


def rows_by_symbol(symbol: pd.Series) -> Places:
    """Rows of each symbol, in the order in which the symbols come first: slices where their rows lie together.

    Args:
        symbol: Symbol of each row, (n,), none of them missing.

    Example:
        >>> rows_by_symbol(pd.Series(["B", "B", "A"]))
        [slice(0, 2, None), slice(2, 3, None)]
        >>> [rows.tolist() for rows in rows_by_symbol(pd.Series(["B", "A", "B"]))]
        [[0, 2], [1]]
    """
    codes, names = pd.factorize(symbol)
    starts = run_starts(codes)
    if len(starts) == len(names):
        return _slices(starts, len(codes))
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, len(names))))


def symbol_slices(symbol: pd.Series) -> list[slice]:
    """Rows of each symbol of a table that is sorted by symbol, in order.

    Example:
        >>> symbol_slices(pd.Series(["A", "B", "B"]))
        [slice(0, 1, None), slice(1, 3, None)]
    """
    codes, _ = pd.factorize(symbol)
    return _slices(run_starts(codes), len(codes))


def _slices(starts: npt.NDArray[np.int64], rows: int) -> list[slice]:
    edges = [*starts.tolist(), rows]
    return [slice(first, stop) for first, stop in pairwise(edges)]


def key_order(table: pd.DataFrame) -> npt.NDArray[np.int64] | None:
    """Positions of the rows by symbol and timestamp, stable, (n,); None for a table in this order without doubles.

    Args:
        table: Price table with times in UTC.

    Example:
        >>> days = pd.to_datetime(["2024-01-03", "2024-01-02", "2024-01-02"], utc=True)
        >>> key_order(pd.DataFrame({"symbol": ["A", "A", "B"], "timestamp": days})).tolist()
        [1, 0, 2]
        >>> key_order(pd.DataFrame({"symbol": ["A", "B", "B"], "timestamp": days[[1, 2, 0]]})) is None
        True
    """
    codes, names = pd.factorize(table["symbol"])
    rank = np.empty(len(names), dtype=np.int32)
    rank[sorted(range(len(names)), key=[str(name) for name in names].__getitem__)] = np.arange(len(names))
    symbol, time = rank[codes], table["timestamp"].astype("int64").to_numpy()
    ahead = symbol[1:] > symbol[:-1]
    ahead |= (symbol[1:] == symbol[:-1]) & (time[1:] > time[:-1])
    return None if ahead.all() else np.lexsort((time, symbol))


def run_starts(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """First row of each run of equal codes, ascending.

    Example:
        >>> run_starts(np.array([4, 4, 2, 4])).tolist(), run_starts(np.array([], dtype=int)).tolist()
        ([0, 2, 3], [])
    """
    changes = np.ones(len(codes), dtype=bool)
    np.not_equal(codes[1:], codes[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def symbol_edges(codes: npt.NDArray[np.integer], symbols: int) -> npt.NDArray[np.int64]:
    """Edges between the symbols of rows whose codes ascend from 0, (S + 1,): symbol k has those from edge k to k + 1.

    Args:
        codes: Code of the symbol of each row, (n,), ascending; a symbol may have no row.
        symbols: Number of symbols, S.

    Example:
        >>> symbol_edges(np.array([0, 0, 2]), 3).tolist()
        [0, 2, 2, 3]
    """
    # of the same type, or all codes would be copied to another one
    return np.searchsorted(codes, np.arange(symbols + 1, dtype=codes.dtype)).astype(np.int64)


def positions_by_code(codes: npt.NDArray[np.integer]) -> dict[int, npt.NDArray[np.int64]]:
    """Positions of each code that occurs, ascending, in the order of the codes.

    Args:
        codes: Code of the symbol of each of some rows, (n,), in any order.

    Example:
        >>> {code: rows.tolist() for code, rows in positions_by_code(np.array([2, 0, 2])).items()}
        {0: [1], 2: [0, 2]}
    """
    order = np.argsort(codes, kind="stable")
    known, first = np.unique(codes[order], return_index=True)
    return dict(zip(known.tolist(), np.split(order, first[1:]), strict=True)) if len(codes) else {}
