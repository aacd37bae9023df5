"""live.parquet: the forecasts of a run as they were issued, evening after evening, and what became of them.

It is the predictions table of `Predictor.predict`, sorted by target, symbol and date, with three columns more:

- `issued`: time of the update that wrote the row, in UTC.
- `late`: whether that was after the label had begun.
- `revised`: whether the source has changed bars that the forecast, or its outcome, was made of.

A row never changes, but for what can only be known later: dates, truth and return of a label that has ended, whether
it was late, whether its bars were changed. Each of them is filled in once.

Shapes: n rows of live.parquet, m rows of tonight's forecasts.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.errors import DataError

LIVE = "live.parquet"


def read_live(run: Path) -> pd.DataFrame:
    """The forecasts that a run has issued.

    Args:
        run: The run folder.

    Returns:
        The table of live.parquet, as the module describes it.

    Raises:
        DataError: E366, if there is none; E339, if it is damaged.

    Example:
        >>> read_live(Path("runs/mine"))[["symbol", "as_of", "y_pred", "issued", "late"]]  # doctest: +SKIP
    """
    path = run / LIVE
    if not path.is_file():
        raise DataError(f"no {LIVE}: the run has issued no forecast", str(run), f"cnn-lstm update {run}", code=366)
    try:
        return read_table(path)
    except DataError as error:  # unlike other tables it cannot be made again
        fix = "restore it from a backup; or move it away, and the next update begins another one"
        raise DataError(error.what, error.where, fix, code=error.code) from error
