"""What a price table becomes before it is split: read and checked once, and what is known of it then."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnn_lstm.data.panel_checks import check_calendar, check_columns, skip_short
from cnn_lstm.data.prices import CheckedPrices, data_fingerprint
from cnn_lstm.data.recipe import BoundRecipe, Recipe
from cnn_lstm.data.targets import Target
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import DataError, Defect
from cnn_lstm.hints import counted

log = logging.getLogger(__name__)
ROOM = logging.getLogger(__name__.rpartition(".")[0])


@dataclass(frozen=True)
class Prepared:
    """A panel, and what is said of the table that it was made of.

    Attributes:
        panel: The panel.
        fingerprint: Digest of the checked table, see `data_fingerprint`.
        kinds: Kind of the values of each column of the table, by NumPy's letter.
        gap_limit: Longest distance of two bars, in days or sessions, that is not a gap.
        messages: What was warned of while the table was read and checked: name of the logger, and text.
    """

    panel: Panel
    fingerprint: str
    kinds: Mapping[str, str]
    gap_limit: float
    messages: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, tables: Tables, messages: Sequence[tuple[str, str]]) -> Prepared:
        """Makes the panel of a checked table.

        Args:
            tables: The table.
            messages: What was warned of until now.
        """
        fingerprint, panel = data_fingerprint(tables.prices), tables.bound.panel(tables.prices)
        return cls(panel, fingerprint, tables.kinds, tables.bound.recipe.checks.gap_limit(), tuple(messages))

    def repeat_messages(self) -> None:
        """Warns again of what was warned of: the panel may have been made by another command."""
        for name, text in self.messages:
            logging.getLogger(name).warning("%s", text)


@dataclass(frozen=True)
class Tables:
    """The price table as it was checked, and its symbols that are long enough.

    Attributes:
        checked: The sound table, and what is odd about it.
        prices: Rows of the symbols that the panel has, aligned with it.
        bound: The recipe, bound to its columns, with the limit of gaps that holds for it.
    """

    checked: CheckedPrices
    prices: pd.DataFrame
    bound: BoundRecipe

    @classmethod
    def of(cls, table: pd.DataFrame, recipe: Recipe, targets: Iterable[Target]) -> Tables:
        """Checks a table, and warns of what is odd.

        Args:
            table: Raw price table, as `Recipe.read` returns it.
            recipe: The recipe.
            targets: Its targets.

        Raises:
            DataError: If the table cannot be used.
        """
        bound = recipe.bind_to(table, [*targets])
        checked = bound.check(table)
        bound = bound.with_checks(recipe.checks.on(checked.table, recipe.exchange))
        warn_of(checked.warnings)
        check_columns(checked.table, bound.targets)
        warn_of(check_calendar(checked.table["timestamp"], bound))
        return cls(checked, skip_short(checked.table, bound), bound)

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of the values of each column."""
        return {str(name): kind.kind for name, kind in self.checked.table.dtypes.items()}


def warn_of(defects: Iterable[Defect]) -> None:
    """Logs warnings, one line each."""
    for defect in defects:
        log.warning("[W%d] %s — %s — %s", defect.code, defect.what, defect.where, defect.fix)


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    """Keeps what this room warns of meanwhile: name of the logger, and text."""
    messages: list[tuple[str, str]] = []
    handler = _Keep(messages)
    ROOM.addHandler(handler)
    try:
        yield messages
    finally:
        ROOM.removeHandler(handler)


@contextmanager
def muted() -> Iterator[None]:
    """Warns of nothing meanwhile: a table that is read a second time has been warned of."""
    level = ROOM.level
    ROOM.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ROOM.setLevel(level)


def require_unchanged(tables: Tables, fingerprint: str) -> None:
    """Refuses a table that is not the one that a panel was made of.

    Args:
        tables: What was read again.
        fingerprint: Digest of what the panel was made of.

    Raises:
        DataError: E331.
    """
    if tables.bound.recipe.fingerprint(data_fingerprint(tables.prices)) != fingerprint:
        what, fix = "the prices have changed while the command was at work", "run the command again"
        raise DataError(what, counted(len(tables.prices), "row"), fix, code=331)


class _Keep(logging.Handler):
    def __init__(self, messages: list[tuple[str, str]]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append((record.name, record.getMessage()))


def plain_of(prepared: Prepared) -> dict[str, Any]:
    """Everything but the arrays, in plain values for a file."""
    return {
        "symbols": list(prepared.panel.symbols),
        "fingerprint": prepared.fingerprint,
        "kinds": list(prepared.kinds.items()),
        "gap_limit": prepared.gap_limit,
        "messages": [list(message) for message in prepared.messages],
    }
