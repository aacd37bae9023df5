"""Reads the file of a table of forecasts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.forms import CALLED

PARQUET = (".parquet", ".pq")


def read_forecast_file(file: Path) -> pd.DataFrame:
    """The table of a Parquet or CSV file; what it says of itself is kept.

    Args:
        file: The file. Symbols of a CSV file are text, `000001` too.

    Raises:
        DataError: E301, if the file is missing; E339, if it cannot be read.
    """
    if file.suffix.lower() in PARQUET:
        return read_table(file)
    if not file.is_file():
        raise DataError("no such file", str(file), "name the table of forecasts", code=301)
    try:
        header = pd.read_csv(file, nrows=0)
        texts = {name: "str" for name in header.columns if str(name).lower() in CALLED["symbol"]}
        return pd.read_csv(file, dtype=texts, keep_default_na=False, na_values=["", "nan", "NaN", "NA"])
    except (ValueError, OSError) as error:  # of the parser, of the encoding
        reason = " ".join(str(error).split())
        raise DataError(f"no readable table: {reason}"[:200], str(file), "give CSV or Parquet", code=339) from error
