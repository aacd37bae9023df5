"""The search space of a sweep: entries of a YAML file that Optuna draws values for, as settings of `fit`.

An entry is named by the key of the configuration that it sets, or by a name of its own where it chooses among several
settings at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnn_lstm.errors import ConfigError
from cnn_lstm.specs import plain
from cnn_lstm.sweeps.entries import Draw, Entry, Numbers
from cnn_lstm.sweeps.space_reader import read_entries

if TYPE_CHECKING:
    import optuna


class Space:
    """What a sweep searches.

    Args:
        entries: The parameters; each behind those that its condition names.

    Example:
        >>> space = Space.from_plain({
        ...     "model.optimizer.lr": {"float": [1e-5, 1e-2], "log": True},
        ...     "cnn": {"choose": {"small": {"model.network.channels": [8], "model.network.kernel_sizes": [3]}}},
        ... })
        >>> values = space.settings({"model.optimizer.lr": 0.001, "cnn": "small"})
        >>> Space.words(values)
        ['--model.optimizer.lr=0.001', '--model.network.channels=[8]', '--model.network.kernel_sizes=[3]']
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)

    @classmethod
    def from_plain(cls, tree: Any, where: str = "space") -> Space:
        """The space that a YAML section describes.

        Args:
            tree: Its plain values.
            where: What errors name, such as `space.yaml: space`.

        Raises:
            ConfigError: Naming the entry, and the nearest name where one is misspelt.
        """
        return cls(read_entries(tree, where))

    # -- values --------------------------------------------------------------------------------------------------

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Settings for a trial.

        Args:
            trial: A trial of Optuna, which draws the values and stores them.

        Returns:
            Plain values by keys of the configuration.
        """
        draws: dict[str, Draw] = {}
        for entry in self.entries:
            if entry.exists(draws):
                draws[entry.name] = entry.domain.draw(trial, entry.name)
        return self.settings(draws)

    def settings(self, draws: Mapping[str, Draw]) -> dict[str, Any]:
        """Settings of draws that are known already, such as `study.best_trial.params`.

        Args:
            draws: What Optuna stored of the entries.
        """
        found: dict[str, Any] = {}
        for entry in self.entries:
            if entry.name in draws and entry.exists(draws):
                found |= entry.domain.settings(entry.name, draws[entry.name])
        return plain(found)  # type: ignore[no-any-return]

    def drawn(self, tree: Mapping[str, Any]) -> dict[str, Draw]:
        """Draws that set what a configuration says already, without those that it cannot have.

        Args:
            tree: Plain values of the configuration.

        Example:
            >>> tree = {"data.window": {"int": [20, 60]}, "data.scaling": {"categorical": ["robust"]}}
            >>> Space.from_plain(tree).drawn({"data": {"window": 30, "scaling": "standard"}})
            {'data.window': 30}
        """
        draws: dict[str, Draw] = {}
        for entry in self.entries:
            if entry.exists(draws):
                draws |= entry.domain.drawn(entry.name, tree)
        return draws

    @staticmethod
    def words(settings: Mapping[str, Any]) -> list[str]:
        """Settings as words of `fit`, those of a section before those of its parts.

        Args:
            settings: Plain values by keys of the configuration.

        Example:
            >>> Space.words({"data.window": 20, "data.scaling": "robust", "data.features": ["rsi_14"]})
            ['--data.window=20', '--data.scaling=robust', '--data.features=["rsi_14"]']
        """
        ordered = sorted(settings.items(), key=lambda setting: setting[0].count("."))
        return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in ordered]

    def examples(self) -> list[dict[str, Any]]:
        """Settings that hold every choice and both bounds of every entry, in few dictionaries.

        A parser that accepts them all knows every key of the space, and every kind of value.

        Example:
            >>> tree = {"data.window": {"int": [20, 60]}, "data.scaling": {"categorical": ["robust"]}}
            >>> Space.from_plain(tree).examples()
            [{'data.window': 20, 'data.scaling': 'robust'}, {'data.window': 60}]
        """
        packs: list[dict[str, Draw]] = []
        for entry in self.entries:
            for draw in entry.domain.examples():
                wanted = {**self._needed(entry), entry.name: draw}
                fitting = (pack for pack in packs if all(pack.get(name, own) == own for name, own in wanted.items()))
                pack = next(fitting, None)
                if pack is None:
                    packs.append(pack := {})
                pack.update(wanted)
        return [self.settings(pack) for pack in packs]

    def _needed(self, entry: Entry) -> dict[str, Draw]:
        """Draws of other entries with which an entry exists."""
        found: dict[str, Draw] = {}
        for other in self.entries:
            if other.name in entry.condition:
                found |= self._needed(other) | {other.name: entry.condition[other.name][0]}
        return found

    # -- about it ------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> set[str]:
        """Keys of the configuration that a trial may set."""
        return {key for entry in self.entries for key in entry.keys}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what can be drawn and set; comments and the order of entries and keys do not matter."""
        listed = sorted((_described(entry) for entry in self.entries), key=lambda described: str(described[0]))
        return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()

    def grid(self) -> dict[str, list[Draw]]:
        """All draws of each entry.

        Raises:
            ConfigError: If an entry has endlessly many.
        """
        found: dict[str, list[Draw]] = {}
        for entry in self.entries:
            values = entry.domain.grid()
            if values is None:
                raise ConfigError(
                    f"space.{entry.name} has no grid", "sampler: grid", "give it a step, or a categorical", code=253
                )
            found[entry.name] = values
        return found


def _described(entry: Entry) -> list[Any]:
    condition = {name: list(draws) for name, draws in entry.condition.items()}
    if isinstance(entry.domain, Numbers):
        return [entry.name, asdict(entry.domain), condition]
    # the order of choices matters to Optuna, and JSON sorts keys
    return [entry.name, [[draw, dict(sets)] for draw, sets in entry.domain.of.items()], condition]
