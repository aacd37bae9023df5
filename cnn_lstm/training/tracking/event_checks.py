"""Whether the fields of a journal's line are those of its kind: the line may be damaged, or a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cnn_lstm.training.tracking.events import CHALLENGER, CHAMPION, KINDS, Content

LARGEST = 2**53  # what JSON keeps exactly; as milliseconds since 1970 a far future


def event_of(line: Any) -> tuple[int, Content]:
    """Time and content of an event.

    Args:
        line: A line of a journal, as JSON gives it.

    Raises:
        ValueError: If it is not an event, in any way.

    Example:
        >>> event_of({"kind": "end", "at": 5, "status": "KILLED"})
        (5, End(status='KILLED'))
    """
    if not isinstance(line, dict) or not _is_count(line.get("at")):
        raise ValueError("not an event")
    fields = {name: value for name, value in line.items() if name not in ("kind", "at")}
    kind, checks = str(line.get("kind")), CHECKS.get(str(line.get("kind")))
    if checks is None or not set(fields) <= set(checks):
        raise ValueError("an unknown kind of event, or an unknown field")
    if not all(checks[name](value) for name, value in fields.items()):
        raise ValueError("a field of another type")
    try:
        return line["at"], KINDS[kind](**fields)
    except TypeError as error:  # a field is missing
        raise ValueError(str(error)) from error


def _is_count(value: object) -> bool:
    return type(value) is int and -LARGEST <= value <= LARGEST


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_text_or_none(value: object) -> bool:
    return value is None or _is_text(value)


def _is_number(value: object) -> bool:
    return type(value) is float or _is_count(value)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool) or _is_text(value) or _is_number(value)


def _has(needed: Mapping[str, Callable[[object], bool]]) -> Callable[[object], bool]:
    """A check of a mapping with these keys."""
    return lambda value: (
        isinstance(value, dict) and set(needed) <= set(value) and all(needed[name](value[name]) for name in needed)
    )


def _by_name(of: Callable[[object], bool]) -> Callable[[object], bool]:
    """A check of a mapping from names to values."""
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _list_of(of: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


_PARENT = _has({"uid": _is_text, "name": _is_text})
_DATES = ("first", "last", "train_from", "validation_from", "test_from", "sha256")
_PROFILE = _has({"rows": _is_count, "symbols": _list_of(_is_text), "windows": _by_name(_is_count)})
_PROFILE_TEXTS = _has(dict.fromkeys(_DATES, _is_text))
CHECKS: dict[str, dict[str, Callable[[object], bool]]] = {
    "start": {
        "uid": _is_text,
        "name": _is_text,
        "experiment": _is_text,
        "tags": _by_name(_is_plain),
        "parent": lambda value: value is None or _PARENT(value),
        "uri": _is_text_or_none,
    },
    "resume": {},
    "end": {"status": lambda value: value in ("FINISHED", "FAILED", "KILLED")},
    "params": {"values": _by_name(_is_plain)},
    "tags": {"values": _by_name(_is_plain)},
    "metrics": {"step": _is_count, "values": _by_name(_is_number)},
    "dataset": {
        "name": _is_text,
        "source_type": _is_text,
        "source": lambda value: isinstance(value, dict),
        "schema": _list_of(_by_name(_is_text)),
        "profile": lambda value: _PROFILE(value) and _PROFILE_TEXTS(value),
    },
    "artifact": {"file": _is_text, "sha256": _is_text_or_none},
    "model": {
        "folder": _is_text,
        "digest": _is_text,
        "step": _is_count,
        "register": _is_text_or_none,
        "alias": lambda value: value in (CHALLENGER, CHAMPION),
    },
}
