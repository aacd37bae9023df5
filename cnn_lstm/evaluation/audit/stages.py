"""Everything that a pipeline makes of a price table, stage by stage, keyed by symbol and time.

This is what the checks compare: the stages of the table as it is, and those of a changed one.

Shapes: n rows of a stage, C columns of it, F features, H targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.predictions import predictions_table
from cnn_lstm.data.recipe import BoundRecipe
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.times import time_text, utc_times
from cnn_lstm.data.windows import Panel, complete_windows
from cnn_lstm.evaluation.audit.findings import Finding
from cnn_lstm.evaluation.audit.remembered import remembering
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecast_model import ForecastModel

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

MOST_WINDOWS = 6000
CHUNK = 1 << 14
ROWS = "rows"
NOT_COMPARED = {"symbol", "as_of", "target_start", "target_end", "horizon", "target", "y_true", "bar_return"}
BOUNDS = ("lower_", "upper_", "set_")


@dataclass(frozen=True)
class Stage:
    """One thing that the pipeline knows of a table.

    Attributes:
        name: Name of the stage.
        columns: Names of the columns.
        symbol: Symbol of each row, (n,), in the order of the table.
        time: Last bar that the row may know of, (n,) datetime64[us], UTC; ascending within a symbol.
        values: (n, C), float32 or float64; NaN where not known.
    """

    name: str
    columns: tuple[str, ...]
    symbol: NDArray[np.object_]
    time: NDArray[np.datetime64]
    values: NDArray[Any]

    def __len__(self) -> int:
        return len(self.time)

    def rows(self, kept: NDArray[np.bool_]) -> Stage:
        """Some rows, (n,) marked."""
        return replace(self, symbol=self.symbol[kept], time=self.time[kept], values=self.values[kept])

    def until(self, cut: np.datetime64) -> Stage:
        """The rows at or before a time."""
        return self.rows(self.time <= cut)

    def of(self, symbols: Collection[str]) -> Stage:
        """The rows of some symbols."""
        return self.rows(np.isin(self.symbol, list(symbols)))

    def pick(self, columns: Collection[str]) -> Stage:
        """Some columns, in their order."""
        kept = [k for k, name in enumerate(self.columns) if name in columns]
        return replace(self, columns=tuple(self.columns[k] for k in kept), values=self.values[:, kept])

    def other_bits(self, after: Stage, what: str) -> list[Finding]:
        """The first row of each column that differs in any bit, NaN = NaN, or the first row that only one stage has.

        Args:
            after: The same rows of another table.
            what: What was done.
        """
        return self._other_row(after, what) or self._first_rows(bits(self.values) != bits(after.values), what)

    def other_values(self, after: Stage, tolerance: float, what: str) -> list[Finding]:
        """The first row of each column in which a known value moved, or the first row that only one stage has.

        Args:
            after: The same rows of another table.
            tolerance: Largest distance that does not count as a move, in units of the value's size plus the standard
                deviation of its column.
            what: What was done.
        """
        if other := self._other_row(after, what):
            return other
        one, two = self.values.astype(np.float64), after.values.astype(np.float64)
        known = np.isfinite(one) & np.isfinite(two)
        one, two = np.where(known, one, 0.0), np.where(known, two, 0.0)
        count = np.maximum(known.sum(axis=0), 1)
        mean = one.sum(axis=0) / count
        deviation = np.sqrt((np.where(known, one - mean, 0.0) ** 2).sum(axis=0) / count)
        return self._first_rows(np.abs(one - two) > tolerance * (np.abs(one) + deviation), what)

    def _other_row(self, after: Stage, what: str) -> list[Finding]:
        if len(self) == len(after) and (self.time == after.time).all() and (self.symbol == after.symbol).all():
            return []
        keys = [set(zip(stage.time.tolist(), stage.symbol.tolist(), strict=True)) for stage in (self, after)]
        different = keys[0] ^ keys[1]
        if not different:
            return [Finding(self.name, ROWS, what=what)]  # the same rows in another order
        time, symbol = min(different)
        return [Finding(self.name, ROWS, symbol, time_text(np.datetime64(time)), what)]

    def _first_rows(self, different: NDArray[np.bool_], what: str) -> list[Finding]:
        """The earliest marked row of each column that has one, of marks (n, C)."""
        findings = []
        for column in np.flatnonzero(different.any(axis=0)):
            rows = np.flatnonzero(different[:, column])
            first = rows[self.time[rows].argmin()]
            place = str(self.symbol[first]), time_text(self.time[first])
            findings.append(Finding(self.name, self.columns[column], *place, what))
        return findings


Stages = dict[str, Stage]


def bits(values: NDArray[Any]) -> NDArray[Any]:
    """Values as unsigned integers of the same bits, with one pattern for all NaN.

    Example:
        >>> bool((bits(np.array([np.nan, 0.0])) == bits(np.array([-np.nan, 0.0]))).all())
        True
    """
    one = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return np.ascontiguousarray(one).view(f"u{values.dtype.itemsize}")


def tolerant(checks: Checks) -> Checks:
    """Checks that take a table of which the future was changed: jumps, and rows that were blanked, pass.

    A sound table has the same values under both: what is missing in it is filled from the past under both.
    """
    return replace(checks, refuse_unsorted=False, allow_jumps=True, fill_max_gap=1 << 40)


class Pipeline:
    """The way of a price table through checks, features, windows and model; what was learnt stays as it is.

    Args:
        data: A data module that has read its data.
        predictor: The checkpoint; without one the way ends with the windows.
        checked: Whether the tables are checked already, and go without the first step.

    Attributes:
        memory: The predictor, which computes each window once.
    """

    def __init__(self, data: MarketDataModule, predictor: Predictor | None = None, checked: bool = False) -> None:
        self.data, self.predictor, self.checked = data, predictor, checked
        self.memory = None if predictor is None else remembering(predictor)
        self.bound: BoundRecipe = data.bound.with_checks(tolerant(data.recipe.checks))
        self.names = [target.name for target in data.targets]

    def panel(self, table: pd.DataFrame) -> Panel:
        """The panel of a raw price table."""
        if not self.checked:
            table = self.bound.check(table, warn=False).table
        return self.bound.panel(table)

    def known(self, panel: Panel) -> Stages:
        """The stages before the model: features, what is known of the targets, windows, scaled features."""
        columns = [f"{part} of {name}" for part in ("value", "volatility") for name in self.names]
        windows = np.zeros((len(panel), 1), dtype=np.float32)
        rows = complete_windows(panel, self.bound.recipe.window)
        windows[rows] = 1.0
        parts = {
            "features": (list(self.bound.recipe.features), panel.values.numpy()),
            "targets": (columns, torch.cat([panel.present, panel.volatility], dim=1).numpy()),
            "windows": (["complete"], windows),
        }
        if self.predictor is not None:
            network = members(self.predictor.forecaster)[0].network
            with torch.inference_mode():
                # windows of one row; an anchored feature is relative to the last row of its window: always 0 here
                scaled = torch.cat([network.standardize(part[:, None])[:, 0] for part in panel.values.split(CHUNK)])
            parts["standardised features"] = (list(self.bound.recipe.features), scaled.numpy())
        return _stages(panel, np.arange(len(panel)), parts)

    def forecast(self, panel: Panel, rows: Rows, again: bool = False) -> Stages:
        """The stages behind the model: forecasts, intervals, embeddings of some windows.

        Args:
            panel: A panel.
            rows: Last row of each window, (n,).
            again: Whether windows that were computed before are computed again.
        """
        if self.predictor is None or self.memory is None or not len(rows):
            return {}
        predictor = remembering(self.predictor) if again else self.memory
        contract = predictor.forecaster.contract
        forecasts, encoded = predictor.forecast_and_encode(panel, rows)
        plain = predictions_table(panel, predictor.targets, rows, forecasts, contract.target_mean)
        table = add_intervals(plain, contract.calibration, contract.boundaries.test)
        table.attrs = {}  # pandas copies them with every column
        embeddings = encoded.numpy()
        columns = [name for name in table.columns if name not in NOT_COMPARED]
        bounds = [name for name in columns if name.startswith(BOUNDS)]
        points = [name for name in columns if name not in bounds]
        parts = {"forecasts": _wide(table, points, self.names, len(rows))}
        if bounds:
            parts["intervals"] = _wide(table, bounds, self.names, len(rows))
        parts["embeddings"] = ([f"e{k}" for k in range(embeddings.shape[1])], embeddings)
        return _stages(panel, rows, parts)

    def windows(self, panel: Panel, symbols: Collection[str], cut: np.datetime64 | None = None) -> Rows:
        """Complete windows of some symbols, until a time."""
        rows = complete_windows(panel, self.bound.recipe.window)
        kept = np.isin(np.asarray(panel.symbols, dtype=object)[panel.symbol[rows]], list(symbols))
        if cut is not None:
            kept &= panel.time[rows] <= cut
        return rows[kept]

    def few_symbols(self, panel: Panel) -> tuple[str, ...]:
        """The first symbols, with `MOST_WINDOWS` windows at most but for the first: a model takes its time."""
        rows = complete_windows(panel, self.bound.recipe.window)
        counts = np.bincount(panel.symbol[rows], minlength=len(panel.symbols))
        some = [code for code in range(len(counts)) if counts[code]]
        taken = [code for code in some if code == some[0] or counts[some[0] : code + 1].sum() <= MOST_WINDOWS]
        return tuple(panel.symbols[code] for code in taken)


class Base:
    """The stages of the table as it is, which every trial is compared with.

    Args:
        pipeline: The pipeline.
        table: Raw price table.
    """

    def __init__(self, pipeline: Pipeline, table: pd.DataFrame) -> None:
        self.pipeline, self.table, self.when = pipeline, table, utc_times(table["timestamp"])
        self.panel: Panel = pipeline.panel(table)
        self.known: Stages = pipeline.known(self.panel)
        self.symbols = pipeline.few_symbols(self.panel) if pipeline.predictor is not None else ()
        self.rows: Rows = pipeline.windows(self.panel, self.symbols)
        self.forecasts: Stages = pipeline.forecast(self.panel, self.rows)


def earliest(panel: Panel, rows: Rows) -> tuple[str, str]:
    """Symbol and timestamp of the earliest of some rows, (n,)."""
    row = rows[panel.time[rows].argmin()]
    return panel.symbols[panel.symbol[row]], time_text(panel.time[row])


def members(model: ForecastModel | Ensemble) -> list[ForecastModel]:
    """The forecasters of a model."""
    return model.forecasters if isinstance(model, Ensemble) else [model]


def _wide(table: pd.DataFrame, names: list[str], targets: list[str], rows: int) -> tuple[list[str], NDArray[Any]]:
    """Columns of a predictions table, in which target follows target, next to each other: (n, names * H)."""
    columns = []
    for name in names:
        values = table[name]
        if not pd.api.types.is_numeric_dtype(values.dtype):  # a set of classes, as text
            values = pd.Series(pd.util.hash_array(values.to_numpy(dtype=object)))
        columns.append(values.to_numpy(dtype=np.float64).reshape(len(targets), rows))
    titles = [f"{name} of {target}" for name in names for target in targets]
    return titles, np.concatenate(columns).T if columns else np.empty((rows, 0))


def _stages(panel: Panel, rows: Rows, parts: Mapping[str, tuple[list[str], NDArray[Any]]]) -> Stages:
    symbol, time = np.asarray(panel.symbols, dtype=object)[panel.symbol[rows]], panel.time[rows]
    return {name: Stage(name, tuple(columns), symbol, time, values) for name, (columns, values) in parts.items()}
