"""What was probably meant by an unknown name, and what is called differently now: the last part of an error's line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from cnn_lstm.errors import ConfigError


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


def refuse_renamed(argv: Sequence[str], renamed: Mapping[str, str], command: str) -> None:
    """Refuses options that had another name in earlier versions.

    Args:
        argv: Arguments of a command.
        renamed: The new option by the old one.
        command: What the user called.

    Raises:
        ConfigError: E225, which names the new option.
    """
    for argument in argv:
        name = argument.partition("=")[0]
        for old, new in renamed.items():
            if name == old or name.startswith(f"{old}."):
                raise ConfigError(f"{name} has a new name", command, f"write {new}{name[len(old) :]}", code=225)


def first_names(names: Sequence[str], most: int = 10) -> str:
    """A list of names for a message, cut off behind the first ones.

    Example:
        >>> first_names(["A", "B", "C"], most=2)
        'A, B and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
