"""Downloaded bars on disk: an entry is a Parquet file and a JSON with its digest, both whole or not there."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pandas as pd

from cnn_lstm.files import replace_file


def read_entry(entry: Path) -> pd.DataFrame | None:
    """The cached bars, or None if there are none or they are damaged.

    Args:
        entry: Path of the entry, without an ending.
    """
    try:
        content = entry.with_suffix(".parquet").read_bytes()
        entered = json.loads(entry.with_suffix(".json").read_text(encoding="utf-8"))
        if entered["sha256"] != hashlib.sha256(content).hexdigest():
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return pd.read_parquet(BytesIO(content))


def write_entry(entry: Path, table: pd.DataFrame, request: dict[str, str | bool]) -> None:
    """Write the bars, then the JSON that vouches for them: a crash in between leaves an entry without use.

    Args:
        entry: Path of the entry, without an ending.
        table: Bars.
        request: What was asked for; the JSON adds the time, the number of rows and the digest of the file.

    Raises:
        OSError: The folder takes no file.
    """
    stream = BytesIO()
    table.to_parquet(stream, compression="zstd", index=False)
    content = stream.getvalue()
    entered = request | {
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": len(table),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    entry.parent.mkdir(parents=True, exist_ok=True)
    replace_file(entry.with_suffix(".parquet"), lambda partial: partial.write_bytes(content))
    text = json.dumps(entered, indent=1)
    replace_file(entry.with_suffix(".json"), lambda partial: partial.write_text(text, encoding="utf-8"))
