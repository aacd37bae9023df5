"""A panel is built once: found in memory or in a folder where nothing has changed that it was made of.

`kept_in_process` serves a process that sets up many data modules, such as a worker of a sweep.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from cnn_lstm.data.panel_cache import PanelCache
from cnn_lstm.data.panel_key import Request, digest_of, panel_key, table_key
from cnn_lstm.data.prepared import Prepared, Tables, recorded
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.targets import Target

MOST = 2  # panels that a process keeps: a search may go to and fro between two
_kept: dict[str, Prepared] | None = None


@contextmanager
def kept_in_process() -> Iterator[None]:
    """Keeps the latest panels in memory for as long as it lasts."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


class PanelMaker:
    """Makes the panel of a recipe, or finds it.

    Args:
        request: Which prices are asked for.
        recipe: The recipe.
        targets: Its targets.
        cache: Panels of a folder; None for none.
    """

    def __init__(self, request: Request, recipe: Recipe, targets: Sequence[Target], cache: PanelCache | None) -> None:
        self._request, self._recipe, self._targets, self._cache = request, recipe, targets, cache

    def make(self, load: Callable[[], pd.DataFrame]) -> tuple[Prepared, Tables | None]:
        """The panel, and the tables that it was made of where they had to be read.

        Args:
            load: Reads the price table.

        Raises:
            DataError: If the table cannot be used.
        """
        name = self._name_in_process()
        if name is not None and _kept is not None and name in _kept:
            _kept[name].repeat_messages()
            return _kept[name], None
        made = self._found_or_made(load)
        if name is not None and _kept is not None:
            _kept[name] = made[0]
            for oldest in [*_kept][:-MOST]:
                del _kept[oldest]
        return made

    def _found_or_made(self, load: Callable[[], pd.DataFrame]) -> tuple[Prepared, Tables | None]:
        if self._cache is None:
            return self._made(load, [])
        states = self._request.states()
        key = self._key_of_files() if states is not None and self._cache.has_any else None
        if key is not None and (found := self._cache.find(key)) is not None and self._request.states() == states:
            found.repeat_messages()
            return found, None
        return self._made_and_kept(load, states, key)

    def _made_and_kept(
        self, load: Callable[[], pd.DataFrame], states: list[Any] | None, key: str | None
    ) -> tuple[Prepared, Tables | None]:
        assert self._cache is not None
        with recorded() as messages:
            table = load()
        if states is None:  # nobody knows what was read, so the table itself has to say it
            worth = self._cache.least <= len(table) * len(self._recipe.features)
            key = panel_key(table_key(table), self._recipe, self._targets) if worth else None
            if key is not None and (found := self._cache.find(key)) is not None:
                found.repeat_messages()
                return found, None
        prepared, tables = self._made(lambda: table, messages)
        if states is not None and prepared.panel.values.numel() >= self._cache.least:
            key = key or self._key_of_files()
            key = key if self._request.states() == states else None  # else a file has changed since it was read
        if key is not None:
            self._cache.keep(key, prepared)
        return prepared, tables

    def _made(self, load: Callable[[], pd.DataFrame], messages: list[tuple[str, str]]) -> tuple[Prepared, Tables]:
        with recorded() as more:
            tables = Tables.of(load(), self._recipe, self._targets)
        return Prepared.of(tables, [*messages, *more]), tables

    def _key_of_files(self) -> str | None:
        assert self._cache is not None
        try:
            return panel_key(self._request.key(self._cache.digest), self._recipe, self._targets)
        except Exception:  # whatever is wrong with the files or the recipe, the plain way says it
            return None

    def _name_in_process(self) -> str | None:
        """What is equal for two data modules of this process that read the same files, or the same other source."""
        if _kept is None:
            return None
        try:
            request = pickle.dumps((self._request, self._request.states()))
        except Exception:  # a source may hold what cannot be pickled
            return None
        return digest_of([request.hex(), self._recipe.to_plain(), self._recipe.digest_of_tables()])
