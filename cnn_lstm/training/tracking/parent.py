"""Runs that MLflow shows under one parent: what names it, in a file beside their folders."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from cnn_lstm.files import write_text_whole

FILE = "parent_run.json"


def name_parent(folder: Path) -> None:
    """Gives the runs whose folders lie in a folder one parent, under the folder's name.

    Args:
        folder: The folder; a parent that is named there already stays.
    """
    if not (folder / FILE).exists():
        named = {"uid": uuid.uuid4().hex, "name": folder.resolve().name}
        write_text_whole(folder / FILE, json.dumps(named, indent=2) + "\n")


def parent_of(run: Path) -> dict[str, str] | None:
    """The parent of a run: `uid` and `name`; null where it has none.

    Args:
        run: The run folder.
    """
    try:
        named: dict[str, str] = json.loads((run.resolve().parent / FILE).read_text(encoding="utf-8"))
    except OSError:
        return None
    return named
