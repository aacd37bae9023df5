"""No warnings where a table is set up for a trial: they would repeat those of the table itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def muted_warnings() -> Iterator[None]:
    """Holds back the package's warnings; its errors are raised as always."""
    logger = logging.getLogger("cnn_lstm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
