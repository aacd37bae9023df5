"""Forecasts of windows that were forecast before: a table that grows by a day each evening has one new window.

Shapes: n windows, T window length, F features, H targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.windows import Panel

MOST_WINDOWS = 100_000  # that are remembered, of as many different rows


class RememberedForecasts:
    """Forecast columns of the windows of the last call, found again by what the windows hold.

    A forecast depends on its window alone, bit for bit, so that one of equal values has the same.

    Example:
        >>> forecasts = RememberedForecasts()
        >>> forecasts.known
        0
    """

    def __init__(self) -> None:
        self._model: object = None
        self._numbers: dict[bytes, int] = {}  # of the different rows of windows
        self._places: dict[bytes, int] = {}  # of the windows, each by the numbers of its rows
        self._columns: dict[str, Tensor] = {}

    @property
    def known(self) -> int:
        """Number of windows that are remembered."""
        return len(self._places)

    def columns(
        self, panel: Panel, rows: Rows, length: int, model: object, forecast: Callable[[Rows], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The forecast columns of windows, each (n, H); only those that are not known are computed.

        Args:
            panel: The panel.
            rows: Last row of each window, (n,).
            length: Rows of a window, T.
            model: What tells the model from any other; another one forgets all.
            forecast: Gives the columns of the windows that end at rows.
        """
        if not 0 < len(rows) <= MOST_WINDOWS:
            return forecast(rows)
        if model != self._model or len(self._numbers) > MOST_WINDOWS:
            self._model, self._numbers, self._places = model, {}, {}
        keys = self._keys(panel.values, rows, length)
        fresh = [place for place, key in enumerate(keys) if key not in self._places]
        found = forecast(rows[fresh]) if fresh else {}
        if len(fresh) < len(rows):
            found = self._joined(keys, found)
        self._places, self._columns = {key: place for place, key in enumerate(keys)}, found
        return found

    def _joined(self, keys: Sequence[bytes], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """Columns of all windows, of those that were known and of those that were computed."""
        computed = itertools.count(len(next(iter(self._columns.values()))))
        places = torch.tensor([self._places[key] if key in self._places else next(computed) for key in keys])
        stored = {name: torch.cat([old, fresh[name]]) if fresh else old for name, old in self._columns.items()}
        return {name: values.index_select(0, places) for name, values in stored.items()}

    def _keys(self, values: Tensor, rows: Rows, length: int) -> list[bytes]:
        """The numbers of the rows of each window, (n,), of the values, (N, F): equal rows have one number."""
        edges = np.zeros(len(values) + 1, dtype=np.int64)
        np.add.at(edges, rows + 1 - length, 1)
        np.add.at(edges, rows + 1, -1)
        of_windows = np.flatnonzero(np.cumsum(edges[:-1]))
        numbers = np.zeros(len(values), dtype=np.int32)
        content = values.numpy()[of_windows]
        width, row_bytes = content.itemsize * content.shape[1], content.tobytes()
        numbers[of_windows] = [
            self._numbers.setdefault(row_bytes[start : start + width], len(self._numbers))
            for start in range(0, len(row_bytes), width)
        ]
        of_rows, size = numbers.tobytes(), numbers.itemsize
        return [of_rows[(row + 1 - length) * size : (row + 1) * size] for row in rows.tolist()]
