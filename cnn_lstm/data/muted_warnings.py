"""No warnings where they would repeat others, or where nobody can act on them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def muted_warnings(*names: str) -> Iterator[None]:
    """Holds back the warnings of loggers; errors are raised and logged as always.

    Args:
        names: Names of the loggers; this package's by default.
    """
    loggers = [logging.getLogger(name) for name in names or ("cnn_lstm",)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
