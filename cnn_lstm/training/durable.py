"""Checkpoint files of a fit: they survive a kill, a full disk and a power cut, and old ones still load.

Lightning's save copies from a temporary folder over the live file when the two lie on different file systems, so
that a kill or a full disk in that moment destroys the last good checkpoint (its `_atomic_save`, 2.6).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from cnn_lstm.model.checkpoints import write_checkpoint

# Callbacks that have another name now than in checkpoints written before; Lightning finds their state by it
RENAMED_STATES = {"BoardPictures": "TensorBoardPlots"}


class DurableCheckpointIO(TorchCheckpointIO):
    """Lets the Trainer write as `write_checkpoint` does, and resume from checkpoints written before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replaces the file at `path` in one step.

        Raises:
            ResourceError: If the disk is full or the folder cannot be written; the old file stays.
        """
        write_checkpoint(checkpoint, path)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a checkpoint; the states of renamed callbacks get the new name."""
        checkpoint: dict[str, Any] = super().load_checkpoint(*args, **kwargs)
        states = checkpoint.get("callbacks", {})
        for old, new in RENAMED_STATES.items():
            if old in states:
                states[new] = states.pop(old)
        return checkpoint
