"""The tables that a forecast needs next to the prices: facts known ahead, and static columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.static_columns import StaticColumns, Vocabulary

Facts = str | Path | Frame | KnownFuture
Statics = str | Path | Frame | StaticColumns


@dataclass(frozen=True, eq=False)
class GivenTables:
    """What was given next to the prices.

    Attributes:
        known_future: Facts known ahead; None where nothing was given.
        static: Static columns; None where nothing was given.
        open_end: Whether a bar whose interval the facts do not reach has no window, instead of an error.
    """

    known_future: Facts | None = None
    static: Statics | None = None
    open_end: bool = False

    def replaced(self, known_future: Facts | None, static: Statics | None) -> GivenTables:
        """The same, with other tables where some are given."""
        if known_future is None and static is None:
            return self
        future = self.known_future if known_future is None else known_future
        return GivenTables(future, self.static if static is None else static, self.open_end)

    def join(self, recipe: Recipe, known: Vocabulary) -> Recipe:
        """The recipe of a checkpoint, with its tables.

        Args:
            recipe: The recipe. It says which columns are read, and what becomes of them over an interval.
            known: Categories that the checkpoint has learnt, by static column.

        Raises:
            CheckpointError: E429, if a table is needed and missing.
            DataError: If a table is missing or damaged.
        """
        future, static = self.known_future, self.static
        if not recipe.known_future or future is None:
            future = None
        elif not isinstance(future, KnownFuture):
            future = KnownFuture(future, list(dict.fromkeys(one.fact for one in recipe.known_future)))
        if not recipe.static or static is None:
            static = None
        elif not isinstance(static, StaticColumns):
            static = StaticColumns(list(recipe.static), static)
        joined = recipe.with_tables(future, static, known)
        if joined.tables is None:
            return joined
        return replace(joined, tables=replace(joined.tables, open_end=self.open_end))
