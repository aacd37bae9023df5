"""Whether the content of a checkpoint has the form of ours, before anything is computed with it.

The digest guards weights against damage, not against a stranger, who can compute a right one for anything.
Shapes: H targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnn_lstm.errors import CheckpointError

MAX_DEPTH = 50  # of plain values
MAX_VALUES = 300_000  # an alias counts each time: a tree of references can stand for more than memory holds
LARGEST = 2**63 - 1
LARGEST_WINDOW = 10**5
TRIED_WINDOW = 2000  # rows of the largest window that is tried
FIX = "use a checkpoint written by fit"
STATIC = "static_"  # what stands before the name of a static column among the features
AGGREGATES = ("mean", "sum", "max", "last")  # of facts that are known ahead
# numbers that divide or multiply whatever is forecast
POSITIVE = ("y_scale", "standardize.scale")
FINITE = ("y_loc", "y_scale", "standardize.loc", "standardize.anchored")  # an infinite scale mutes a feature


def require_form(checkpoint: Mapping[Any, Any], where: str) -> None:
    """Refuses a checkpoint whose values have types or sizes that none of ours has.

    Args:
        checkpoint: The content of a file.
        where: The file, for the message.

    Raises:
        CheckpointError: E419 for plain values, E420 for weights, E422 for the state of the training.
    """
    _require_plain(checkpoint.get("cnn_lstm"), where, "what it says of its data")
    _require_plain(checkpoint.get("hyper_parameters"), where, "what it says of its model")
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CheckpointError("the checkpoint holds no weights by name", where, FIX, code=420)
    for name, values in state.items():
        if why := _unusable(name, values):
            raise CheckpointError(f"the weights {name} {why}", where, FIX, code=420)
    kinds = {"epoch": int, "global_step": int, "optimizer_states": list, "lr_schedulers": list}
    kinds |= dict.fromkeys(("callbacks", "loops"), Mapping)
    for name, kind in kinds.items():
        held = checkpoint.get(name)
        if held is not None and (not isinstance(held, kind) or (isinstance(held, int) and not 0 <= held <= LARGEST)):
            raise CheckpointError(f"the state of the training is damaged: {name}", where, FIX, code=422)


def _unusable(name: str, values: object) -> str:
    """Why a tensor is not one of a checkpoint; empty if it is."""
    if (
        type(values) is not Tensor
        or values.is_complex()
        or values.layout is not torch.strided
        or values.device.type != "cpu"
    ):
        return "are not a plain tensor"
    if values.is_quantized or values.numel() * values.element_size() > values.untyped_storage().nbytes():
        return "repeat what the file holds once"
    if bool(torch.isnan(values).any()) or (name.endswith(FINITE) and not bool(torch.isfinite(values).all())):
        return "are not finite"
    return "are not above 0" if name.endswith(POSITIVE) and not bool((values > 0).all()) else ""


def _require_plain(value: object, where: str, what: str) -> None:
    count = 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise CheckpointError(f"{what} is nested too deep, or endless", where, FIX, code=419)
        if isinstance(one, Mapping):
            waiting += [(part, depth + 1) for pair in one.items() for part in pair]
        elif isinstance(one, list | tuple):
            waiting += [(part, depth + 1) for part in one]
        elif not (one is None or isinstance(one, str | bool | float) or (isinstance(one, int) and abs(one) <= LARGEST)):
            kind = "a number out of range" if isinstance(one, int) else type(one).__name__
            raise CheckpointError(f"{what} holds {kind}", where, FIX, code=419)


def require_size(build: Callable[[], nn.Module], plain: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuses a description of a model that is larger than its weights, before the model takes any memory.

    Args:
        build: Makes the model.
        plain: What it is made of.
        state: The weights of the file.

    Raises:
        CheckpointError: E423.
    """
    what = "the checkpoint describes a larger model than it has weights for"
    if any(name.endswith("layers") and isinstance(n, int) and n > len(state) for name, n in _named_numbers(plain)):
        raise CheckpointError(what, "its number of layers", FIX, code=423)
    try:
        with torch.device("meta"):
            made = sum(values.numel() for values in build().state_dict().values())
    except CheckpointError:
        raise
    except Exception:  # a class that cannot do without values; what is wrong with it, the real attempt says
        return
    held = sum(values.numel() for values in state.values())
    if made > held:
        raise CheckpointError(what, f"{made} numbers and {held}", FIX, code=423)


def _named_numbers(plain: object) -> Iterator[tuple[str, object]]:
    for name, value in plain.items() if isinstance(plain, Mapping) else ():
        yield str(name), value
        yield from _named_numbers(value)


def require_scales(scaled_symbols: Sequence[str], state: Mapping[str, Tensor]) -> None:
    """Refuses tables of scales that have other rows than symbols with a scale of their own.

    Raises:
        CheckpointError: E421.
    """
    for name, values in state.items():
        rows = len(values) - 1 if values.ndim == 2 else 0  # the last row is that of all symbols together
        if name.endswith(("y_loc", "y_scale", "standardize.loc", "standardize.scale")) and rows != len(scaled_symbols):
            what = f"{name} has scales of {rows} symbols, the contract {len(scaled_symbols)}"
            raise CheckpointError(what, fix=FIX, code=421)


def require_categories(contract: Mapping[str, Sequence[str]], features: Sequence[str], known: Tensor) -> None:
    """Refuses a model whose static columns have other categories than its contract names.

    Args:
        contract: Categories by static column.
        features: Names of the features.
        known: Position of a static column and code of a category, (K, 2), of the model.

    Raises:
        CheckpointError: E421.
    """
    places = {name: k for k, name in enumerate(features)}
    named = {places.get(f"{STATIC}{name}", -1): len(categories) for name, categories in contract.items()}
    held = {int(place): int((known[:, 0] == place).sum()) for place in known[:, 0].unique()}
    if held != named:
        what = f"the model has {sum(held.values())} categories of static columns, the contract {sum(named.values())}"
        raise CheckpointError(what, "or they stand in other columns", FIX, code=421)


def require_forward(model: nn.Module, recipe: Mapping[str, Any]) -> None:
    """Refuses a model that cannot take the windows of its recipe, by two windows of zeros.

    Args:
        model: The model, with its weights.
        recipe: The recipe of its contract.

    Raises:
        CheckpointError: E423.
    """
    rows, features = recipe.get("window"), recipe.get("features")
    if rows is None or features is None or rows > TRIED_WINDOW:
        return
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(2, rows, len(features)))
    except Exception as error:  # whatever a network may raise
        reason = " ".join(str(error).split())
        raise CheckpointError("the network does not take the windows of its recipe", reason, FIX, code=423) from error


def require_contract(values: Mapping[str, Any]) -> None:
    """Refuses the contract of a checkpoint if a part of it has another type, or its parts do not go together.

    Args:
        values: What `Contract.to_plain` wrote, or an older version did.

    Raises:
        CheckpointError: E414, naming the part.
    """
    targets = len(values["target_names"]) if isinstance(values.get("target_names"), list | tuple) else 0
    for name, holds in CONTRACT.items():
        if values.get(name) is not None and not holds(values[name], targets):
            what = f"the checkpoint is damaged, or of another program: {name}"
            raise CheckpointError(what, "its contract", "use another checkpoint of the run", code=414)


def require_recipe(recipe: Mapping[str, Any]) -> None:
    """Refuses the recipe of a checkpoint if a part has another type; `Recipe.from_plain` misses what is not there.

    Raises:
        CheckpointError: E424, naming the part.
    """
    for name, holds in RECIPE.items():
        if name in recipe and not holds(recipe[name]):
            what = f"the recipe of the checkpoint is damaged: {name}"
            raise CheckpointError(what, "its contract", "use another checkpoint of the run", code=424)


def _is_spec(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("class_path"), str)
        and isinstance(value.get("init_args"), Mapping)
        and all(isinstance(name, str) for name in value["init_args"])
    )


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) and text for text in value)


def _numbers(value: object) -> bool:
    kinds = isinstance(value, list | tuple) and all(type(number) in (int, float) for number in value)
    return kinds and all(math.isfinite(number) for number in value)  # type: ignore[attr-defined]  # a list by now


def _of_targets(holds: Callable[[object], bool]) -> Callable[[Any, int], bool]:
    """A check of a list with one entry per target, or with none."""
    return lambda value, targets: holds(value) and len(value) in (0, targets)


def _moment(value: object) -> bool:
    try:
        return isinstance(value, str) and (not value or not np.isnat(np.datetime64(value)))
    except ValueError:
        return False


def _dates(*names: str) -> Callable[[Any, int], bool]:
    """A check of moments in their order."""

    def holds(value: Any, targets: int) -> bool:
        if not isinstance(value, Mapping) or set(value) != set(names):
            return False
        moments = [value[name] for name in names]
        if not all(map(_moment, moments)):
            return False
        given = [np.datetime64(moment) for moment in moments if moment]
        return all(one <= other for one, other in pairwise(given))

    return holds


def _boundaries(value: Any, targets: int) -> bool:
    if not isinstance(value, Mapping):
        return False
    spans, names = value.get("spans"), ("train", "validation", "test")
    dates = {name: moment for name, moment in value.items() if name != "spans"}
    if not _dates(*names, "end")(dates, targets):
        return False
    if spans is None:
        return True
    if not isinstance(spans, Mapping) or set(spans) != {*names, "embargo"} or not _count(spans["embargo"]):
        return False
    return all(isinstance(spans[name], list | tuple) and all(map(_pair, spans[name])) for name in names)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _pair(value: object) -> bool:
    """Whether a value is two moments in their order."""
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(value)
    return pair and _dates("start", "stop")(dict(zip(("start", "stop"), value, strict=True)), 0)  # type: ignore[call-overload]  # a pair by now


def _calibration(value: Any, targets: int) -> bool:
    parts = {"scores", "typical_scale", "smearing", "linear_smearing"}
    if not isinstance(value, Mapping) or not {"scores", "typical_scale"} <= set(value) <= parts:
        return False
    scores = value["scores"]
    if not isinstance(scores, list | tuple) or len(scores) != targets or not all(map(_numbers, scores)):
        return False
    if any(list(column) != sorted(column) for column in scores):
        return False
    scales = [value[name] for name in parts - {"scores"} if name in value]
    sound = all(_numbers(column) and len(column) in (0, targets) for column in scales)
    return sound and len(value["typical_scale"]) == targets and all(n > 0 for column in scales for n in column)


def _text(value: Any, targets: int) -> bool:
    return isinstance(value, str)


CONTRACT: dict[str, Callable[[Any, int], bool]] = {
    "recipe": lambda value, targets: isinstance(value, Mapping),
    "source": _text,
    "symbols": lambda value, targets: _texts(value),
    "scaled_symbols": lambda value, targets: _texts(value) and len(set(value)) == len(value),
    "target_names": lambda value, targets: _texts(value) and len(value) > 0,
    "target_kinds": _of_targets(lambda value: isinstance(value, list | tuple) and all(map(_is_text, value))),
    "target_units": _of_targets(lambda value: isinstance(value, list | tuple) and all(map(_is_text, value))),
    "target_mean": lambda value, targets: _numbers(value) and len(value) == targets,
    "boundaries": _boundaries,
    "training": lambda value, targets: value == {} or _dates("first", "last")(value, targets),
    "fitted_on": lambda value, targets: value in ("", "train_and_validation"),
    "fingerprint": _text,
    "scaling": _text,
    "per_symbol": _text,
    "members": lambda value, targets: _texts(value),
    "calibration": lambda value, targets: value == {} or _calibration(value, targets),
    "static": lambda value, targets: isinstance(value, Mapping) and all(map(_categories, value.items())),
    "expires": lambda value, targets: _moment(value),
}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _categories(item: tuple[object, object]) -> bool:
    """Whether a pair is the name of a static column and its categories, each once."""
    name, known = item
    return _is_text(name) and _texts(known) and 0 < len(set(known)) == len(known)  # type: ignore[call-overload,arg-type]  # a list by now


def _ahead(value: object) -> bool:
    names = {"name", "fact", "aggregate"}
    return (
        isinstance(value, Mapping)
        and set(value) == {*names, "first", "last"}
        and all(_is_text(value[name]) and value[name] for name in names)
        and value["aggregate"] in AGGREGATES
        and all(type(value[name]) is int for name in ("first", "last"))
        and 1 <= value["first"] <= value["last"] <= LARGEST_WINDOW
    )


RECIPE: dict[str, Callable[[Any], bool]] = {
    "features": lambda value: _texts(value) and len(value) > 0,
    "targets": lambda value: isinstance(value, list | tuple) and bool(value) and all(map(_is_spec, value)),
    "window": lambda value: type(value) is int and 1 <= value <= LARGEST_WINDOW,
    "anchor": _texts,
    "checks": lambda value: isinstance(value, Mapping) and all(map(_is_text, value)),
    "zone": _is_text,
    "known_future": lambda value: isinstance(value, list | tuple) and all(map(_ahead, value)),
    "static": lambda value: _texts(value) and len(set(value)) == len(value),
    "exchange": _is_text,
}
