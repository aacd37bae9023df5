"""Files that are there whole, or as they were."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cnn_lstm.errors import ResourceError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Replaces a file in one step, so that nobody ever finds half of it.

    Args:
        path: The file.
        write: Writes the content to the path that it is given, in the same folder.

    Raises:
        ResourceError: If the disk is full or the place cannot be written.

    Example:
        >>> write_whole(Path("greeting.txt"), lambda partial: partial.write_text("hello"))  # doctest: +SKIP
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise ResourceError(
            "cannot write the file", f"{path}: {error.strerror}", "make room for it, or choose another folder", code=606
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """`write_whole` of a text in UTF-8."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
