"""The tables that a forecast needs next to the prices: facts known ahead, and static columns."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    known_future: Facts | None = None
    static: Statics | None = None

    def replaced(self, known_future: Facts | None, static: Statics | None) -> GivenTables:
        """The same, with other tables where some are given."""
        if known_future is None and static is None:
            return self
        return GivenTables(
            self.known_future if known_future is None else known_future, self.static if static is None else static
        )

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
        return recipe.with_tables(future, static, known)
