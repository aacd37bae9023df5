"""A parser's complaint as one line of ours: what is wrong, which command, and what was probably meant."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import jsonargparse

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import nearest, nearest_key

PAGE = "see docs/rl.md"
KINDS = {
    "int": "not a whole number",
    "float": "not a number",
    "bool": "neither true nor false",
    "dict": "not a mapping",
}


@contextmanager
def one_line_errors(command: str, known: Collection[str]) -> Iterator[None]:
    """Turns a parse error into a `ConfigError` with the nearest known key.

    Args:
        command: Name of the command.
        known: Dotted keys of its parser.

    Raises:
        ConfigError: The one that a constructor of ours raised and the parser wrapped, else one of the parser's text.
    """
    try:
        yield
    except ConfigError:
        raise
    except (jsonargparse.ArgumentError, argparse.ArgumentError, ValueError) as error:
        wrapped = _wrapped_error(error)
        if wrapped is not None:
            raise wrapped from error
        if not isinstance(error, jsonargparse.ArgumentError | argparse.ArgumentError):
            raise
        message = re.sub(r"\s*\n\s*", " ", str(error)).strip()
        denied = re.search(r"Importing '([\w.]+)' is not allowed", message)
        if denied:
            path = denied[1]
            raise ConfigError(
                f"importing {path} is not allowed",
                f"{command}, a configuration names it",
                f"if the package is yours and you trust it, add --trust-imports {path.split('.')[0]}",
                code=228,
            ) from error
        raise ConfigError(_without_noise(message), command, _hint(message, known), code=225) from error


def _wrapped_error(error: BaseException | None) -> ConfigError | None:
    """The first error of ours that led to another one."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error


def _without_noise(message: str) -> str:
    """A parser's message without what it says of optional types."""
    message = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: ", "", message)
    return re.sub(r" - Expected a <class 'NoneType'>.*| Given value type: .*", "", message)


def _hint(message: str, known: Collection[str]) -> str:
    """A hint at the known key nearest to the one that a parser's message complains about."""
    keys = {*known, *_arguments(re.findall(r"class_path[= ]'([\w.]+)'", message))}
    named = re.findall(r"(?:[Oo]ption|unrecognized arguments:) '?-*([\w.]+)", message)
    return nearest_key(named[0], keys) if named else "see --help"


def _arguments(class_paths: list[str]) -> set[str]:
    """Argument names of classes that the parser has imported already."""
    names: set[str] = set()
    for path in class_paths:
        module, _, name = path.rpartition(".")
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None:
            names |= set(inspect.signature(cls).parameters)
    return names


def in_plain_words(error: ConfigError) -> ConfigError:
    """A parser's message about a value in plain words, with the nearest choice.

    Args:
        error: As `one_line_errors` raises it.
    """
    whole = " ".join(str(error.__cause__).split())
    key = ".".join(re.findall(r'Parser key "([\w.]+)"', error.what))
    kind = re.search(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", error.what)
    value = re.search(r"(?:Got|Given) value: (.*?)(?= - Expected | Given value|$)", whole)
    if not (key and kind and value):
        fix = PAGE if error.fix == "see --help" else error.fix
        return ConfigError(error.what, error.where, fix, code=error.code)
    text = value[1]
    if kind[2]:
        choices = re.findall(r"'(\w+)'", kind[2])
        what, fix = f"{key}={text} is none of {', '.join(choices)}", nearest(text, choices) or PAGE
    elif kind[1] == "list":
        what, fix = f"{key}={text} is not a list", f'write "[{text}]"'
    else:
        what, fix = f"{key}={text} is {KINDS.get(kind[1], 'not a ' + kind[1])}", PAGE
    return ConfigError(what, error.where, fix, code=error.code)
