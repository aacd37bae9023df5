"""live.parquet: the forecasts of a run as they were issued, evening after evening, and what became of them.

It is the predictions table of `Predictor.predict`, sorted by target, symbol and date, with three columns more:

- `issued`: time of the update that wrote the row, in UTC.
- `late`: whether that was after the label had begun, see `are_late`.
- `revised`: whether the source has changed bars since that the forecast, or its outcome, was made of.

A row never changes, but for what can only be known later: dates, truth and return of its label, whether it was late,
whether its bars were changed. Each of them is filled in once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.stored_tables import read_table, write_table
from cnn_lstm.errors import CheckpointError, DataError

LIVE = "live.parquet"
ATTRIBUTE = "live"
MOMENTS, FLAGS = ("as_of", "target_start", "target_end", "issued"), ("late", "revised")
VALUES = ("y_true", "y_pred", "y_last", "scale", "bar_return")
TEXTS = ("target", "symbol")


@dataclass(frozen=True)
class About:
    """What live.parquet says of itself, next to what a predictions table says of its targets.

    Attributes:
        model: Digest of the weights that made its forecasts.
        since: First moment of a decision that it may hold, ISO, UTC.
        gone: Symbols with forecasts that the source has lost.

    Example:
        >>> table = pd.DataFrame()
        >>> About("0f", "2024-01-02").write(table)
        >>> About.of(table).since
        '2024-01-02'
    """

    model: str
    since: str
    gone: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: pd.DataFrame) -> About:
        """What a table of `read_live` says."""
        values = table.attrs[ATTRIBUTE]
        return cls(values["model"], values["since"], tuple(values["gone"]))

    def write(self, table: pd.DataFrame) -> None:
        """Writes it into the `attrs` of a table, which Parquet keeps."""
        table.attrs[ATTRIBUTE] = asdict(self) | {"gone": list(self.gone)}


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
    fix = "restore it from a backup; or move it away, and the next update begins another one"
    try:
        table = read_table(path)
    except DataError as error:  # unlike other tables it cannot be made again
        raise DataError(error.what, error.where, fix, code=error.code) from error
    if fault := _fault(table):
        raise DataError(f"no update has written this table: {fault}", str(path), fix, code=339)
    return table


def _fault(table: pd.DataFrame) -> str:
    """What a table lacks to be one of `write_live`; empty if it lacks nothing. A stranger may have made it."""
    about, kinds = table.attrs.get(ATTRIBUTE), {"model": str, "since": str, "gone": list}
    if not (isinstance(about, dict) and all(isinstance(about.get(name), kind) for name, kind in kinds.items())):
        return f"it does not say {', '.join(kinds)}"
    if not (all(isinstance(one, str) for one in about["gone"]) and _is_moment(about["since"])):
        return "what it says of itself cannot be read"
    checks: dict[str, Callable[[pd.Series], object]] = {
        **dict.fromkeys(MOMENTS, lambda column: isinstance(column.dtype, pd.DatetimeTZDtype)),
        **dict.fromkeys(FLAGS, is_bool_dtype),
        **dict.fromkeys(VALUES, is_numeric_dtype),
        **dict.fromkeys(TEXTS, lambda column: column.map(lambda value: isinstance(value, str)).all()),
    }
    wrong = [name for name, check in checks.items() if name not in table or not check(table[name])]
    try:
        target_infos(table)
    except (LookupError, TypeError, ValueError, AttributeError):
        return "it does not say what is forecast"
    return f"the column {wrong[0]} is missing, or of another type" if wrong else ""


def _is_moment(text: str) -> bool:
    try:
        return not np.isnat(np.datetime64(text, "us"))
    except ValueError:
        return False


def write_live(run: Path, table: pd.DataFrame) -> None:
    """Writes live.parquet, whole or not at all.

    Args:
        run: The run folder, which the caller has locked.
        table: The table.

    Raises:
        ResourceError: If the disk is full or cannot be written; the old file stays.
    """
    write_table(run / LIVE, table)


def require_model(table: pd.DataFrame, model: str, run: Path) -> None:
    """Refuses to go on with forecasts that other weights have made.

    Args:
        table: The table of `read_live`.
        model: Digest of the weights.
        run: The run folder.

    Raises:
        CheckpointError: E443.
    """
    if About.of(table).model != model:
        what, fix = f"the checkpoint is not the one that made {LIVE}", f"give it a run folder, or move {LIVE} away"
        raise CheckpointError(what, str(run), fix, code=443)
