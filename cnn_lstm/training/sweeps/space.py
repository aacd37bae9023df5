"""The search space of a sweep: entries of a YAML file that Optuna draws values for, as settings of `fit`.

An entry is named by the key of the configuration that it sets, or by a name of its own where it chooses among several
settings at once. Words: a *draw* is what Optuna stores of an entry, and a *setting* is a key of the configuration with
its value. They differ for choices that are lists, which a database cannot hold: their draw is their JSON text.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnn_lstm.errors import ConfigError
from cnn_lstm.specs import plain

if TYPE_CHECKING:
    import optuna

Draw = None | bool | int | float | str
KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
KINDS = ("int", "float", "categorical", "choose")
MODIFIERS = {"int": ("log", "step"), "float": ("log", "step"), "categorical": (), "choose": ()}
# key or section -> why no trial may have its own
FIXED = {
    **dict.fromkeys(("config", "ckpt_path", "run_dir", "runs_dir"), "each trial gets its own"),
    "seed_everything": "the luckiest seed is no better model; --refit shows the spread of seeds",
    **dict.fromkeys(
        ("data.source", "data.symbols", "data.start", "data.end", "data.targets", "data.split"),
        "trials that are validated on other rows or targets cannot be compared",
    ),
    **dict.fromkeys(("checkpoint", "evaluation"), "it decides how trials are judged, not how they are trained"),
}


def hint(word: object, known: Collection[str]) -> str:
    """What to write in place of a word that is not known: the nearest name, else all of them.

    Example:
        >>> hint("medain", ["median", "none"]), hint("x", ["median", "none"])
        ('did you mean median?', 'one of median, none')
    """
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"


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
        if not isinstance(tree, Mapping) or not tree:
            raise ConfigError("no search space", where, "give keys of the configuration and their values", code=250)
        entries = [_entry(str(name), given, where) for name, given in tree.items()]
        _check_each_key_once(entries, where)
        return cls(_in_order(_with_conditions(entries, where), where))

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


# -- reading ---------------------------------------------------------------------------------------------------------


def _entry(name: str, given: Any, where: str) -> Entry:
    """An entry, its condition as it was given."""
    place = f"{where}.{name}"
    if not isinstance(given, Mapping):
        raise ConfigError("no domain", place, f"write for example {{int: [1, 3]}}; {hint('', KINDS)}", code=250)
    kinds = [kind for kind in KINDS if kind in given]
    known = ("if", *(MODIFIERS[kinds[0]] if kinds else ()), *KINDS)
    for word in given:
        if word not in known:
            raise ConfigError(f"unknown key {str(word)!r}", place, hint(word, known), code=250)
    if len(kinds) != 1:
        raise ConfigError(f"{len(kinds)} domains", place, f"give one of {', '.join(KINDS)}", code=250)
    kind = kinds[0]
    try:
        content = plain(given[kind])
    except TypeError as error:
        raise ConfigError("a value is not plain", f"{place}.{kind}", "quote dates and the like", code=251) from error
    if kind == "choose":
        domain: Domain = _choose(content, f"{place}.{kind}")
    else:
        _check_key(name, place)
        domain = _categorical(name, content, place) if kind == "categorical" else _numbers(kind, given, place)
    return Entry(name, domain, given.get("if", {}))


def _check_key(key: str, place: str) -> None:
    if not KEY.fullmatch(key):
        raise ConfigError(f"{key!r} is no key of a configuration", place, "write for example data.window", code=251)
    for fixed, reason in FIXED.items():
        if f"{key}.".startswith(f"{fixed}.") or f"{fixed}.".startswith(f"{key}."):
            raise ConfigError(f"{key} cannot be searched", place, reason, code=254)


def _numbers(kind: str, given: Mapping[str, Any], place: str) -> Numbers:
    whole = kind == "int"
    low, high = _bounds(given[kind], whole, f"{place}.{kind}")
    log, step = given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"log={log!r}", place, "give true or false", code=251)
    if log and step is not None:
        raise ConfigError("log and step", place, "give one of them", code=251)
    if log and low <= 0:
        raise ConfigError(f"from {low} on the logarithmic scale", place, "begin above 0", code=251)
    if step is not None:
        _check_step(step, low, high, whole, place)
    return Numbers(low, high, whole, log, step)


def _bounds(given: Any, whole: bool, place: str) -> tuple[float, float]:
    if not isinstance(given, list | tuple) or len(given) != 2 or not all(_is_number(value, whole) for value in given):
        what = "whole numbers" if whole else "finite numbers"
        raise ConfigError(f"{given!r} are no bounds", place, f"give two {what}: [low, high]", code=251)
    low, high = given if whole else map(float, given)
    if low > high:
        raise ConfigError(f"from {low} to {high}", place, "give the smaller bound first", code=251)
    return low, high


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) if whole else isinstance(value, int | float) and math.isfinite(value)


def _check_step(step: Any, low: float, high: float, whole: bool, place: str) -> None:
    if not _is_number(step, whole) or step <= 0:
        raise ConfigError(f"step={step!r}", place, f"give a {'whole ' if whole else ''}number above 0", code=251)
    exact_low, exact_step = Decimal(str(low)), Decimal(str(step))
    count, rest = divmod(Decimal(str(high)) - exact_low, exact_step)
    if rest:
        nearest = exact_low + count * exact_step
        raise ConfigError(f"no step of {step} from {low} ends at {high}", place, f"end at {nearest}", code=251)


def _categorical(name: str, given: Any, place: str) -> Options:
    if not isinstance(given, list) or not given:
        raise ConfigError("no choices", f"{place}.categorical", "give a list of values", code=251)
    found: dict[Draw, dict[str, Any]] = {}
    for value in given:
        draw = _draw_of(value, place)
        if draw in found:  # true and 1 are equal too, in Python and to Optuna
            raise ConfigError(f"the choice {value!r} stands twice", place, "leave one out", code=251)
        found[draw] = {name: value}
    return Options(found)


def _draw_of(value: Any, place: str) -> Draw:
    """What Optuna stores of a choice."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"the choice {value}", place, "give finite numbers", code=251)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _choose(given: Any, place: str) -> Options:
    if not isinstance(given, dict) or not given:
        raise ConfigError("no options", place, "give names, and what each of them sets", code=251)
    for name, settings in given.items():
        if not isinstance(settings, dict):
            raise ConfigError(
                "the option sets nothing", f"{place}.{name}", "give keys of the configuration and values", code=251
            )
        for key in settings:
            _check_key(key, f"{place}.{name}")
    return Options(given)


def _check_each_key_once(entries: Sequence[Entry], where: str) -> None:
    owner: dict[str, str] = {}
    for entry in entries:
        for key in sorted(entry.keys):
            if key in owner:
                raise ConfigError(
                    f"{key} is set twice", f"{where}.{owner[key]} and {where}.{entry.name}", "leave one out", code=251
                )
            owner[key] = entry.name


# -- conditions ------------------------------------------------------------------------------------------------------


def _with_conditions(entries: Sequence[Entry], where: str) -> list[Entry]:
    by_name = {entry.name: entry for entry in entries}
    return [
        Entry(entry.name, entry.domain, dict(_condition(entry.condition, by_name, f"{where}.{entry.name}.if")))
        for entry in entries
    ]


def _condition(given: Any, entries: Mapping[str, Entry], place: str) -> Iterator[tuple[str, tuple[Draw, ...]]]:
    if not isinstance(given, Mapping):
        raise ConfigError("no condition", place, "write {other.key: value} or {other.key: [values]}", code=252)
    for other, values in given.items():
        if other not in entries:
            raise ConfigError(f"{other} is no entry of the space", place, hint(other, list(entries)), code=252)
        domain = entries[other].domain
        if isinstance(domain, Numbers) and not domain.whole:
            raise ConfigError(f"{other} is drawn from a range", place, "name an int, categorical or choose", code=252)
        draws = _admitted(values, domain)
        never = [draw for draw in draws if not domain.admits(draw)]
        if never or not draws:
            raise ConfigError(f"{other} is never {_shown(never)}", place, "give values that it can have", code=252)
        yield str(other), draws


def _admitted(values: Any, domain: Domain) -> tuple[Draw, ...]:
    """Draws that a condition names: one value, or a list of them; a choice may be a list itself."""
    whole = json.dumps(values) if isinstance(values, list | dict) else values
    if not isinstance(values, list) or domain.admits(whole):
        return (whole,)
    return tuple(json.dumps(value) if isinstance(value, list | dict) else value for value in values)


def _shown(draws: Sequence[Draw]) -> str:
    return ", ".join(map(str, draws)) or "one of no values"


def _in_order(entries: Sequence[Entry], where: str) -> list[Entry]:
    """Entries behind those that their conditions name, else as they came."""
    ordered: list[Entry] = []
    waiting = list(entries)
    while waiting:
        names = {entry.name for entry in ordered}
        ready = next((entry for entry in waiting if set(entry.condition) <= names), None)
        if ready is None:
            circle = ", ".join(entry.name for entry in waiting)
            raise ConfigError("conditions go in a circle", f"{where}: {circle}", "take one of them out", code=252)
        ordered.append(ready)
        waiting.remove(ready)
    return ordered
