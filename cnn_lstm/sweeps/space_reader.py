"""Reads the search space of a YAML file; an error says in one line what is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.runs.config_files import ENDINGS
from cnn_lstm.specs import plain
from cnn_lstm.sweeps.space import Choices, Domain, Draw, Numbers, Parameter, Space

KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
KINDS = ("int", "float", "categorical", "choose")
MODIFIERS = {"int": ("log", "step"), "float": ("log", "step"), "categorical": (), "choose": ()}
# key or section -> why no trial may have its own
FIXED = {
    **dict.fromkeys(("config", "ckpt_path", "run_dir", "runs_dir"), "each trial gets its own"),
    "seed_everything": "the luckiest seed is not a better model; --refit shows the spread of seeds",
    **dict.fromkeys(
        ("data.source", "data.symbols", "data.start", "data.end", "data.targets", "data.split"),
        "trials that are validated on other rows or targets cannot be compared",
    ),
    **dict.fromkeys(("checkpoint", "evaluation"), "it decides how trials are judged, not how they are trained"),
}


def read_space(tree: Any, where: str = "space", fixed: Mapping[str, str] = FIXED) -> Space:
    """The space that a YAML section describes.

    Args:
        tree: Plain values of the section.
        where: What errors name, such as `space.yaml: space`.
        fixed: Keys that no trial may have of its own, and why.

    Raises:
        ConfigError: Naming the parameter, and the nearest name where one is misspelt.

    Example:
        >>> space = read_space({
        ...     "data.window": {"int": [20, 60]},
        ...     "cnn": {"choose": {"small": {"model.network.channels": [8], "model.network.kernel_sizes": [3]}}},
        ... })
        >>> sorted(space.keys)
        ['data.window', 'model.network.channels', 'model.network.kernel_sizes']
    """
    if not isinstance(tree, Mapping) or not tree:
        raise ConfigError("no search space", where, "give keys of the configuration and their values", code=250)
    parameters = {str(name): _parameter(str(name), section, where, fixed) for name, section in tree.items()}
    _check_each_key_once(list(parameters.values()), where)
    complete = [
        replace(each, condition=dict(_condition(each.condition, parameters, f"{where}.{name}.if")))
        for name, each in parameters.items()
    ]
    return Space(_in_order(complete, where))


def _parameter(name: str, section: Any, where: str, fixed: Mapping[str, str]) -> Parameter:
    """A parameter, its condition still as the file has it."""
    place = f"{where}.{name}"
    if not isinstance(section, Mapping):
        raise ConfigError("no domain", place, f"write for example {{int: [1, 3]}}; {one_of('', KINDS)}", code=250)
    kinds = [kind for kind in KINDS if kind in section]
    known = ("if", *(MODIFIERS[kinds[0]] if kinds else ()), *KINDS)
    for key in section:
        if key not in known:
            raise ConfigError(f"unknown key {str(key)!r}", place, one_of(key, known), code=250)
    if len(kinds) != 1:
        raise ConfigError(f"{len(kinds)} domains", place, f"give one of {', '.join(KINDS)}", code=250)
    kind = kinds[0]
    try:
        content = plain(section[kind])
    except TypeError as error:
        raise ConfigError("a value is not plain", f"{place}.{kind}", "quote dates and the like", code=251) from error
    if kind == "choose":
        domain: Domain = _choose(content, f"{place}.{kind}", fixed)
    else:
        _check_key(name, place, fixed)
        domain = _categorical(name, content, place) if kind == "categorical" else _numbers(kind, section, place)
    return Parameter(name, domain, section.get("if", {}))


def _check_key(key: str, place: str, fixed: Mapping[str, str]) -> None:
    if not KEY.fullmatch(key):
        raise ConfigError(f"{key!r} is not a key of a configuration", place, "write for example data.window", code=251)
    for other, reason in fixed.items():
        if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
            raise ConfigError(f"{key} cannot be searched", place, reason, code=254)


def _numbers(kind: str, section: Mapping[str, Any], place: str) -> Numbers:
    whole = kind == "int"
    low, high = _bounds(section[kind], whole, f"{place}.{kind}")
    log, step = section.get("log", False), section.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"log={log!r}", place, "give true or false", code=251)
    if log and step is not None:
        raise ConfigError("log and step", place, "give one of them", code=251)
    if log and low <= 0:
        raise ConfigError(f"from {low} on the logarithmic scale", place, "begin above 0", code=251)
    if step is not None:
        _check_step(step, low, high, whole, place)
    return Numbers(low, high, whole, log, step)


def _bounds(bounds: Any, whole: bool, place: str) -> tuple[float, float]:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2 or not all(_is_number(end, whole) for end in bounds):
        kind = "whole numbers" if whole else "finite numbers"
        raise ConfigError(f"{bounds!r} are not bounds", place, f"give two {kind}: [low, high]", code=251)
    low, high = bounds if whole else map(float, bounds)
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
        raise ConfigError(f"steps of {step} from {low} do not end at {high}", place, f"end at {nearest}", code=251)


def _categorical(name: str, values: Any, place: str) -> Choices:
    if not isinstance(values, list) or not values:
        raise ConfigError("no choices", f"{place}.categorical", "give a list of values", code=251)
    choices: dict[Draw, dict[str, Any]] = {}
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"the choice {value}", place, "give finite numbers", code=251)
        draw = _draw_of(value)
        if draw in choices:  # true and 1 are equal too, in Python and to Optuna
            raise ConfigError(f"the choice {value!r} is listed twice", place, "leave one out", code=251)
        _refuse_file(name, value, place)
        choices[draw] = {name: value}
    return Choices(choices)


def _draw_of(value: Any) -> Draw:
    """What Optuna stores of a choice."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _choose(options: Any, place: str, fixed: Mapping[str, str]) -> Choices:
    if not isinstance(options, dict) or not options:
        raise ConfigError("no options", place, "give names, and what each of them sets", code=251)
    for name, settings in options.items():
        if not isinstance(settings, dict):
            fix = "give keys of the configuration and values"
            raise ConfigError("the option sets nothing", f"{place}.{name}", fix, code=251)
        for key, value in settings.items():
            _check_key(key, f"{place}.{name}", fixed)
            _refuse_file(key, value, f"{place}.{name}")
    return Choices(options)


def _refuse_file(key: str, value: Any, place: str) -> None:
    """Refuses the name of a file in place of a section: on the command line a user may give any, here nobody may."""
    if "." not in key and isinstance(value, str) and value.lower().endswith(ENDINGS):
        raise ConfigError(f"{key}={value} is a file", place, "write the keys and values that are searched", code=251)


def _check_each_key_once(parameters: Sequence[Parameter], where: str) -> None:
    owner: dict[str, str] = {}
    for parameter in parameters:
        for key in sorted(parameter.keys):
            if key in owner:
                places = f"{where}.{owner[key]} and {where}.{parameter.name}"
                raise ConfigError(f"{key} is set twice", places, "leave one out", code=251)
            owner[key] = parameter.name


# -- conditions ------------------------------------------------------------------------------------------------------


def _condition(section: Any, parameters: Mapping[str, Parameter], place: str) -> Iterator[tuple[str, tuple[Draw, ...]]]:
    if not isinstance(section, Mapping):
        raise ConfigError("no condition", place, "write {other.key: value} or {other.key: [values]}", code=252)
    for other, values in section.items():
        if other not in parameters:
            fix = one_of(other, list(parameters))
            raise ConfigError(f"{other} is not a parameter of the space", place, fix, code=252)
        domain = parameters[other].domain
        if isinstance(domain, Numbers) and not domain.whole:
            raise ConfigError(f"{other} is drawn from a range", place, "name an int, categorical or choose", code=252)
        # one value, or a list of them; a choice may be a list itself
        listed = values if isinstance(values, list) and not domain.admits(_draw_of(values)) else [values]
        draws = tuple(map(_draw_of, listed))
        never = [draw for draw in draws if not domain.admits(draw)]
        if never or not draws:
            what = ", ".join(map(str, never)) or "one of no values"
            raise ConfigError(f"{other} is never {what}", place, "give values that it can have", code=252)
        yield str(other), draws


def _in_order(parameters: Sequence[Parameter], where: str) -> list[Parameter]:
    """Parameters after those that their conditions name, else in the order of the file."""
    ordered: list[Parameter] = []
    waiting = list(parameters)
    while waiting:
        names = {parameter.name for parameter in ordered}
        ready = next((parameter for parameter in waiting if set(parameter.condition) <= names), None)
        if ready is None:
            circle = ", ".join(parameter.name for parameter in waiting)
            raise ConfigError("conditions go in a circle", f"{where}: {circle}", "take one of them out", code=252)
        ordered.append(ready)
        waiting.remove(ready)
    return ordered
