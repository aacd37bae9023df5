"""Names of symbols in YAML and on the command line are text, whatever YAML makes of them.

In YAML, ON and NO are truth values, 000001 is the number 1 and 1:30 the number 90; on the Nasdaq and in Shenzhen they
are symbols.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import yaml

KEYS = ("symbols", "symbol")
TEXT, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
NOTHING = ("", "~", "null", "Null", "NULL", "None")


def with_quoted_symbols(text: str, node: yaml.Node) -> str:
    """A YAML text in which the values of the keys `symbols` and `symbol` are quoted where they are not text.

    A single symbol, or several with commas between them, become the list that `symbols` is.

    Args:
        text: The text.
        node: What `yaml.compose` makes of it.

    Example:
        >>> text = "data: {symbols: [ON, 000001, IBM]}"
        >>> with_quoted_symbols(text, yaml.compose(text))
        'data: {symbols: ["ON", "000001", IBM]}'
    """
    for start, stop, value in sorted(set(_replaced(node, set())), reverse=True):
        text = f"{text[:start]}{value}{text[stop:]}"
    return text


def _replaced(node: yaml.Node, seen: set[int]) -> Iterator[tuple[int, int, str]]:
    """First position, the one behind the last, and what to write there."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _replaced(item, seen)
        return
    for key, value in node.value:
        name = str(key.value).rpartition(".")[2].removesuffix("+")
        if name not in KEYS:
            yield from _replaced(value, seen)
        elif isinstance(value, yaml.SequenceNode):
            named = (item for item in value.value if item.value not in ("", "~"))
            yield from (_place(item, json.dumps(item.value)) for item in named if _is_no_text(item))
        elif isinstance(value, yaml.ScalarNode) and value.tag != NULL and not value.style:
            if name == "symbols":
                yield _place(value, json.dumps(listed(value.value)))
            elif value.tag != TEXT:
                yield _place(value, json.dumps(value.value))


def _is_no_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style and node.tag != TEXT


def _place(node: yaml.Node, value: str) -> tuple[int, int, str]:
    return node.start_mark.index, node.end_mark.index, value


def listed(text: str) -> list[str]:
    """The symbols of `[ON, IBM]`, of `ON,IBM`, or of `ON`; quotes around one are taken off.

    Example:
        >>> listed("[ON, 'NO']"), listed("ACME,BOLT"), listed("$SPX")
        (['ON', 'NO'], ['ACME', 'BOLT'], ['$SPX'])
    """
    inner = text.strip().removeprefix("[").removesuffix("]")
    return [re.sub(r"""^(["'])(.*)\1$""", r"\2", name.strip()) for name in inner.split(",") if name.strip()]


def with_listed_symbols(argv: Sequence[str]) -> list[str]:
    """Arguments in which the values of `--data.symbols` are lists of text.

    Args:
        argv: Arguments of a command.

    Example:
        >>> with_listed_symbols(["--data.symbols", "[ON]", "--data.symbols=ACME,BOLT", "--data.symbols", "null"])
        ['--data.symbols', '["ON"]', '--data.symbols=["ACME", "BOLT"]', '--data.symbols', 'null']
    """
    words = list(argv)
    for position, word in enumerate(argv):
        option, equals, value = word.partition("=")
        named = option.startswith("--") and option.rpartition(".")[2].removesuffix("+") == "symbols"
        if not named or not (equals or argv[position + 1 :]):
            continue
        value = value if equals else argv[position + 1]
        if value in NOTHING or value.startswith(("{", "--")):
            continue
        text = json.dumps(listed(value))
        words[position if equals else position + 1] = f"{option}={text}" if equals else text
    return words
