"""A panel in a folder: one file of NumPy per array, which processes of a machine share through its page cache.

`Panel.arrays` and `Panel.of_arrays` are the two ends: whatever holds the arrays, in memory or mapped from files, the
panel made of them is the same. `build_panel` takes the place of its arrays from outside, see `Allocate`.

Shapes: N panel rows, F features, H targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cnn_lstm.data.windows import ARRAYS, Panel

CHUNK_BYTES = 1 << 22


class DamagedPanelError(ValueError):
    """Files that are not those that were written."""


def write_panel(panel: Panel, folder: Path) -> dict[str, str]:
    """Writes the arrays of a panel into a folder, which is made.

    Args:
        panel: The panel.
        folder: The folder.

    Returns:
        SHA-256 of each file, by the name of its array.

    Raises:
        OSError: If the disk is full, or the folder cannot be written.

    Example:
        >>> write_panel(panel, Path("panels/mine"))["values"][:8]  # doctest: +SKIP
        '9f86d081'
    """
    folder.mkdir(parents=True)
    for name, array in panel.arrays().items():
        np.save(_file(folder, name), array)
    return {name: file_digest(_file(folder, name)) for name in ARRAYS}


def read_panel(folder: Path, symbols: tuple[str, ...], digests: Mapping[str, str]) -> Panel:
    """The panel of a folder, mapped into memory: a page is read when it is needed, and never written back.

    Args:
        folder: What `write_panel` has made.
        symbols: Names of the symbols.
        digests: What `write_panel` returned.

    Raises:
        DamagedPanelError: If a file is missing or another than was written.
    """
    with _damage():
        for name in ARRAYS:
            if file_digest(_file(folder, name)) != digests[name]:
                raise DamagedPanelError(f"{name}.npy has another digest")
        # copied on write, and not read-only: torch warns of tensors that nobody may write into
        arrays = {name: np.load(_file(folder, name), mmap_mode="c") for name in ARRAYS}
        return Panel.of_arrays(arrays, symbols)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except DamagedPanelError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DamagedPanelError(" ".join(str(error).split()) or type(error).__name__) from error
