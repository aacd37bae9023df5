"""A price table that is in memory already, as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import final

import pandas as pd

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.frames import price_table
from cnn_lstm.data.prices import check_structure
from cnn_lstm.data.sources.base import PriceSource, select
from cnn_lstm.files import disk_errors_in_one_line, make_folder, replace_file

WHERE = "the frame"


@final
class FrameBars(PriceSource):
    """The bars of a frame.

    No YAML file can name a frame. `cnn_lstm.fit` and `cnn_lstm.to_yaml` write it to a Parquet file and name that.

    Args:
        frame: Price table as pandas, Polars, Arrow, yfinance and others give it, see `price_table`. It is copied.

    Raises:
        DataError: If it is not a table, or its names or times are not clear.

    Example:
        >>> frame = pd.DataFrame({"Date": ["2024-01-02", "2024-01-03"], "Ticker": "IBM", "Close": [160.0, 161.5]})
        >>> FrameBars(frame).load(["IBM"], "2024-01-03", None)["close"].tolist()
        [161.5]
    """

    def __init__(self, frame: Frame) -> None:
        self.table = price_table(frame)
        check_structure(self.table, ())
        self._init_args = {}  # else the frame would be kept twice

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """Selects bars; see `PriceSource.load`."""
        return select(self.table, symbols, start, end, WHERE)

    def write(self, folder: Path) -> Path:
        """Keeps the table as a Parquet file that is named after its content; one that is there already stays.

        Args:
            folder: Where to write; it is made if it does not exist.

        Returns:
            The file.

        Raises:
            ResourceError: If it cannot be written.
        """
        return write_frame(self.table, folder)


def write_frame(table: pd.DataFrame, folder: Path) -> Path:
    """Keeps a table as a Parquet file that is named after its content; see `FrameBars.write`."""
    digest = hashlib.sha256(pd.util.hash_pandas_object(table).to_numpy().tobytes())
    digest.update(repr(list(table.dtypes.items())).encode())
    file = folder / f"{digest.hexdigest()[:16]}.parquet"
    if not file.is_file():
        with disk_errors_in_one_line("cannot keep the frame", file, "choose another folder for the run"):
            make_folder(folder)
            replace_file(file, lambda partial: table.to_parquet(partial))
    return file
