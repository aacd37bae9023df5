"""The tables that features come from next to the prices, read when something asks for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cnn_lstm.data.known_future import AheadFact, FutureTable, KnownFuture
from cnn_lstm.data.static_columns import StaticColumns, StaticTable
from cnn_lstm.data.targets import Target
from cnn_lstm.errors import CheckpointError, require
from cnn_lstm.hints import first_names

__all__ = ["KnownFuture", "SideTables", "StaticColumns", "no_table", "with_side_columns"]


@dataclass(frozen=True, eq=False)
class SideTables:
    """Where facts known ahead and static columns come from.

    Attributes:
        known_future: Facts known ahead; None without a table.
        static: Static columns; None without any.
        open_end: Whether a bar whose interval the facts do not reach has no value, instead of an error.
        known: Categories that a model has learnt, by static column; empty for any.
    """

    known_future: KnownFuture | None = None
    static: StaticColumns | None = None
    open_end: bool = False
    known: Mapping[str, Collection[str]] | None = None

    @cached_property
    def _facts(self) -> FutureTable:
        assert self.known_future is not None, "a recipe asks for the tables that it has"
        return self.known_future.load()

    @cached_property
    def _categories(self) -> StaticTable:
        assert self.static is not None, "a recipe asks for the tables that it has"
        return self.static.load()

    def facts(self) -> FutureTable:
        """The facts, read once.

        Raises:
            DataError: If the table is missing or damaged.
        """
        return self._facts

    def categories(self) -> StaticTable:
        """The categories, read once.

        Raises:
            DataError: If the table is missing or damaged.
        """
        return self._categories

    def digest(self) -> list[str]:
        """Digests of what the tables say; empty without any."""
        facts = [] if self.known_future is None else [self.facts().digest()]
        return facts + ([] if self.static is None else [self.categories().digest()])


def no_table(names: Collection[str], argument: str) -> CheckpointError:
    """The refusal of prices without the table that a checkpoint needs next to them.

    Args:
        names: Names of the columns that it reads there.
        argument: `known_future` or `static`.

    Example:
        >>> print(no_table(["earnings"], "known_future"))
        error[E429]: the checkpoint reads earnings, and no table of it is given — known_future — give it by \
known_future=... in Python, data.known_future in a configuration, see docs/side_tables.md
    """
    fix = f"give it by {argument}=... in Python, data.{argument} in a configuration, see docs/side_tables.md"
    what = f"the checkpoint reads {first_names(list(names))}, and no table of it is given"
    return CheckpointError(what, argument, fix, code=429)


def with_side_columns(
    features: Sequence[str], known_future: KnownFuture | None, static: StaticColumns | None, targets: Sequence[Target]
) -> tuple[tuple[str, ...], tuple[AheadFact, ...]]:
    """Names of features, followed by those of facts known ahead and of static columns; and the facts.

    Raises:
        ConfigError: E225, if one of these names is that of a feature.

    Example:
        >>> from cnn_lstm.data.targets import ForwardReturn
        >>> with_side_columns(["rsi_14"], None, StaticColumns(["symbol"]), [ForwardReturn()])[0]
        ('rsi_14', 'static_symbol')
    """
    ahead = () if known_future is None else known_future.facts(targets)
    added = [*(fact.name for fact in ahead), *(() if static is None else static.names)]
    for name in added:
        fix = "leave it out: data.known_future and data.static add their features themselves"
        require(name not in features, f"{name} is not a feature of yours", "data.features", fix, code=225)
    return (*features, *added), ahead
