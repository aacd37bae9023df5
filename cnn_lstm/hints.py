"""What was probably meant by an unknown name: the last part of an error's line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: object, known: Iterable[str]) -> str:
    """The question that names the closest known word, or nothing.

    Args:
        word: What was asked for.
        known: What exists.

    Example:
        >>> nearest("clsoe", ["open", "close"])
        'did you mean close?'
    """
    matches = difflib.get_close_matches(str(word), list(known), n=1)
    return f"did you mean {matches[0]}?" if matches else ""


def nearest_key(key: str, known: Collection[str]) -> str:
    """The question that names the known dotted key that is closest, by its whole path or else by its last part.

    Args:
        key: What was asked for.
        known: Dotted keys that exist.

    Example:
        >>> nearest_key("windw", ["data.window", "trainer"]), nearest_key("x", ["data.window"])
        ('did you mean data.window?', 'see --help')
    """
    by_name = {name.rpartition(".")[2]: name for name in known}
    matches = difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1)
    return nearest(key, known) or nearest(by_name[matches[0]] if matches else "", known) or "see --help"


def one_of(word: object, known: Collection[str]) -> str:
    """The question that names the closest known word, or all of them.

    Args:
        word: What was asked for.
        known: What exists.

    Example:
        >>> one_of("medain", ["median", "none"]), one_of("x", ["median", "none"])
        ('did you mean median?', 'one of median, none')
    """
    return nearest(word, known) or f"one of {', '.join(known)}"
