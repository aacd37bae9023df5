"""Which MLflow server or database a record goes to."""

from __future__ import annotations

import os
from pathlib import Path

from cnn_lstm.training.tracking.credentials import without_credentials


def tracking_uri(home: Path, configured: str | None = None) -> str:
    """The server of the configuration, else the one of MLFLOW_TRACKING_URI, else a SQLite file next to the runs.

    A saved configuration holds no credentials. They are taken from the environment where it names the same server.

    Args:
        home: Folder of the run folders.
        configured: What the configuration says.

    Example:
        >>> tracking_uri(Path("runs"), "https://mlflow.example.org")
        'https://mlflow.example.org'
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if configured is not None and not (given and without_credentials(given) == configured):
        return configured
    return given or default_uri(home)


def default_uri(home: Path) -> str:
    """The SQLite file next to the runs.

    Args:
        home: Folder of the run folders.
    """
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"
