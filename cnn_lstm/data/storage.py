"""Where a panel lies: in memory, or in files that are larger than it; see `cnn_lstm.data.mapped`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_lstm.data.panel_checks import check_calendar, check_columns, skip_short
from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.data.recipe import BoundRecipe, Recipe
from cnn_lstm.data.row_numbers import RowCollector, Rows
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import Times
from cnn_lstm.data.windows import Panel, complete_windows
from cnn_lstm.errors import Defect
from cnn_lstm.specs import Serializable


@dataclass(frozen=True)
class PanelRequest:
    """What a panel is made of.

    Attributes:
        source: Where the prices come from.
        symbols: Symbols to use; None for all.
        start: First day, ISO; None for the source's first.
        end: Day after the last one, ISO; None for the source's last.
        recipe: Features, targets, window and checks.
        targets: The target objects of the recipe.
    """

    source: PriceSource
    symbols: Sequence[str] | None
    start: str | None
    end: str | None
    recipe: Recipe
    targets: Sequence[Target]

    def checked(self, table: pd.DataFrame) -> CheckedBars:
        """Checks a price table, and leaves out the symbols that are too short where the recipe allows it.

        Args:
            table: Raw price table, as the source gives it.

        Raises:
            DataError: If it is not sound.
        """
        read = self.recipe.read(table)
        bound = self.recipe.bind_to(read, self.targets)
        sound = bound.check(read)
        bound = bound.with_checks(self.recipe.checks.on(sound.table))
        check_columns(sound.table, self.targets)
        warnings = (*sound.warnings, *check_calendar(sound.table["timestamp"], bound))
        return CheckedBars(skip_short(sound.table, bound), bound, warnings)


@dataclass(frozen=True)
class CheckedBars:
    """A sound price table, what is made of it, and what looks odd in it."""

    prices: pd.DataFrame
    bound: BoundRecipe
    warnings: tuple[Defect, ...]


@dataclass(frozen=True)
class StoredPanel:
    """A panel and what belongs to it.

    Attributes:
        panel: Features and labels of all rows.
        windows: Last rows of all complete windows, (n,).
        times: Distinct timestamps, ascending.
        bound: The recipe, with its features found.
        columns: Numeric columns of the price table.
        fingerprint: SHA-256 of the price table.
        warnings: What looks odd in the price table.
        prices: Gives the checked price table.
    """

    panel: Panel
    windows: Rows
    times: Times
    bound: BoundRecipe
    columns: tuple[str, ...]
    fingerprint: str
    warnings: tuple[Defect, ...]
    prices: Callable[[], pd.DataFrame]


class PanelStorage(Serializable, ABC):
    """Makes the panel of a data module, or finds the one that it has made before."""

    @abstractmethod
    def panel_of(self, request: PanelRequest) -> StoredPanel:
        """The panel.

        Args:
            request: What it is made of.

        Raises:
            DataError: If the prices are missing, damaged, or not what the recipe needs.
        """

    @abstractmethod
    def collector(self) -> RowCollector:
        """Keeps many row numbers of a panel, where this storage keeps such things."""


class InMemory(PanelStorage):
    """The panel in memory, made of the whole price table in one go."""

    def panel_of(self, request: PanelRequest) -> StoredPanel:
        """Reads the whole table."""
        table = request.source.load(request.symbols, request.start, request.end)
        bars = request.checked(table)
        panel = bars.bound.panel(bars.prices)
        return StoredPanel(
            panel=panel,
            windows=complete_windows(panel, request.recipe.window),
            times=np.unique(panel.time),
            bound=bars.bound,
            columns=tuple(bars.prices.columns[2:]),
            fingerprint=data_fingerprint(bars.prices),
            warnings=bars.warnings,
            prices=lambda: bars.prices,
        )

    def collector(self) -> RowCollector:
        """In memory."""
        return RowCollector()
