"""What every baseline is fitted on, and the windows in chunks.

Shapes: n rows, H targets, T window length, F features, K inputs of a linear model, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.panel_checks import scaled_symbols
from cnn_lstm.data.parts import SplitRows
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.statistics import TrainingStatistics
from cnn_lstm.data.symbol_rows import positions_by_code
from cnn_lstm.data.targets import Floats, Target
from cnn_lstm.data.windows import CHUNK_BYTES, Panel, cut_windows
from cnn_lstm.model.layers import Standardize
from cnn_lstm.model.line import LEAST_PROBABILITY
from cnn_lstm.model.scales import of_windows

Columns = dict[str, Floats]


@dataclass(frozen=True)
class BaselineInputs:
    """The parts of a data module, after its `setup`, that baselines are fitted on.

    Attributes:
        panel: The panel.
        targets: Its targets.
        parts: Training, validation and test rows; baselines read the labels of the first two only.
        statistics: Location and scale over the training rows.
        window: Rows of a window, T.
        prices: Checked price table, aligned with the panel's rows; without it HAR is left out.
    """

    panel: Panel
    targets: Sequence[Target]
    parts: SplitRows
    statistics: TrainingStatistics
    window: int
    prices: pd.DataFrame | None = None

    @classmethod
    def of(cls, data: MarketData) -> BaselineInputs:
        """The inputs that a data module has after its `setup`."""
        # HAR alone reads them: the table of a panel that was found built need not be in memory
        wanted = data.has_tables or any(target.quantity.is_volatility for target in data.targets)
        prices = data.prices if wanted else None
        return cls(data.panel, data.targets, data.parts, data.statistics, data.recipe.window, prices)

    def labels(self, rows: Rows, target: int) -> Floats:
        """Labels of one target, (n,), in the target's unit."""
        return self.panel.labels[:, target].numpy()[rows].astype(np.float64)

    def present(self, rows: Rows, target: int) -> Floats:
        """Latest known value of one target's quantity, (n,), in the target's unit."""
        return self.panel.present[:, target].numpy()[rows].astype(np.float64)

    def base(self, rows: Rows, target: int) -> Floats:
        """What forecasts of one target are changes from, (n,): the latest value of a level, 0 for anything else."""
        return self.present(rows, target) if self.targets[target].level else np.zeros(len(rows))

    def train(self, most: int) -> Rows:
        """At most so many training rows, spread evenly over all of them, (n,)."""
        return self.parts.train[evenly_spread(len(self.parts.train), most, down=True)]

    def validation(self, most: int) -> Rows:
        """The same of the validation rows, (n,)."""
        return self.parts.validation[evenly_spread(len(self.parts.validation), most, down=True)]

    def of_symbols(self, table: Tensor, rows: Rows) -> Tensor:
        """The row of each row's symbol in a table (S + 1, W) of the statistics, (n, W); the table itself without codes.

        Args:
            table: Such as `statistics.y_loc`.
            rows: Panel rows, (n,).
        """
        codes, panel = self.statistics.codes, self.panel
        of_symbol = of_windows(table, codes, panel.values[torch.from_numpy(panel.edges[:-1])][:, None])
        return of_symbol[torch.from_numpy(panel.symbol[rows]).long()] if len(codes) else of_symbol

    def spread(self, values: Floats, rows: Rows) -> Spread:
        """Mean and standard deviation of each symbol's values, (n,), at panel rows, (n,), that are trained on.

        Only symbols with a scale of their own in the statistics have their own ones; the others share those of all
        rows.
        """
        panel, scaled = self.panel, set(scaled_symbols(self.panel, self.statistics))
        mean, scale = (np.full(len(panel.symbols), value) for value in (values.mean(), values.std() or 1.0))
        for code, own in positions_by_code(panel.symbol[rows]).items():
            part = values[own]
            if panel.symbols[code] in scaled and part.std() > 0:
                mean[code], scale[code] = part.mean(), part.std()
        return Spread(mean, scale, panel.symbol)

    def window_chunks(self, rows: Rows) -> Iterator[Tensor]:
        """Windows as the network sees them after its first layer, one chunk at a time to save memory.

        Args:
            rows: Last row of each window, (n,).

        Yields:
            Chunks of at most 32 MiB, (B, T, F) float32.
        """
        values, statistics = self.panel.values, self.statistics
        width = values.shape[1]
        standardize = Standardize(width)
        standardize.take(statistics.x_loc, statistics.x_scale, statistics.x_anchored, statistics.codes)
        for part in torch.from_numpy(rows).split(max(1, CHUNK_BYTES // (4 * self.window * width))):
            yield standardize(cut_windows(values, part, self.window))


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of each symbol, to standardise by.

    Attributes:
        mean: Mean of each symbol of the panel.
        scale: Standard deviation of each.
        symbol: Position of each panel row's symbol, (N,).
    """

    mean: Floats
    scale: Floats
    symbol: NDArray[np.int32]

    def standardised(self, values: Floats, rows: Rows) -> Floats:
        """Standardised values, (n,), of values at panel rows, both (n,)."""
        symbol = self.symbol[rows]
        return np.asarray((values - self.mean[symbol]) / self.scale[symbol])

    def original(self, values: Floats, rows: Rows) -> Floats:
        """Values, (n,), of which `standardised` makes these ones."""
        symbol = self.symbol[rows]
        return np.asarray(values * self.scale[symbol] + self.mean[symbol])


class Fitted(Protocol):
    """A fitted baseline; it forecasts any rows."""

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target the forecast columns, each (n,), in the target's unit."""


def class_columns(name: str, probabilities: Floats, point: bool = True) -> Columns:
    """Columns `<name>_p0`.. of class probabilities, (n, C), and `y_<name>`, the most probable class.

    Probabilities below 1e-6 are raised to 1e-6.

    Example:
        >>> {name: column.tolist() for name, column in class_columns("x", np.array([[0.25, 0.75]])).items()}
        {'x_p0': [0.25], 'x_p1': [0.75], 'y_x': [1.0]}
    """
    raised = np.maximum(probabilities, LEAST_PROBABILITY)
    shares = raised / raised.sum(axis=1, keepdims=True)
    columns = {f"{name}_p{k}": shares[:, k] for k in range(shares.shape[1])}
    if point:
        columns[f"y_{name}"] = shares.argmax(axis=1).astype(np.float64)
    return columns
