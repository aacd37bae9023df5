"""Which files a record may send: a run folder can come from a stranger, and its journal may name anything."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm.errors import ConfigError
from cnn_lstm.training.tracking.events import Artifact, LoggedModel
from cnn_lstm.training.tracking.journal import Journal


def lies_inside(run: Path, name: str) -> bool:
    """Whether a name of a journal, and everything below it, lies in the run folder; links are followed.

    Args:
        run: The run folder.
        name: A file or folder of it, as the journal names it.
    """
    home = run.resolve()
    try:
        path = home / name
        if path.is_symlink() and not path.exists():  # a link to itself, or to nothing
            return False
        parts = [path, *path.rglob("*")] if path.is_dir() and path.resolve() != home else [path]
        return path.resolve() != home and all(part.resolve().is_relative_to(home) for part in parts)
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or a link to itself
        return False


def refuse_files_outside(run: Path, journal: Journal) -> None:
    """Refuses a journal that would send a file of somewhere else.

    Args:
        run: The run folder.
        journal: Its journal.

    Raises:
        ConfigError: E297, naming the file.
    """
    for event in journal.events():
        content = event.content
        name = content.file if isinstance(content, Artifact) else getattr(content, "folder", None)
        if isinstance(content, Artifact | LoggedModel) and not lies_inside(run, str(name)):
            fix = "send only runs of your own; nothing was sent"
            raise ConfigError(f"the record names a file outside of its run: {name}", str(journal.path), fix, code=297)
