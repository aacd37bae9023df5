"""What to do about a word that nobody knows: the last part of an error's line."""

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
    found = difflib.get_close_matches(str(word), list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""


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
