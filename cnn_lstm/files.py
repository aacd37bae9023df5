"""Files that are whole or unchanged, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnn_lstm.errors import ConfigError, ResourceError


def replace_file(path: Path, write: Callable[[Path], object], partial: str | None = None) -> None:
    """Replaces a file in one step: content to the disk, then the name, then the folder.

    Any other order can lose the old file and the new one in a power cut.

    Args:
        path: The file.
        write: Writes the content to the path that it is given, in the same folder.
        partial: Name of the file while it is written; one per process by default. Where a file has a single writer,
            a fixed name lets the next attempt overwrite what a kill has left.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file stays.
    """
    unfinished = path.with_name(partial or f".{path.name}.{os.getpid()}.partial")
    try:
        write(unfinished)
        _flush(unfinished)
        unfinished.replace(path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(path.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors_in_one_line(what: str, path: Path, fix: str) -> Iterator[None]:
    """Reports what the disk refuses.

    Args:
        what: What cannot be done.
        path: The file or folder.
        fix: What the user can do.

    Raises:
        ResourceError: E606, for an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(what, f"{path}: {error.strerror}", fix, code=606) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `replace_file`, and reports what goes wrong in one line.

    Args:
        path: The file.
        write: Writes the content to the path that it is given, in the same folder.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written.

    Example:
        >>> write_whole(Path("greeting.txt"), lambda partial: partial.write_text("hello"))  # doctest: +SKIP
    """
    with disk_errors_in_one_line("cannot write the file", path, "make room for it, or choose another folder"):
        replace_file(path, write)


def write_text_whole(path: Path, text: str) -> None:
    """Writes a text in UTF-8 by `write_whole`."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def refuse_input_as_output(output: Path, inputs: Iterable[str | Path]) -> None:
    """Refuses to write over a file that a command reads.

    Args:
        output: The file to write.
        inputs: Files to read; those that do not exist are passed over.

    Raises:
        ConfigError: E284.
    """
    for file in map(Path, inputs):
        if output.exists() and file.exists() and output.samefile(file):
            what, fix = "the output would replace a file that is read", "give --output another name"
            raise ConfigError(what, str(output), fix, code=284)
