"""The predictions table: one row per forecast, with its dates, in original units.

Shapes: n forecasts of H targets, N panel rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.quantities import Quantity, quantity
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.stored_tables import BLOCK_ROWS
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import Panel

TARGETS = "targets"


@dataclass(frozen=True)
class TargetInfo:
    """What a predictions table says of a target in `attrs["targets"]`, which Parquet keeps as plain values.

    Attributes:
        kind: Name of the kind of quantity, see `quantity`.
        unit: Unit of the values.
        horizon: Rows that the label spans.
        delay: Rows between the decision and the start of the label.
        classes: Number of classes; 0 for a number.
        scores: Ascending calibration scores of the intervals, or those of each fold by its number in a table of
            several folds; None without intervals.
        smearing: Factor of each point forecast column of a volatility that makes a variance forecast of it; None where
            it is not kept.

    Example:
        >>> about = TargetInfo.from_plain({"kind": "log_volatility", "unit": "log volatility a bar", "horizon": 5})
        >>> about.quantity.loss, about.to_plain()["delay"]
        ('QLIKE', 0)
    """

    kind: str
    unit: str = ""
    horizon: int = 1
    delay: int = 0
    classes: int = 0
    scores: Sequence[float] | Mapping[str, Sequence[float]] | None = None
    smearing: Mapping[str, float] | None = None

    @property
    def quantity(self) -> Quantity:
        """What kind of quantity it is, which decides how a forecast of it is judged."""
        return quantity(self.kind)

    @classmethod
    def of(cls, target: Target) -> TargetInfo:
        """What is said of a target before anything was forecast."""
        return cls(target.kind, target.unit, target.horizon, target.delay, target.classes)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> TargetInfo:
        """What `to_plain` gave; a missing key has its default, and an unknown one is passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def to_plain(self) -> dict[str, Any]:
        """Plain values for Parquet, without what is None."""
        return {name: value for name, value in vars(self).items() if value is not None}


def target_infos(table: pd.DataFrame) -> dict[str, TargetInfo]:
    """What a predictions table says of each target, by its name."""
    return {name: TargetInfo.from_plain(values) for name, values in table.attrs[TARGETS].items()}


def set_target_infos(table: pd.DataFrame, infos: Mapping[str, TargetInfo]) -> None:
    """Writes into a predictions table what it says of each target."""
    table.attrs[TARGETS] = {name: about.to_plain() for name, about in infos.items()}


def predictions_table(
    panel: Panel, targets: Sequence[Target], rows: Rows, columns: Mapping[str, Tensor], target_mean: Sequence[float]
) -> pd.DataFrame:
    """Forecasts next to the truth and two trivial forecasts.

    Args:
        panel: The panel that the windows were cut from.
        targets: Its targets.
        rows: Panel row of each forecast's last bar, (n,).
        columns: Forecast columns, each (n, H); `y_pred` among them.
        target_mean: Mean of each target over the training rows.

    Returns:
        Sorted by target, symbol and date, with the columns symbol, as_of (last bar used), target_start and
        target_end (the label is about what happens after the one until the other; NaT where not known yet),
        horizon, target, y_true (NaN where not known yet), y_pred, further columns of the objective, y_last (latest
        known value of the same quantity), y_mean (training mean), volatility (of one bar, as known at `as_of`), scale
        (size of the label's surprise, which intervals grow with) and bar_return (simple return of the first bar after
        the delay; NaN where not known yet or nothing is traded). `target_infos` gives what it says of each target.
    """
    table = table_of(prediction_columns(panel, targets, rows, columns, target_mean))
    table.attrs = attrs_of(targets)
    return table


def table_of(columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Columns as a table: those of objects become text, and times are in UTC."""
    return pd.DataFrame({name: _typed(values) for name, values in columns.items()}, copy=False)


def _typed(values: NDArray[Any]) -> Any:
    if values.dtype == object:
        return pd.array(values, dtype="str")
    return utc_index(values) if values.dtype.kind == "M" else values


def row_of(columns: Mapping[str, NDArray[Any]], embeddings: NDArray[np.float32]) -> pd.DataFrame:
    """`table_of` for few rows, with embeddings, (n, D), behind the columns: numbers stand in one array, not in twenty.

    Args:
        columns: As for `table_of`.
        embeddings: Columns e0 ... e{D-1}.
    """
    blocks = []
    for numbers, names in groupby(columns, key=lambda name: columns[name].dtype == np.float64):
        values = [columns[name] for name in names]
        block = np.stack(values, axis=1) if numbers else {k: _typed(column) for k, column in enumerate(values)}
        blocks.append(pd.DataFrame(block, copy=False))
    table = pd.concat([*blocks, pd.DataFrame(embeddings, copy=False)], axis=1, ignore_index=True)
    table.columns = _names((*columns, *(f"e{k}" for k in range(embeddings.shape[1]))))
    return table


@lru_cache(maxsize=8)
def _names(names: tuple[str, ...]) -> pd.Index:
    """Names as pandas keeps them: making these takes longer than what they name."""
    return pd.Index(list(names))


def attrs_of(targets: Sequence[Target]) -> dict[Hashable | None, Any]:
    """What a predictions table says of its targets, before it has intervals."""
    return {TARGETS: {target.name: TargetInfo.of(target).to_plain() for target in targets}}


def prediction_columns(
    panel: Panel, targets: Sequence[Target], rows: Rows, columns: Mapping[str, Tensor], target_mean: Sequence[float]
) -> dict[str, NDArray[Any]]:
    """The columns of `predictions_table`, each (n H,): text as objects, times in UTC without a zone."""
    parts = []
    for k, target in enumerate(targets):
        own = {name: values[:, k] for name, values in columns.items()}
        parts.append(_one_target(panel, target, k, rows, own, float(target_mean[k])))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predictions_blocks(
    panel: Panel,
    targets: Sequence[Target],
    rows: Rows,
    columns: Mapping[str, Tensor],
    target_mean: Sequence[float],
    max_rows: int = BLOCK_ROWS,
) -> Iterator[pd.DataFrame]:
    """The predictions table in blocks, each of one target and of whole symbols.

    Args:
        panel: As for `predictions_table`.
        targets: As for `predictions_table`.
        rows: As for `predictions_table`; ascending.
        columns: As for `predictions_table`; they may be mapped from files, and only the rows of a block are read.
        target_mean: As for `predictions_table`.
        max_rows: Rows of a block, unless a single symbol has more.

    Yields:
        At least one table for each target, with the `attrs` of all targets. Joined they are the predictions table.
    """
    for k, target in enumerate(targets):
        for piece in symbol_blocks(panel.symbol[rows], max_rows):
            parts = {name: values[piece, k] for name, values in columns.items()}
            block = table_of(_one_target(panel, target, k, rows[piece], parts, float(target_mean[k])))
            block.attrs = attrs_of(targets)
            yield block


def symbol_blocks(codes: NDArray[np.int32], max_rows: int) -> Iterator[slice]:
    """Slices of rows that are sorted by symbol: whole symbols, of together `max_rows` unless it is a single one.

    Args:
        codes: Symbol of each row, (n,).
        max_rows: Rows of a slice.

    Example:
        >>> list(symbol_blocks(np.array([0, 0, 1, 1, 1, 2]), max_rows=4))
        [slice(0, 2, None), slice(2, 6, None)]
    """
    ends = [*(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
    begin = last = 0
    for end in ends:
        if end - begin > max_rows and last > begin:
            yield slice(begin, last)
            begin = last
        last = end
    yield slice(begin, last)


def _one_target(
    panel: Panel, target: Target, k: int, rows: Rows, columns: Mapping[str, Tensor], mean: float
) -> dict[str, NDArray[Any]]:
    """The columns of the predictions table of the target with the number k, each (n,), as `columns` are."""
    volatility = panel.volatility[:, k].numpy()[rows].astype(np.float64)
    return {
        "symbol": np.asarray(panel.symbols, dtype=object)[panel.symbol[rows]],
        "as_of": panel.time[rows],
        "target_start": ahead(panel, rows, target.delay),
        "target_end": ahead(panel, rows, target.reach),
        "horizon": np.full(len(rows), target.horizon, dtype=np.int64),
        "target": np.full(len(rows), target.name, dtype=object),
        "y_true": panel.labels[:, k].numpy()[rows].astype(np.float64),
        **{name: values.numpy().astype(np.float64) for name, values in columns.items()},
        "y_last": panel.present[:, k].numpy()[rows].astype(np.float64),
        "y_mean": np.full(len(rows), mean),
        "volatility": volatility,
        "scale": target.scale(volatility),
        "bar_return": panel.bar_return[:, k].numpy()[rows].astype(np.float64),
    }


def are_late(issued: pd.Series, target_start: pd.Series, daily: bool) -> pd.Series:
    """Which forecasts were made after their label had begun, (n,); on daily bars its first day is in time.

    Args:
        issued: When each was made, UTC.
        target_start: When its label begins, UTC; a label without a beginning has not begun.
        daily: Whether the bars are daily.

    Example:
        >>> issued = pd.Series(pd.to_datetime(["2024-01-02 22:30", "2024-01-03 22:30"], utc=True))
        >>> begins = pd.Series(pd.to_datetime(["2024-01-02", "2024-01-02"], utc=True))
        >>> are_late(issued, begins, daily=True).tolist()
        [False, True]
    """
    return (issued.dt.normalize() if daily else issued) > target_start


def collected_columns(collected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The forecast columns, each (n, H), of what a forecaster collected in an epoch.

    Args:
        collected: `row`, (n,), and the forecast columns; `y_true` and `loss` are left out.
    """
    return {name: values for name, values in collected.items() if name not in ("row", "y_true", "loss")}


def collected_table(
    panel: Panel, targets: Sequence[Target], collected: Mapping[str, Tensor], target_mean: Sequence[float]
) -> pd.DataFrame:
    """`predictions_table` of what a forecaster collected in an epoch.

    Args:
        panel: The panel that the windows were cut from.
        targets: Its targets.
        collected: As for `collected_columns`.
        target_mean: Mean of each target over the training rows.
    """
    return predictions_table(panel, targets, collected["row"].numpy(), collected_columns(collected), target_mean)


def ahead(panel: Panel, rows: Rows, steps: int) -> NDArray[np.datetime64]:
    """Timestamps that many rows later in the same segment, else NaT, (n,).

    Args:
        panel: The panel.
        rows: Panel rows, (n,).
        steps: How many rows later.
    """
    target = np.minimum(rows + steps, len(panel) - 1)
    known = (rows + steps < len(panel)) & (panel.segment[target] == panel.segment[rows])
    return np.where(known, panel.time[target], np.datetime64("NaT"))
