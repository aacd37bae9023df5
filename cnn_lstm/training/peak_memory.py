"""The most memory that this process has had, on every system."""

from __future__ import annotations

import sys
from types import ModuleType

import torch

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has none
    resource = None

MIB = 2**20


def peak_memory_mib(device: torch.device) -> float | None:
    """High-water mark in MiB: of the process, or on a CUDA device of its allocator.

    Args:
        device: Where the model is.

    Returns:
        The mark; None on a system that does not say it.

    Example:
        >>> (peak_memory_mib(torch.device("cpu")) or 1.0) > 0
        True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    if resource is None:
        return _of_windows()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (MIB if sys.platform == "darwin" else 2**10))


def _of_windows() -> float | None:
    """What the system's own counter says; psutil reads it there."""
    try:
        import psutil
    except ImportError:
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return None if peak is None else peak / MIB
