"""Forecasts of windows that were forecast before: a table that grows by a day each evening has one new window.

Shapes: n windows, T window length, F features, H targets.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.windows import Panel

MOST_WINDOWS = 100_000  # that are remembered
DIGEST_BYTES = 16


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
        self._places: dict[bytes, int] = {}
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
        if model != self._model:
            self._model, self._places = model, {}
        keys = _digests(panel.values, rows, length)
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


def _digests(values: Tensor, rows: Rows, length: int) -> list[bytes]:
    """A digest of the values, (N, F), of each window, (n,)."""
    content, width = values.contiguous().numpy().data.cast("B"), values.shape[1] * values.element_size()
    return [
        hashlib.blake2b(content[(row + 1 - length) * width : (row + 1) * width], digest_size=DIGEST_BYTES).digest()
        for row in rows.tolist()
    ]
