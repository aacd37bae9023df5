"""Files that a journal has kept, as they were then: so a command that goes on after a crash knows what is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cnn_lstm.training.tracking.events import Artifact
from cnn_lstm.training.tracking.journal import Journal


def artifact_of(run: Path, file: Path) -> Artifact:
    """The event that keeps a file of a run as it is now.

    Args:
        run: The run folder.
        file: The file, in the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "x.json"
        ...     written = file.write_text("{}")
        ...     print(artifact_of(Path(folder), file).sha256[:8])
        44136fa3
    """
    with file.open("rb") as content:
        return Artifact(str(file.relative_to(run)), hashlib.file_digest(content, "sha256").hexdigest())


def is_kept(journal: Journal, artifact: Artifact) -> bool:
    """Whether the last event of a file is about its present content.

    Args:
        journal: The journal of the run.
        artifact: What `artifact_of` returned.
    """
    contents = [event.content for event in journal.events()]
    of_file = [one for one in contents if isinstance(one, Artifact) and one.file == artifact.file]
    return bool(of_file) and of_file[-1] == artifact
