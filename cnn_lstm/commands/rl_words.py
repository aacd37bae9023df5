"""What the words and files of `rl` mean, and what is said where they are wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.commands.config import load_yaml
from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import nearest

PAGE = "see docs/rl.md"
# sections that only a configuration of `fit` has
FIT = {"data", "model", "trainer"}
KINDS = {"int": "no whole number", "float": "no number", "bool": "neither true nor false", "dict": "no mapping"}


def config_files(words: Sequence[str]) -> list[Path]:
    """Files given by `--config`.

    Args:
        words: Words of the command line.

    Example:
        >>> [str(file) for file in config_files(["--config", "a.yaml", "--name", "x", "--config=b.yaml"])]
        ['a.yaml', 'b.yaml']
    """
    pairs = zip(words, [*words, ""][1:], strict=True)
    given = [word.partition("=")[2] or following for word, following in pairs if re.match(r"--config(=|$)", word)]
    return [Path(file) for file in given]


def keys_of(file: Path) -> dict[str, Any]:
    """The first level of a configuration; nothing where there is no such file.

    Args:
        file: The configuration.

    Raises:
        ConfigError: E227, if it is no plain YAML.
    """
    if not file.is_file():
        return {}
    try:
        tree = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("no plain YAML", f"{file}: {reason}", "write plain keys and values", code=227) from error
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}


def is_of_fit(keys: dict[str, Any]) -> bool:
    """Whether a configuration is a forecaster's."""
    return bool(FIT & {key.split(".")[0] for key in keys})


def readable(error: ConfigError) -> ConfigError:
    """A parser's message in plain words, with the nearest choice.

    Args:
        error: See `cnn_lstm.commands.config.told_in_one_line`.
    """
    whole = " ".join(str(error.__cause__).split())
    key = ".".join(re.findall(r'Parser key "([\w.]+)"', error.what))
    kind = re.search(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", error.what)
    value = re.search(r"(?:Got|Given) value: (.*?)(?= - Expected | Given value|$)", whole)
    if not (key and kind and value):
        fix = PAGE if error.fix == "see --help" else error.fix
        return ConfigError(error.what, error.where, fix, code=error.code)
    said = value[1]
    if kind[2]:
        choices = re.findall(r"'(\w+)'", kind[2])
        what, fix = f"{key}={said} is none of {', '.join(choices)}", nearest(said, choices) or PAGE
    elif kind[1] == "list":
        what, fix = f"{key}={said} is no list", f'write "[{said}]"'
    else:
        what, fix = f"{key}={said} is {KINDS.get(kind[1], 'no ' + kind[1])}", PAGE
    return ConfigError(what, error.where, fix, code=error.code)
