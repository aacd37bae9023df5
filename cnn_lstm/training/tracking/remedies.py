"""What MLflow's errors mean for a run, and what helps: it speaks of itself, in many words."""

from __future__ import annotations

import re

from cnn_lstm.credentials import without_credentials

# signs of a database that was cut off while MLflow made its tables, or that another program or version made
HALF_MADE = re.compile(
    r"out-of-date database schema|no such (table|column)|table \w+ already exists|not a database|malformed", re.I
)
DELETED = re.compile(r"experiment (\S+) must be in the 'active' state")


def in_short(error: Exception, experiment: str = "") -> str:
    """What happened, without credentials: the messages of a failed request hold its whole address.

    Args:
        error: What MLflow, a database or a network raised.
        experiment: Name of the run's experiment.
    """
    text = without_credentials(str(error))
    if "timed out" in text:
        return "no answer in time"
    if DELETED.search(text):
        return f"the experiment {experiment!r} is deleted"
    if "MLFLOW_ALLOW_FILE_STORE" in text:
        return "it does not write to folders any more"
    if HALF_MADE.search(text):
        return "the database is half made, damaged, or of another version of MLflow"
    refused = re.search(r"\[Errno -?\d+\] ([\w ]+)", text)
    if refused:
        return refused[1].lower()
    return f"{type(error).__name__}: {_first_line(text)[:200]}"


def remedy(error: Exception, uri: str) -> str:
    """What the user can do about it; empty where waiting is all.

    Args:
        error: As for `in_short`.
        uri: The tracking address, without credentials.

    Example:
        >>> remedy(Exception("The experiment 3 must be in the 'active' state. Current state is deleted."), "sqlite:///a")
        'restore it (mlflow experiments restore --experiment-id 3), or give another --experiment'
    """
    text = str(error)
    if deleted := DELETED.search(text):
        return f"restore it (mlflow experiments restore --experiment-id {deleted[1]}), or give another --experiment"
    if "MLFLOW_ALLOW_FILE_STORE" in text:
        return "give --tracking_uri sqlite:///FILE.db, or set MLFLOW_ALLOW_FILE_STORE=true"
    if HALF_MADE.search(text) and uri.startswith("sqlite:///"):
        return "move the file away, so that a new one is made, or upgrade it with `mlflow db upgrade`"
    return ""


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]
