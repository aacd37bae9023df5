"""Trees of plain values, as YAML and checkpoints hold them: their leaves by dotted key, and how two trees differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def flattened(tree: Mapping[str, Any], into: Callable[[Any], bool] = lambda items: False) -> dict[str, Any]:
    """The leaves of nested mappings by dotted key; an empty mapping is a leaf.

    Args:
        tree: The mappings.
        into: Whether to look into a list, whose positions become part of the key; it stays a leaf by default.

    Example:
        >>> flattened({"data": {"window": 60, "targets": [{"horizon": 5}]}})
        {'data.window': 60, 'data.targets': [{'horizon': 5}]}
        >>> flattened({"data": {"window": 60, "targets": [{"horizon": 5}]}}, into=bool)
        {'data.window': 60, 'data.targets.0.horizon': 5}
    """
    return dict(_leaves("", tree, into))


def _leaves(prefix: str, value: Any, into: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    children: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        children = list(value.items())
    elif isinstance(value, list | tuple) and into(value):
        children = list(enumerate(value))
    for key, child in children:
        yield from _leaves(f"{prefix}.{key}" if prefix else str(key), child, into)
    if not children and prefix:
        yield prefix, value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Each key whose value is not the same, with both values, sorted by key.

    Args:
        before: Values by key.
        after: Values by key.

    Example:
        >>> differences({"window": 60, "lr": 0.1}, {"window": 30, "lr": 0.1, "seed": 7})
        ['seed: None -> 7', 'window: 60 -> 30']
    """
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
