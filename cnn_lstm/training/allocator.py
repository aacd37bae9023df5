"""What happens to the memory that a training step frees: the next step takes it, or the system gets it back."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

# glibc's <malloc.h>: numbers of the settings, and their values in a process that has freed large blocks; glibc itself
# adapts the last two until one of them is set
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}
DEFAULTS = {MMAP_MAX: 65_536, TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20}
CHOSEN = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


class Allocator(Callback):
    """Keeps the memory that a training step on a CPU frees for the next step.

    By default glibc gives large blocks back to the system, which has to fill them with zeros again in each step. Kept,
    they cost more memory at the peak. On other systems, on a GPU, and where the environment has settings of its own for
    the allocator, nothing is changed. At the end of the training the memory is given back.

    Args:
        keep_freed: False leaves the system's way.
    """

    def __init__(self, keep_freed: bool = True) -> None:
        self.keep_freed = keep_freed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps what is freed from now on; the prices are read and the panel is built by then."""
        if self.keep_freed and pl_module.device.type == "cpu":
            _set(KEEP)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives it back."""
        if self.keep_freed and pl_module.device.type == "cpu":
            _set(DEFAULTS)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self.on_train_end(trainer, pl_module)


def _set(values: dict[int, int]) -> None:
    """Changes settings of glibc's allocator."""
    library = _library()
    if library is None or any(name in os.environ for name in CHOSEN):
        return
    for setting, value in values.items():
        library.mallopt(setting, value)
    if values is DEFAULTS:
        library.malloc_trim(0)


@cache
def _library() -> Any:
    """The C library; None if it is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
