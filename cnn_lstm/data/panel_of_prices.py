"""A data module whose panel comes from a source of prices: read, checked and built once, or found built."""

from __future__ import annotations

from abc import ABC
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn_lstm.data.kept_panels import PanelMaker
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.panel_cache import PanelCache
from cnn_lstm.data.panel_key import Request
from cnn_lstm.data.prepared import Prepared, Tables, muted, require_unchanged
from cnn_lstm.data.prices import CheckedPrices
from cnn_lstm.data.recipe import BoundRecipe, Recipe
from cnn_lstm.data.row_numbers import RowCollector, Rows, distinct
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.static_columns import vocabulary
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import Times
from cnn_lstm.data.windows import Panel, complete_windows


class PanelOfPrices(ABC):
    """The price table of a data module, and the panel that is made of it.

    Attributes:
        recipe: How windows are made.
        panel: Features and labels of all rows; known after `setup`.
        source: Where the prices come from.
        symbols: Symbols to use; None for all that the source has.
        start: First day, ISO; None for the source's first.
        end: Day after the last one, ISO; None for the source's last.
        targets: What is forecast.
        cache: Panels that are kept from one command to the next; None for none.
        storage: Files of a panel that does not fit in memory; None for one in memory.
        windows: Last rows of all complete windows, (n,); known after `setup`.
        times: Distinct timestamps of the panel, ascending; known after `setup`.
        fingerprint: Digest of the data, see `Recipe.fingerprint`; known after `setup`.
    """

    recipe: Recipe
    panel: Panel
    source: PriceSource
    symbols: list[str] | None
    start: str | None
    end: str | None
    targets: list[Target]
    cache: PanelCache | None
    storage: MappedPanel | None
    windows: Rows
    times: Times
    fingerprint: str
    _tables: Tables | None = None

    @property
    def n_features(self) -> int:
        """Number of feature columns; known without reading data."""
        return len(self.recipe.features)

    @property
    def n_targets(self) -> int:
        """Number of targets; known without reading data."""
        return len(self.targets)

    def load(self, end: str | None = None) -> pd.DataFrame:
        """The raw price table of the source, in the form of `price_table`.

        Args:
            end: Day after the last one, ISO; that of the data module by default.
        """
        return self.recipe.read(self.source.load(self.symbols, self.start, end or self.end))

    def _make(self) -> Prepared:
        """Makes the panel, or finds it; the table is kept where it had to be read."""
        request = Request(self.source, self.symbols, self.start, self.end)
        if self.storage is not None:
            mapped = self.storage.panel_of(request, self.recipe, self.targets)
            self.windows, self.times = mapped.windows, mapped.times
            return mapped.prepared
        made, self._tables = PanelMaker(request, self.recipe, self.targets, self.cache).make(self.load)
        self.windows, self.times = complete_windows(made.panel, self.recipe.window), distinct(made.panel.time)
        return made

    def _bound(self, made: Prepared) -> BoundRecipe:
        """The recipe as it was bound when the panel was made, here or by an earlier command."""
        if self._tables is not None:
            return self._tables.bound
        bound = self.recipe.bind(list(made.kinds), self.targets)
        return bound.with_checks(replace(self.recipe.checks, max_gap_days=made.gap_limit))

    def collector(self) -> RowCollector:
        """Keeps many row numbers: in memory, or next to the files of the panel."""
        return RowCollector(None if self.storage is None else self.storage.folder)

    @property
    def has_tables(self) -> bool:
        """Whether the price table is in memory, and `prices` need not read it."""
        return self._tables is not None

    @property
    def prices(self) -> pd.DataFrame:
        """The checked price table, aligned with the panel; it is read when it is first asked for.

        Raises:
            DataError: E331, it is another than the panel was made of.
            ResourceError: E613, the panel lies in files, and the table is too large for memory.
        """
        return self._read_tables().prices if self.storage is None else self.storage.prices()

    @property
    def checked(self) -> CheckedPrices:
        """The checked price table with its warnings, symbols that are too short among them; see `prices`."""
        return self._read_tables().checked

    def _read_tables(self) -> Tables:
        if self._tables is None:
            with muted():
                tables = Tables.of(self.load(), self.recipe, self.targets)
            require_unchanged(tables, self.fingerprint)
            self._tables = tables
        return self._tables

    def vocabulary_of(self, rows: Rows) -> dict[str, list[str]]:
        """Categories of the symbols of training rows, (n,), by static column; refuses a symbol with any other one.

        Raises:
            DataError: E377 or E378.
        """
        if not self.recipe.static or self.recipe.tables is None:
            return {}
        trained = np.asarray(self.panel.symbols, dtype=object)[np.diff(self.panel.edges_among(rows)) > 0]
        return vocabulary(self.recipe.static, self.recipe.tables.categories(), trained.tolist(), self.panel.symbols)

    def surprise_scale(self, rows: Tensor) -> Tensor:
        """Size of each label's surprise as known at the panel rows (n,): (n, H) float64, see `Target.scale`."""
        volatility = self.panel.volatility[rows].double().numpy()
        scales = [target.scale(volatility[:, k]) for k, target in enumerate(self.targets)]
        return torch.from_numpy(np.stack(scales, axis=1))

    def dates(self, rows: Tensor) -> Tensor:
        """A number of the date of each of the panel rows, both (n,); it rises with time."""
        return torch.from_numpy(self.panel.time.view(np.int64))[rows]
