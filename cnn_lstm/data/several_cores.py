"""Work on many symbols, shared out among processes where it pays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from cnn_lstm.data.symbol_rows import Places

Argument = TypeVar("Argument")
Result = TypeVar("Result")

log = logging.getLogger(__name__)
LEAST_VALUES = 30_000_000  # below it the processes take longer to start than they save
PARTS_OF_A_PROCESS = 4  # so that one with slow symbols does not keep the others waiting


def shared_out(symbols: Places, width: int) -> list[slice]:
    """Stretches of whole symbols for as many processes as PyTorch has threads; one stretch where that does not pay.

    Args:
        symbols: Rows of each symbol.
        width: Values to compute in each row.

    Example:
        >>> shared_out([slice(0, 2), slice(2, 5)], width=14)
        [slice(0, 5, None)]
    """
    edges = [place for place in symbols if isinstance(place, slice)]
    if len(edges) < len(symbols) or not edges:
        return []
    rows, processes = edges[-1].stop, torch.get_num_threads()
    if processes == 1 or rows * width < LEAST_VALUES:
        return [slice(0, rows)]
    size, parts = max(1, rows // (processes * PARTS_OF_A_PROCESS)), [slice(0, 0)]
    for place in edges:
        if place.stop - parts[-1].start > size and parts[-1].stop > parts[-1].start:
            parts.append(slice(place.start, place.start))
        parts[-1] = slice(parts[-1].start, place.stop)
    return parts


def in_processes(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result] | None:
    """What a function makes of each argument, in processes of joblib's; None where they fail, for any reason.

    Whoever calls then does the work in this process, which says what is wrong with it.

    Args:
        function: Importable, or one of a notebook.
        arguments: What it is given.
    """
    try:
        # only large tables need it, and importing it takes a tenth of a second; forecasts do without it
        from joblib import Parallel, delayed

        results: list[Result] = Parallel(n_jobs=torch.get_num_threads())(delayed(function)(one) for one in arguments)
    except Exception as error:  # also that of a user's own feature, which may not be one that can be pickled
        log.debug("processes failed: %r", error)
        return None
    return results
