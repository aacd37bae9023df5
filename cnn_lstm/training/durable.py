"""Checkpoint files of a fit that survive a kill, a full disk and a power cut.

Lightning's save copies from a temporary folder over the live file when the two lie on different file systems, so
that a kill or a full disk in that moment destroys the last good checkpoint (its `_atomic_save`, 2.6).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from cnn_lstm.model.checkpoints import write_checkpoint


class DurableCheckpointIO(TorchCheckpointIO):
    """Lets the Trainer write as `write_checkpoint` does."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replaces the file at `path` in one step.

        Raises:
            ResourceError: If the disk is full or the folder cannot be written; the old file stays.
        """
        write_checkpoint(checkpoint, path)
