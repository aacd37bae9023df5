"""Options that add to a list, or change its last entry: `--data.features+ rsi_14`, `--data.targets.horizon 5`.

The parser adds to what is written. A key that is empty stands for a list too, which has to be there before anything
can be added to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs.yaml_guard import load_yaml

# what an empty key means
MEANT: Mapping[str, list[Any]] = {"data.features": list(DEFAULT_FEATURES), "data.targets": [ForwardReturn().spec()]}
ALL_OF_SOURCE = "data.symbols"


def with_meant_lists(argv: Sequence[str], value: Callable[[list[str], str], Any]) -> list[str]:
    """The arguments, with the list that an empty key stands for in front of the first option that adds to it.

    Args:
        argv: Arguments of a command.
        value: The value of a key, given the arguments before the option; the parser's.

    Raises:
        ConfigError: E225, if something is added to all symbols.

    Example:
        >>> with_meant_lists(["--data.targets.horizon", "5"], lambda before, key: None)[0][:61]
        '--data.targets=[{"class_path": "cnn_lstm.data.targets.Forward'
        >>> with_meant_lists(["--data.features+", "rsi_14"], lambda before, key: ["atr_14"])
        ['--data.features+', 'rsi_14']
    """
    expanded = list(argv)
    for key in (*MEANT, ALL_OF_SOURCE):
        place = next((n for n, argument in enumerate(expanded) if _adds(argument, key)), None)
        if place is None or value([word for word in expanded[:place] if "--print_config" not in word], key) is not None:
            continue
        if key == ALL_OF_SOURCE:
            what = f"nothing can be added to an empty {key}, which means all symbols of the source"
            raise ConfigError(what, expanded[place], f'write --{key} "[...]" for these symbols alone', code=225)
        added = _values(expanded[place:], key)
        expanded.insert(place, f"--{key}={json.dumps([entry for entry in MEANT[key] if entry not in added])}")
    return expanded


def _adds(argument: str, key: str) -> bool:
    """Whether an argument adds to the list of a key, or sets a part of an entry, which only targets have."""
    option = argument.partition("=")[0]
    return option == f"--{key}+" or (key == "data.targets" and option.startswith(f"--{key}."))


def _values(argv: Sequence[str], key: str) -> list[Any]:
    """What is added to the list of a key; an entry that the list has already would stand there twice."""
    values: list[Any] = []
    for argument, following in zip(argv, [*argv, ""][1:], strict=True):
        option, equals, text = argument.partition("=")
        if option == f"--{key}+":
            value = load_yaml(text if equals else following)
            values += value if isinstance(value, list) else [value]
    return values
