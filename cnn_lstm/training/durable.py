"""Checkpoint files that survive a kill, a full disk and a power cut.

Lightning's save copies from a temporary folder over the live file when the two lie on different file systems, so
that a kill or a full disk in that moment destroys the last good checkpoint (its `_atomic_save`, 2.6).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cnn_lstm.errors import ResourceError


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames: the old file lives until the new one is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replaces the file at `path` in one step.

        Raises:
            ResourceError: If the disk is full or the folder cannot be written; the old file stays.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _flush_folder(target.parent)
        except (OSError, RuntimeError) as error:
            raise ResourceError(
                "cannot write the checkpoint", f"{target}: {error}", "free disk space; the old file is intact", code=604
            ) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
