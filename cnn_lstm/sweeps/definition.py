"""What a sweep's YAML file says: space, sampler, pruner and objectives."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.sweeps.objectives import Objective, read_objectives, require_comparable
from cnn_lstm.sweeps.samplers import make_pruner, make_sampler
from cnn_lstm.sweeps.space import Draw, Space
from cnn_lstm.sweeps.space_reader import read_space

SECTIONS = ("sampler", "pruner", "objectives", "space")


@dataclass(frozen=True)
class Definition:
    """A sweep, as its file describes it.

    Attributes:
        space: What is searched.
        objectives: What trials are judged by.
        sampler: Short name and arguments; None for the default.
        pruner: Short name and arguments; None for the default.
        where: The file, for errors.

    Example:
        >>> definition = Definition.from_plain({"space": {"data.window": {"int": [20, 60]}}})
        >>> definition.objectives[0].metric, sorted(definition.space.keys)
        ('val_loss', ['data.window'])
    """

    space: Space
    objectives: tuple[Objective, ...]
    sampler: Any = None
    pruner: Any = None
    where: str = "sweep"

    @classmethod
    def from_plain(cls, tree: Any, where: str = "sweep") -> Definition:
        """Reads the plain values of a file, and refuses what Optuna would refuse later.

        Args:
            tree: Plain values, as YAML gives them.
            where: Name of the file, for errors.

        Raises:
            ConfigError: In one line that names file and key.
        """
        if not isinstance(tree, Mapping):
            raise ConfigError("the file does not describe a sweep", where, f"give {', '.join(SECTIONS)}", code=250)
        for key in tree:
            if key not in SECTIONS:
                raise ConfigError(f"unknown key {str(key)!r}", where, one_of(key, SECTIONS), code=250)
        space = read_space(tree.get("space"), f"{where}: space")
        objectives = read_objectives(tree.get("objectives"), f"{where}: objectives")
        require_comparable(space, objectives, f"{where}: objectives")
        definition = cls(space, objectives, tree.get("sampler"), tree.get("pruner"), where)
        definition.make_sampler(None)
        definition.make_pruner()
        return definition

    def make_sampler(self, seed: int | None) -> optuna.samplers.BaseSampler:
        """The sampler of one trial.

        Args:
            seed: Its seed.
        """
        return make_sampler(self.sampler, self.space, seed, f"{self.where}: sampler")

    def make_pruner(self) -> optuna.pruners.BasePruner:
        """The pruner."""
        return make_pruner(self.pruner, self.objectives, f"{self.where}: pruner")

    def first(self, tree: Mapping[str, Any]) -> dict[str, Draw]:
        """Draws of the first trial, which are those of the user's configuration; empty for a grid, which has an order.

        Args:
            tree: Plain values of the configuration.
        """
        return {} if self.is_grid else self.space.drawn(tree)

    @property
    def combinations(self) -> int | None:
        """How many trials a grid has; None for samplers without an end."""
        return math.prod(map(len, self.space.grid().values())) if self.is_grid else None

    @property
    def is_grid(self) -> bool:
        """Whether each combination is tried once."""
        return self.sampler is not None and self.sampler["name"] == "grid"

    @property
    def directions(self) -> list[str]:
        """`minimize` or `maximize` of each objective."""
        return [objective.direction for objective in self.objectives]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of space and objectives; studies with equal ones can be shared, whatever samples and prunes them."""
        objectives = [[objective.metric, objective.direction] for objective in self.objectives]
        return hashlib.sha256(json.dumps([self.space.fingerprint, objectives]).encode()).hexdigest()
