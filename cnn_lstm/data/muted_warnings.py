"""Loggers that say less for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial


@contextmanager
def muted(*names: str, level: int = logging.ERROR) -> Iterator[None]:
    """Holds back what loggers say below a level.

    Args:
        *names: The loggers.
        level: The lowest level that still passes.
    """
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in levels.items():
            logger.setLevel(before)


# where a table is set up for a trial, warnings would repeat those of the table itself; errors are raised as always
muted_warnings = partial(muted, "cnn_lstm")
