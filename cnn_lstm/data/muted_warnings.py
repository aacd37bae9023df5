"""Loggers that say less for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def muted_warnings() -> Iterator[None]:
    """No warnings of the package where a table is set up for a trial: they would repeat those of the table itself.

    Its errors are raised as always.
    """
    with muted("cnn_lstm"):
        yield
