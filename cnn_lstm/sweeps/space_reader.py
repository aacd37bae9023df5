"""Reads the search space of a YAML file, and says in one line what is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.specs import plain
from cnn_lstm.sweeps.entries import Domain, Draw, Entry, Numbers, Options

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


def read_entries(tree: Any, where: str) -> list[Entry]:
    """The entries that a YAML section describes, each behind those that its condition names.

    Args:
        tree: Plain values of the section.
        where: What errors name, such as `space.yaml: space`.

    Raises:
        ConfigError: Naming the entry, and the nearest name where one is misspelt.
    """
    if not isinstance(tree, Mapping) or not tree:
        raise ConfigError("no search space", where, "give keys of the configuration and their values", code=250)
    entries = [_entry(str(name), given, where) for name, given in tree.items()]
    _check_each_key_once(entries, where)
    return _in_order(_with_conditions(entries, where), where)


def _entry(name: str, given: Any, where: str) -> Entry:
    """An entry, its condition as it was given."""
    place = f"{where}.{name}"
    if not isinstance(given, Mapping):
        raise ConfigError("no domain", place, f"write for example {{int: [1, 3]}}; {one_of('', KINDS)}", code=250)
    kinds = [kind for kind in KINDS if kind in given]
    known = ("if", *(MODIFIERS[kinds[0]] if kinds else ()), *KINDS)
    for word in given:
        if word not in known:
            raise ConfigError(f"unknown key {str(word)!r}", place, one_of(word, known), code=250)
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
            raise ConfigError(f"{other} is no entry of the space", place, one_of(other, list(entries)), code=252)
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
