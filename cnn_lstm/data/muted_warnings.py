"""No warnings of the data arm, where a table is set up for a trial and what it says of it is no news."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def muted_warnings() -> Iterator[None]:
    """Holds back the package's warnings; its errors are raised as ever."""
    logger = logging.getLogger("cnn_lstm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
