"""Reads the file of a table of forecasts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from cnn_lstm.data.sources.numbers import number_columns
from cnn_lstm.data.sources.raw_table import TextForm, read_raw
from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.forms import CALLED

PARQUET = (".parquet", ".pq")
TEXTS = {"target", *CALLED["symbol"], *CALLED["as_of"], *CALLED["target_end"]}


def read_forecast_file(file: Path, texts: Collection[str] = ()) -> pd.DataFrame:
    """The table of a file.

    Args:
        file: Parquet, with its index and what it says of itself; or CSV and Feather, as price files are read.
        texts: Names of further columns that are not numbers, such as one of times. Symbols stay text, `000001` too.

    Raises:
        DataError: E301, if the file is missing; E339 or as of `read_raw`, if it cannot be read.
    """
    if file.suffix.lower() in PARQUET:
        return read_table(file)
    if not file.is_file():
        raise DataError("no such file", str(file), "name the table of forecasts", code=301)

    def is_text(name: str) -> bool:
        return name.lower() in TEXTS or name in texts or name.startswith("set_")

    form = TextForm(known=frozenset({*TEXTS, *texts}))
    raw = read_raw(file, form, lambda header: [k for k, name in enumerate(header) if is_text(name)])
    cells = {name: raw.column(place) for place, name in enumerate(raw.header)}
    numbers = number_columns({name: column for name, column in cells.items() if not is_text(name)}, (), str(file))
    kept = {name: numbers.get(name, column) for name, column in cells.items() if is_text(name) or name in numbers}
    return pd.DataFrame({name: column.mask(column == "") for name, column in kept.items()}).reset_index(drop=True)
