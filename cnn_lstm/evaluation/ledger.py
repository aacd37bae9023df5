"""How often test rows were used: one line per model that was judged on them, in a file next to the run folders."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cnn_lstm.bounded import load_json, with_checksum, without_checksum
from cnn_lstm.errors import ResourceError
from cnn_lstm.evaluation.json_types import Uses
from cnn_lstm.files import flush_with_name

log = logging.getLogger(__name__)
FILE = "test_uses.jsonl"


@dataclass(frozen=True)
class Use:
    """One use of test rows.

    Attributes:
        rows: What identifies the rows: see `rows_key`.
        model: Digest of the weights that were tested.
        run: Name of the run folder.
        when: Seconds since 1970.
    """

    rows: str
    model: str
    run: str
    when: float


def rows_key(fingerprint: str, first: str, last: str, targets: list[str]) -> str:
    """What identifies test rows: the data, their dates, and what is forecast.

    Example:
        >>> rows_key("abc", "2011-01-03", "2013-02-21", ["return_1"])
        '9cd548adc7e0'
    """
    return hashlib.sha256(json.dumps([fingerprint, first, last, targets]).encode()).hexdigest()[:12]


def count_use(run: Path, rows: str, model: str) -> Uses:
    """Writes down one use, and counts all uses of the same rows by the runs in the same folder as this one.

    Args:
        run: The run folder.
        rows: Key of the rows.
        model: Digest of the tested weights.

    Raises:
        ResourceError: If the use cannot be written down.
    """
    path = run.resolve().parent / FILE
    use = asdict(Use(rows, model, run.resolve().name, round(time.time(), 3)))
    line = json.dumps(with_checksum(use)) + "\n"
    try:
        with path.open("ab", buffering=0) as file:  # one write per line: several processes may append
            # ends a line that a kill cut off, or the new one would be appended to it
            end = b"" if path.read_bytes()[-1:] in (b"", b"\n") else b"\n"
            file.write(end + line.encode())
        flush_with_name(path)  # a use that a power cut takes away would make later results look better
    except OSError as error:
        raise ResourceError(
            "cannot write down the use of the test rows", f"{path}: {error.strerror}", "make it writable", code=606
        ) from error
    return uses(path, rows)


def uses(path: Path, rows: str) -> Uses:
    """Counts the uses of rows; a line that a kill cut off, or that is damaged, is named and not counted."""
    models = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line:
            continue
        try:
            use = Use(**without_checksum(load_json(line)))
        except (ValueError, TypeError):
            where = f"{path}: line {number}"
            log.warning("[W370] a damaged line is skipped — %s — its use of test rows does not count", where)
            continue
        if use.rows == rows and isinstance(use.model, str):
            models.append(use.model)
    return Uses(times=len(models), models=len(set(models)))


def count_once(run: Path, rows: str, model: str) -> Uses:
    """As `count_use`, but a use that the same run has written down already is not another one.

    For a command that goes on after a kill, or is started again when nothing is new.

    Args:
        run: The run folder.
        rows: Key of the rows.
        model: Digest of the weights.
    """
    path = run.resolve().parent / FILE
    held = path.read_bytes().split(b"\n") if path.is_file() else []
    for line in held:
        try:
            use = Use(**without_checksum(load_json(line)))
        except (ValueError, TypeError):
            continue  # `uses` names it
        if (use.rows, use.model, use.run) == (rows, model, run.resolve().name):
            return uses(path, rows)
    return count_use(run, rows, model)
