"""An export that is opened again: the bytes that its description is of, or one line."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_lstm.bounded import CHECKSUM, load_json, without_checksum
from cnn_lstm.errors import CheckpointError

log = logging.getLogger(__name__)
MAX_DESCRIPTION = 10 << 20  # bytes; one of 1,000 features has 100 KB
AGAIN = "write it again with cnn-lstm export"


@dataclass(frozen=True)
class CheckedExport:
    """An export whose bytes have the digest that its description says.

    Attributes:
        path: The file.
        content: Its bytes, for the runtime of its format.
        description: What the JSON next to it says: features, window, targets, outputs, versions.
    """

    path: Path
    content: bytes
    description: Mapping[str, Any]


def read_export(path: str | Path) -> CheckedExport:
    """Reads a file of `cnn-lstm export` and the JSON next to it, and compares the digest. Nothing in it is run.

    Args:
        path: The file; the description is FILE.json.

    Returns:
        The bytes that were compared. Give them to the runtime, since the file may be replaced meanwhile.

    Raises:
        CheckpointError: E437, if one of the two files is missing; E414, if one is damaged, or they do not belong
            together.

    Example:
        >>> exported = read_export("model.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession(exported.content)  # doctest: +SKIP
    """
    path = Path(path)
    for file in (path, described_by(path)):
        if not file.is_file():
            what = "no such export" if file == path else "the export has no description next to it"
            raise CheckpointError(what, str(file), AGAIN, code=437)
    try:
        description = _description_of(described_by(path))
    except (OSError, ValueError) as error:
        what = "the description of the export is damaged"
        raise CheckpointError(what, f"{described_by(path)}: {error}", AGAIN, code=414) from error
    content = path.read_bytes()
    if "sha256" not in description:
        what = "[W382] an export without a digest, of an earlier version"
        log.warning("%s — %s — nothing says whether it is whole; %s", what, path, AGAIN)
    elif description["sha256"] != hashlib.sha256(content).hexdigest():
        what = "the export is damaged, or its description is of another file"
        raise CheckpointError(what, str(path), AGAIN, code=414)
    return CheckedExport(path, content, description)


def described_by(path: Path) -> Path:
    """The JSON file that describes an export.

    Example:
        >>> described_by(Path("model.onnx")).name
        'model.onnx.json'
    """
    return path.with_name(f"{path.name}.json")


def _description_of(file: Path) -> dict[str, Any]:
    """What a description says, once it has its own checksum."""
    if file.stat().st_size > MAX_DESCRIPTION:
        raise ValueError("it is larger than any description")
    fields = load_json(file.read_bytes())
    plain = without_checksum(fields)
    if "sha256" in plain and CHECKSUM not in fields:
        raise ValueError("it has no checksum")
    return plain
