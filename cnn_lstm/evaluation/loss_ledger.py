"""Loss differences that stay as they were first seen: one file next to the run folders, for verdicts that go on.

Evidence over time needs one history. A model that is trained again, or judged on a longer table, goes on where the last
look has ended: dates that were counted once are neither counted again nor replaced, later dates are added. So a look
costs nothing, and no second try on the same dates can improve on the first.

A line is one look: which series, and the loss of each baseline minus that of the model on each new date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.bounded import load_json, with_checksum, without_checksum
from cnn_lstm.errors import ResourceError
from cnn_lstm.evaluation.json_types import KeptDifferences
from cnn_lstm.files import flush_with_name
from cnn_lstm.locks import lock_file

log = logging.getLogger(__name__)
FILE = "test_losses.jsonl"
PATIENCE = 60.0  # seconds that one writer may take


@dataclass(frozen=True)
class Look:
    """What one look has added to a series.

    Attributes:
        series: What identifies the series: see `series_key`.
        model: Digest of the weights, or of the forecasts, that were judged.
        run: Name of the folder of the report.
        when: Seconds since 1970.
        dates: Dates of the decisions, ISO, ascending, (n,).
        differences: Loss of each baseline - loss of the model, by its name, (n,); None where it has no forecast.
    """

    series: str
    model: str
    run: str
    when: float
    dates: Sequence[str]
    differences: Mapping[str, Sequence[float | None]]


def series_key(recipe: object, target: str, first: pd.Timestamp) -> str:
    """What identifies a series: the recipe of the forecaster, what is forecast, and the first date of the test.

    Args:
        recipe: What stays the same when a model is trained again, in plain values.
        target: Name of the target.
        first: First date.

    Example:
        >>> series_key({"window": 60}, "return_1", pd.Timestamp("2011-01-03"))
        'f30a08e6644a'
    """
    text = json.dumps([recipe, target, first.isoformat()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def keep(folder: Path, series: str, model: str, differences: pd.DataFrame) -> pd.DataFrame:
    """Adds what is new to a series, and returns the series.

    Args:
        folder: Folder of the report; the file is next to it.
        series: Key of the series.
        model: Digest of what was judged.
        differences: As `loss_differences` gives them.

    Returns:
        The series as it was first seen, in the same form, with the baselines that `differences` has.

    Raises:
        ResourceError: E606, if the file cannot be written, or another process keeps it locked.
    """
    path = folder.resolve().parent / FILE
    try:
        with lock_file(path.with_name(f".{FILE}.lock"), "test", PATIENCE):
            known = kept_series(path, series, _zoned(differences))
            new = differences if known.empty else differences[differences.index > known.index[-1]]
            if len(new):
                _append(path, _look(series, model, folder.resolve().name, new))
                known = _later(known, new)
    except (OSError, TimeoutError) as error:
        what, where = "cannot write down the losses of the test", f"{path}: {getattr(error, 'strerror', None) or error}"
        raise ResourceError(what, where, "make it writable", code=606) from error
    return known.reindex(columns=differences.columns)


def _look(series: str, model: str, run: str, new: pd.DataFrame) -> Look:
    plain = to_plain(new)
    return Look(series, model, run, round(time.time(), 3), plain["dates"], plain["differences"])


def _append(path: Path, look: Look) -> None:
    line = json.dumps(with_checksum(asdict(look)), allow_nan=False) + "\n"
    with path.open("ab", buffering=0) as file:
        # ends a line that a kill cut off, or the new one would be appended to it
        end = b"" if path.read_bytes()[-1:] in (b"", b"\n") else b"\n"
        _write_all(file, end + line.encode())
    flush_with_name(path)


def _write_all(file: Any, content: bytes) -> None:
    """An unbuffered write may take a part only, as on a disk that is almost full."""
    while content:
        content = content[file.write(content) :]


def kept_series(path: Path, series: str, zoned: bool | None = None) -> pd.DataFrame:
    """The series that a file holds; dates that lie before the last one counted so far are passed over.

    Args:
        path: The file; it need not exist.
        series: Key of the series.
        zoned: Whether its dates have a time zone; that of its first line by default.

    Returns:
        Differences by date (rows, ascending) and baseline (columns); empty where nothing is kept.
    """
    known = pd.DataFrame(index=pd.DatetimeIndex([]))
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            new = _differences(line, series)
            if new is not None:
                zoned = _zoned(new) if zoned is None else zoned
                _require_line(new, zoned)
        except (ValueError, TypeError, AttributeError, KeyError):
            where = f"{path}: line {number}"
            log.warning("[W370] a damaged line is skipped — %s — the losses of its dates do not count", where)
            continue
        if new is not None:
            known = new if known.empty else _later(known, new[new.index > known.index[-1]])
    return known


def _differences(line: bytes, series: str) -> pd.DataFrame | None:
    """What a line says of a series; None where it is about another one, or empty."""
    if not line:
        return None
    look = Look(**without_checksum(load_json(line)))
    return from_plain({"dates": look.dates, "differences": look.differences}) if look.series == series else None


def _require_line(new: pd.DataFrame, zoned: bool) -> None:
    """Refuses what no look has written: the file may be a stranger's.

    Raises:
        ValueError: If dates are out of order or of another kind, or a difference is infinite.
    """
    in_order = new.index.is_monotonic_increasing and new.index.is_unique and not new.index.hasnans
    if not in_order or _zoned(new) != zoned or np.isinf(new.to_numpy(dtype=np.float64)).any():
        raise ValueError("not the dates and differences of a look")


def _later(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    return new if known.empty else pd.concat([known, new])


def to_plain(differences: pd.DataFrame) -> KeptDifferences:
    """Differences in plain values, as the file and the predictions table hold them."""
    return {
        "dates": [date.isoformat() for date in differences.index],
        "differences": {
            str(name): [None if math.isnan(value) else value for value in column.tolist()]
            for name, column in differences.items()
        },
    }


def from_plain(plain: KeptDifferences) -> pd.DataFrame:
    """What `to_plain` wrote."""
    dates = pd.DatetimeIndex(pd.to_datetime(list(plain["dates"]), format="ISO8601")).as_unit("us")
    return pd.DataFrame(dict(plain["differences"]), index=dates, dtype="float64")


def _zoned(differences: pd.Series | pd.DataFrame) -> bool:
    """Whether its dates have a time zone."""
    return isinstance(differences.index, pd.DatetimeIndex) and differences.index.tz is not None
