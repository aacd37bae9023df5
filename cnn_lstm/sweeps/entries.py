"""The entries of a search space: what Optuna can draw for each, and what the draw sets.

Words: a *draw* is what Optuna stores of an entry, and a *setting* is a key of the configuration with its value. They
differ for choices that are lists, which a database cannot hold: their draw is their JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

Draw = None | bool | int | float | str


def value_at(tree: Any, key: str) -> Any:
    """Value of a configuration at a key, which may leave out `init_args` as on the command line; null without one.

    Example:
        >>> value_at({"model": {"network": {"class_path": "x", "init_args": {"norm": "layer"}}}}, "model.network.norm")
        'layer'
    """
    for part in key.split("."):
        if isinstance(tree, Mapping) and part not in tree:
            tree = tree.get("init_args")
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


@dataclass(frozen=True)
class Numbers:
    """Numbers between two bounds, both of them included.

    Attributes:
        low: The smallest.
        high: The largest.
        whole: Whole numbers only.
        log: Drawn evenly on the logarithmic scale.
        step: Distance between neighbours; null for 1, or for any number in between.
    """

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    def draw(self, trial: optuna.trial.BaseTrial, name: str) -> Draw:
        """A number from Optuna."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def settings(self, name: str, draw: Draw) -> dict[str, Any]:
        """The number under the entry's own key."""
        return {name: draw}

    def drawn(self, name: str, tree: Mapping[str, Any]) -> dict[str, Draw]:
        """The draw that sets what a configuration says; none where it cannot be drawn."""
        value = value_at(tree, name)
        if not self.admits(value) or (self.whole and value != int(value)):
            return {}
        return {name: int(value) if self.whole else float(value)}

    def admits(self, draw: Draw) -> bool:
        """Whether it can be drawn."""
        if isinstance(draw, bool) or not isinstance(draw, int | float) or not self.low <= draw <= self.high:
            return False
        return self.step is None or (Decimal(str(draw)) - Decimal(str(self.low))) % Decimal(str(self.step)) == 0

    def examples(self) -> list[Draw]:
        """Its bounds."""
        bounds = [self.low] if self.low == self.high else [self.low, self.high]
        return list(map(int if self.whole else float, bounds))

    def grid(self) -> list[Draw] | None:
        """All numbers; null where they cannot be counted."""
        if not self.whole and self.step is None:
            return None
        low, step = Decimal(str(self.low)), Decimal(str(self.step or 1))
        count = int((Decimal(str(self.high)) - low) / step) + 1
        return [(int if self.whole else float)(low + number * step) for number in range(count)]


@dataclass(frozen=True)
class Options:
    """Choices without an order.

    Attributes:
        of: Draw of each choice, and what it sets.
    """

    of: Mapping[Draw, Mapping[str, Any]]

    def draw(self, trial: optuna.trial.BaseTrial, name: str) -> Draw:
        """A choice from Optuna."""
        return trial.suggest_categorical(name, list(self.of))

    def settings(self, name: str, draw: Draw) -> dict[str, Any]:
        """What the choice sets."""
        return dict(self.of[draw])

    def drawn(self, name: str, tree: Mapping[str, Any]) -> dict[str, Draw]:
        """The choice that sets what a configuration says; none where there is no such choice."""
        for draw, sets in self.of.items():
            if all(value_at(tree, key) == value for key, value in sets.items()):
                return {name: draw}
        return {}

    def admits(self, draw: Draw) -> bool:
        """Whether it is one of the choices."""
        return draw in self.of

    def examples(self) -> list[Draw]:
        """All choices."""
        return list(self.of)

    def grid(self) -> list[Draw]:
        """All choices."""
        return list(self.of)


Domain = Numbers | Options


@dataclass(frozen=True)
class Entry:
    """One parameter of the space.

    Attributes:
        name: Name in Optuna: a key of the configuration, or of one's own.
        domain: What can be drawn.
        condition: Draws of other entries with which it exists; empty for always.
    """

    name: str
    domain: Domain
    condition: Mapping[str, Sequence[Draw]] = field(default_factory=dict)

    def exists(self, draws: Mapping[str, Draw]) -> bool:
        """Whether it exists beside these draws."""
        return all(other in draws and draws[other] in admitted for other, admitted in self.condition.items())

    @property
    def keys(self) -> set[str]:
        """Keys of the configuration that it can set."""
        if isinstance(self.domain, Numbers):
            return {self.name}
        return {key for settings in self.domain.of.values() for key in settings}
