"""A data module whose panel comes from a source of prices: read, checked and built once, or found built."""

from __future__ import annotations

from abc import ABC

import pandas as pd

from cnn_lstm.data.kept_panels import PanelMaker
from cnn_lstm.data.loaders import WindowLoaders
from cnn_lstm.data.panel_cache import PanelCache
from cnn_lstm.data.panel_key import Request
from cnn_lstm.data.prepared import Prepared, Tables, muted, require_unchanged
from cnn_lstm.data.prices import CheckedPrices
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.targets import Target


class PanelOfPrices(WindowLoaders, ABC):
    """The price table of a data module, and the panel that is made of it.

    Attributes:
        source: Where the prices come from.
        symbols: Symbols to use; None for all that the source has.
        start: First day, ISO; None for the source's first.
        end: Day after the last one, ISO; None for the source's last.
        targets: What is forecast.
        cache: Panels that are kept from one command to the next; None for none.
        fingerprint: Digest of the checked table; known after `setup`.
    """

    source: PriceSource
    symbols: list[str] | None
    start: str | None
    end: str | None
    targets: list[Target]
    cache: PanelCache | None
    fingerprint: str
    _tables: Tables | None = None

    def load(self, end: str | None = None) -> pd.DataFrame:
        """The raw price table of the source, in the form of `price_table`.

        Args:
            end: Day after the last one, ISO; that of the data module by default.
        """
        return self.recipe.read(self.source.load(self.symbols, self.start, end or self.end))

    def _make(self) -> Prepared:
        """Makes the panel, or finds it; the table is kept where it had to be read."""
        request = Request(self.source, self.symbols, self.start, self.end)
        made, self._tables = PanelMaker(request, self.recipe, self.targets, self.cache).make(self.load)
        return made

    @property
    def has_tables(self) -> bool:
        """Whether the price table is in memory, and `prices` need not read it."""
        return self._tables is not None

    @property
    def prices(self) -> pd.DataFrame:
        """The checked price table, aligned with the panel; it is read when it is first asked for.

        Raises:
            DataError: E331, it is another than the panel was made of.
        """
        return self._read_tables().prices

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
