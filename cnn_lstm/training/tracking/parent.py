"""Runs that MLflow shows under one parent: a file next to their folders names it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from cnn_lstm.bounded import load_json
from cnn_lstm.files import write_text_whole
from cnn_lstm.training.tracking.events import Parent

FILE = "parent_run.json"


def name_parent(folder: Path) -> None:
    """Gives the runs whose folders lie in a folder one parent, under the folder's name.

    Args:
        folder: The folder; a parent that is named there already stays.
    """
    if not (folder / FILE).exists():
        write_parent(folder, Parent(uid=uuid.uuid4().hex, name=folder.resolve().name))


def write_parent(folder: Path, parent: Parent) -> None:
    """Makes an MLflow run the parent of the runs whose folders lie in a folder.

    Args:
        folder: The folder.
        parent: The MLflow run.
    """
    write_text_whole(folder / FILE, json.dumps(parent, indent=2) + "\n")


def parent_of(run: Path) -> Parent | None:
    """The parent of a run; None where it has none.

    Args:
        run: The run folder.
    """
    try:
        parent = load_json((run.resolve().parent / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    texts = isinstance(parent, dict) and {"uid", "name"} <= set(parent)
    return Parent(uid=str(parent["uid"]), name=str(parent["name"])) if texts else None
