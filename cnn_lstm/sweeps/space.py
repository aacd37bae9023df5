"""The search space of a sweep: parameters that Optuna draws, and the settings of `fit` that each draw makes.

A parameter is named by the key of the configuration that it sets, or by a name of its own where it chooses among
several settings at once. Words: a *draw* is what Optuna stores of a parameter, and a *setting* is a key of the
configuration with its value. They differ for choices that are lists, which a database cannot hold: their draw is their
JSON text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

import optuna

from cnn_lstm.errors import ConfigError
from cnn_lstm.specs import plain

Draw = None | bool | int | float | str


def value_at(tree: Any, key: str) -> Any:
    """Value of a configuration at a key, which may leave out `init_args` as on the command line; None if absent.

    Example:
        >>> value_at({"model": {"network": {"class_path": "x", "init_args": {"norm": "layer"}}}}, "model.network.norm")
        'layer'
    """
    for part in key.split("."):
        if isinstance(tree, Mapping) and part not in tree:
            tree = tree.get("init_args")
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def options_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of `fit`; those of a section come before those of its parts.

    Args:
        settings: Plain values by keys of the configuration.

    Example:
        >>> options_of({"data.window": 20, "data.scaling": "robust", "data.features": ["rsi_14"]})
        ['--data.window=20', '--data.scaling=robust', '--data.features=["rsi_14"]']
    """
    ordered = sorted(settings.items(), key=lambda setting: setting[0].count("."))
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in ordered]


# -- one parameter ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """Numbers between two bounds, both of them included.

    Attributes:
        low: The smallest.
        high: The largest.
        whole: Whole numbers only.
        log: Drawn evenly on the logarithmic scale.
        step: Distance between neighbours; None for 1, or for any number in between.
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
        """The number under the parameter's own key."""
        return {name: draw}

    def drawn(self, name: str, tree: Mapping[str, Any]) -> dict[str, Draw]:
        """The draw that sets what a configuration says; empty if it cannot be drawn."""
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
        """All numbers; None if they cannot be counted."""
        if not self.whole and self.step is None:
            return None
        low, step = Decimal(str(self.low)), Decimal(str(self.step or 1))
        count = int((Decimal(str(self.high)) - low) / step) + 1
        return [(int if self.whole else float)(low + number * step) for number in range(count)]


@dataclass(frozen=True)
class Choices:
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
        """The choice that sets what a configuration says; empty without such a choice."""
        for draw, settings in self.of.items():
            if all(value_at(tree, key) == value for key, value in settings.items()):
                return {name: draw}
        return {}

    def admits(self, draw: Draw) -> bool:
        """Whether it is one of the choices."""
        return draw in self.of

    def examples(self) -> list[Draw]:
        """All choices."""
        return list(self.of)

    grid = examples


Domain = Numbers | Choices


@dataclass(frozen=True)
class Parameter:
    """One parameter of the space.

    Attributes:
        name: Name in Optuna: a key of the configuration, or a name of its own.
        domain: What can be drawn.
        condition: Draws of other parameters with which it exists; empty for always.
    """

    name: str
    domain: Domain
    condition: Mapping[str, Sequence[Draw]] = field(default_factory=dict)

    def exists(self, draws: Mapping[str, Draw]) -> bool:
        """Whether it exists together with these draws."""
        return all(other in draws and draws[other] in admitted for other, admitted in self.condition.items())

    @property
    def keys(self) -> set[str]:
        """Keys of the configuration that it can set."""
        if isinstance(self.domain, Numbers):
            return {self.name}
        return {key for settings in self.domain.of.values() for key in settings}

    def content(self) -> list[Any]:
        """What can be drawn and set, as plain values for a fingerprint."""
        condition = {name: list(draws) for name, draws in self.condition.items()}
        if isinstance(self.domain, Numbers):
            return [self.name, asdict(self.domain), condition]
        # the order of choices matters to Optuna, and JSON sorts keys
        return [self.name, [[draw, dict(settings)] for draw, settings in self.domain.of.items()], condition]


# -- all of them -----------------------------------------------------------------------------------------------------


class Space:
    """What a sweep searches; `space_reader.read_space` makes one of a YAML section.

    Args:
        parameters: The parameters; each comes after those that its condition names.

    Example:
        >>> rate = Parameter("model.optimizer.lr", Numbers(1e-5, 1e-2, whole=False, log=True))
        >>> small = {"model.network.channels": [8], "model.network.kernel_sizes": [3]}
        >>> space = Space([rate, Parameter("cnn", Choices({"small": small}))])
        >>> space.settings({"model.optimizer.lr": 0.001, "cnn": "small"})
        {'model.optimizer.lr': 0.001, 'model.network.channels': [8], 'model.network.kernel_sizes': [3]}
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)

    # -- values --------------------------------------------------------------------------------------------------

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Settings for a trial.

        Args:
            trial: A trial of Optuna, which draws the values and stores them.

        Returns:
            Plain values by keys of the configuration.
        """
        draws: dict[str, Draw] = {}
        for parameter in self.parameters:
            if parameter.exists(draws):
                draws[parameter.name] = parameter.domain.draw(trial, parameter.name)
        return self.settings(draws)

    def settings(self, draws: Mapping[str, Draw]) -> dict[str, Any]:
        """Settings of draws that are known already, such as `study.best_trial.params`.

        Args:
            draws: What Optuna stored of the parameters.
        """
        settings: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in draws and parameter.exists(draws):
                settings |= parameter.domain.settings(parameter.name, draws[parameter.name])
        return plain(settings)  # type: ignore[no-any-return]  # `plain` of a dictionary is one

    def drawn(self, tree: Mapping[str, Any]) -> dict[str, Draw]:
        """Draws that set what a configuration says already; parameters that cannot draw it are left out.

        Args:
            tree: Plain values of the configuration.

        Example:
            >>> scaling = Parameter("data.scaling", Choices({"robust": {"data.scaling": "robust"}}))
            >>> space = Space([Parameter("data.window", Numbers(20, 60, whole=True)), scaling])
            >>> space.drawn({"data": {"window": 30, "scaling": "standard"}})
            {'data.window': 30}
        """
        draws: dict[str, Draw] = {}
        for parameter in self.parameters:
            if parameter.exists(draws):
                draws |= parameter.domain.drawn(parameter.name, tree)
        return draws

    def examples(self) -> list[dict[str, Any]]:
        """Settings that hold every choice and both bounds of every parameter, in few dictionaries.

        A parser that accepts them all knows every key of the space, and every kind of value.

        Example:
            >>> scaling = Parameter("data.scaling", Choices({"robust": {"data.scaling": "robust"}}))
            >>> Space([Parameter("data.window", Numbers(20, 60, whole=True)), scaling]).examples()
            [{'data.window': 20, 'data.scaling': 'robust'}, {'data.window': 60}]
        """
        packs: list[dict[str, Draw]] = []
        for parameter in self.parameters:
            for draw in parameter.domain.examples():
                wanted = {**self._required(parameter), parameter.name: draw}
                for pack in packs:
                    if all(pack.get(key, value) == value for key, value in wanted.items()):
                        pack.update(wanted)
                        break
                else:
                    packs.append(wanted)
        return [self.settings(pack) for pack in packs]

    def _required(self, parameter: Parameter) -> dict[str, Draw]:
        """Draws of other parameters with which a parameter exists."""
        draws: dict[str, Draw] = {}
        for other in self.parameters:
            if other.name in parameter.condition:
                draws |= self._required(other) | {other.name: parameter.condition[other.name][0]}
        return draws

    # -- about it ------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> set[str]:
        """Keys of the configuration that a trial may set."""
        return {key for parameter in self.parameters for key in parameter.keys}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what can be drawn and set; comments and the order of parameters and keys do not matter."""
        contents = sorted((parameter.content() for parameter in self.parameters), key=lambda content: str(content[0]))
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()

    def grid(self) -> dict[str, list[Draw]]:
        """All draws of each parameter.

        Raises:
            ConfigError: If a parameter has endlessly many.
        """
        grid: dict[str, list[Draw]] = {}
        for parameter in self.parameters:
            values = parameter.domain.grid()
            if values is None:
                what = f"space.{parameter.name} has no grid"
                raise ConfigError(what, "sampler: grid", "give it a step, or a categorical", code=253)
            grid[parameter.name] = values
        return grid
