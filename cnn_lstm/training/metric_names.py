"""Names of metrics in groups, as TensorBoard and MLflow fold them up: `val/loss` for Lightning's `val_loss`.

Everywhere else a metric has Lightning's name: in `metrics.csv`, in what callbacks monitor, in other loggers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")
PARTS = ("train", "val", "test")
GROUPS = {
    "epoch_s": "time",
    "windows_per_s": "time",
    "peak_memory_mib": "time",
    "grad_norm": "optimizer",
    "clipped_share": "optimizer",
    "lr": "optimizer",
}


def grouped(name: str) -> str:
    """The name of a metric in its group; a name that belongs to no group stays, and so does one with a group.

    Args:
        name: Lightning's name.

    Example:
        >>> [grouped(name) for name in ("val_loss", "lr-AdamW", "grad_norm/head", "epoch_s", "epoch", "system/cpu")]
        ['val/loss', 'optimizer/lr-AdamW', 'optimizer/grad_norm/head', 'time/epoch_s', 'epoch', 'system/cpu']
    """
    part, _, rest = name.partition("_")
    if part in PARTS and rest:
        return f"{part}/{rest}"
    group = GROUPS.get(name.partition("/")[0].partition("-")[0])
    return f"{group}/{name}" if group else name


def all_grouped(metrics: Mapping[str, Value]) -> dict[str, Value]:
    """Metrics under the names of their groups.

    Args:
        metrics: Values by Lightning's names.
    """
    return {grouped(name): value for name, value in metrics.items()}
