"""A parser's complaint as one line of ours: what is wrong, which command, and what was probably meant."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import jsonargparse

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import nearest, nearest_key, without_operands

SEE_HELP = "see --help"
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "collections.abc.Iterable": "a list",
    "collections.abc.Sequence": "a list",
    "datetime.timedelta": "a duration",
}
# the same where nothing else is allowed
NOT = {"bool": "is neither true nor false"}
CLASS = "the name of a class that fits here"
EXPECTED = re.compile(r"Expected (?:an? )?(?:<class '([\w.]+)'>|typing\.Literal\[(.*?)\]|(dot import path))")
VALUE = re.compile(r"(?:Got|Given) value: (.*?)(?=\.? Got value: | - Expected |$)")
NOT_A_CLASS = re.compile(
    r"Not a valid subclass of|Dict must include a class_path|does not correspond to a subclass|"
    r"no attribute 'keys'|argument of type '\w+' is not|unhashable type|Expected an instantiatable class|"
    r"Problem with given class_path|expects a function or a callable class|Unexpected import path|Unable to import"
)
MOST_OF_A_VALUE = 60
OURS = ("cnn_lstm", "lightning", "torch")  # nobody has to trust them as a whole


@contextmanager
def one_line_errors(command: str, known: Collection[str]) -> Iterator[None]:
    """Turns a parse error into a `ConfigError` in plain words, with the nearest known key or choice.

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
        raise in_plain_words(str(error), command, known) from error


def _wrapped_error(error: BaseException | None) -> ConfigError | None:
    """The first error of ours that led to another one."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error


def in_plain_words(message: str, command: str, known: Collection[str]) -> ConfigError:
    r"""A parser's message in the words of a user.

    Args:
        message: The message, of several lines.
        command: Name of the command.
        known: Dotted keys of its parser.

    Example:
        >>> print(in_plain_words("Parser key 'a'", "fit", []).fix)
        see --help
        >>> text = 'Parser key "data.window": Expected a <class \'int\'>. Got value: 3x'
        >>> in_plain_words(text, "fit", []).what
        'data.window=3x is not a whole number'
    """
    text = " ".join(message.split())
    denied = re.search(r"Importing '([\w.]+)' is not allowed", text)
    if denied:
        where = f"{command}, a configuration names it"
        package = denied[1].split(".")[0]
        fix = f"if the package is yours and you trust it, add --trust-imports {package}"
        if package in OURS:
            fix = "name a class that fits here; docs/command_line.md says what a file may name"
        return ConfigError(f"importing {denied[1]} is not allowed", where, fix, code=228)
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', text)))
    for words in (_unknown, _unreadable, _wrong_value, _not_a_section):
        found = words(text, keys, known)
        if found is not None:
            return ConfigError(found[0], command, found[1] or SEE_HELP, code=225)
    reason = re.search(r"Errors: - (.*?)(?= - Expected| Given value|$)", text)
    inner = reason[1] if reason else text.rpartition(f'Parser key "{keys[-1]}":')[2] if keys else text
    what = f"{'.'.join(keys)}: {without_inner_names(inner)}" if keys else without_inner_names(inner)
    return ConfigError(what, command, SEE_HELP, code=225)


def without_inner_names(text: str) -> str:
    r"""A library's text in one line, with the names of types in place of what Python prints for them.

    Example:
        >>> without_inner_names("expected <class 'int'>,\n got <function f at 0x7f>")
        'expected int, got f'
    """
    text = re.sub(
        r"functools\.partial\(.*\) argument after \*\*", "the arguments", without_operands(" ".join(text.split()))
    )
    return re.sub(r"<(?:class|function|bound method) '?([\w.<>]+?)'?(?: (?:at|of) [^>]*)?>", r"\1", text)


def _unknown(text: str, keys: Sequence[str], known: Collection[str]) -> tuple[str, str] | None:
    """An option that the command does not have, or an argument that a class does not have."""
    option = re.search(r"unrecognized arguments: (.*)", text)
    if option:
        first = option[1].split()[0] if option[1].split() else ""
        fix = "" if first.startswith("--") else "write a value as --KEY=VALUE if it begins with -"
        return f"unrecognized arguments: {_short(option[1])}", fix or nearest_key(
            first.lstrip("-").split("=")[0], known
        )
    argument = re.search(r"Option '(.*?)' is not accepted", text)
    if not argument or not keys:
        return None
    owner = re.findall(r"class_path[= ]'([\w.]+)'", text[: argument.start()] or text) or re.findall(
        r"class_path[= ]'([\w.]+)'", text
    )
    name = owner[-1] if owner else ""
    names = _arguments(name)
    fix = nearest(argument[1], names - {argument[1]}) or f"see --{keys[0]}.help {name}".rstrip()
    return f"{_short(argument[1])} is unknown in {'.'.join(keys)}: {name.rpartition('.')[2]} has no such argument", fix


def _unreadable(text: str, keys: Sequence[str], known: Collection[str]) -> tuple[str, str] | None:
    missing = re.search(r"File does not exist: '?(.*?)'?$", text)
    return (f"no such file: {missing[1]}", "correct --config") if missing else None


def _wrong_value(text: str, keys: Sequence[str], known: Collection[str]) -> tuple[str, str] | None:
    """A value of another kind than the key takes."""
    inner = text.rpartition(f'Parser key "{keys[-1]}"')[2] if keys else ""
    named = list(dict.fromkeys(EXPECTED.findall(inner)))
    kinds = [kind for kind, _, _ in named if kind in KINDS]
    choices = [choice for _, literal, _ in named for choice in re.findall(r"'(.*?)'|([\w.+-]+)", literal)]
    texts = [quoted or plain for quoted, plain in choices]
    path = any(dotted for _, _, dotted in named) or (not kinds and not texts and NOT_A_CLASS.search(inner))
    if not keys or not (kinds or texts or path):
        return None
    key, value = ".".join(keys), _value(inner)
    shown = f"{key}={value}" if value else key
    if texts:
        return f"{shown} is none of {', '.join([*texts, *(KINDS[kind] for kind in kinds)])}", nearest(value, texts)
    if "float" in kinds:
        kinds = [kind for kind in kinds if kind != "int"]
        path = False  # a tensor
    if path and not kinds:
        return f"{shown} is not {CLASS}", "write class_path: CLASS, and init_args: {ARGUMENT: VALUE} below it"
    if len(kinds) == 1 and not path:
        return f"{shown} {NOT.get(kinds[0], f'is not {KINDS[kinds[0]]}')}", f'write "[{value}]"' * (kinds == ["list"])
    several = list(dict.fromkeys([*(KINDS[kind] for kind in kinds), *([CLASS] if path else [])]))
    return f"{shown} is neither {' nor '.join(several)}", ""


def _not_a_section(text: str, keys: Sequence[str], known: Collection[str]) -> tuple[str, str] | None:
    """A value where keys and values belong."""
    section = re.search(r"Unable to load config '(.*?)'", text)
    if not keys or not section:
        return None
    return f"{keys[0]}={_short(section[1])} is not a section", f"write keys and values: {keys[0]}.KEY"


def _value(text: str) -> str:
    """The value that a message shows, in short; nothing if it shows a list of objects of the parser."""
    nested = re.search(r"NestedArg\(key='.*?', val=(.*?)\)(?: - |$)", text)
    shown = VALUE.search(text)
    named = re.search(r"dot import path string: (\S+)", text)
    value = nested[1] if nested else shown[1] if shown else named[1] if named else ""
    value = value[1:-1] if re.fullmatch(r"'[^']*'", value) else value
    value = {"None": "null", "True": "true", "False": "false"}.get(value, value)
    return "" if re.search(r"Namespace\(|<[\w.]+ ", value) else _short(value)


def _short(value: str) -> str:
    return value if len(value) <= MOST_OF_A_VALUE else f"{value[: MOST_OF_A_VALUE - 4]} ..."


def _arguments(class_path: str) -> set[str]:
    """Argument names of a class that the parser has imported already."""
    module, _, name = class_path.rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    return set() if cls is None else set(inspect.signature(cls).parameters)
