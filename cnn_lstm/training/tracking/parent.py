"""Runs that MLflow shows under one parent: a file next to their folders names it."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

from cnn_lstm.bounded import load_json, without_checksum
from cnn_lstm.files import write_json_whole
from cnn_lstm.training.tracking.events import Parent

log = logging.getLogger(__name__)
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
    write_json_whole(folder / FILE, parent)


def parent_of(run: Path) -> Parent | None:
    """The parent of a run; None where it has none.

    Args:
        run: The run folder.
    """
    file = run.resolve().parent / FILE
    try:
        parent = without_checksum(load_json(file.read_text(encoding="utf-8")))
        return Parent(uid=str(parent["uid"]), name=str(parent["name"]))
    except OSError:
        return None
    except (ValueError, LookupError):
        log.warning("[W385] a damaged file is passed over — %s — the record of the run names no parent", file)
        return None
