"""The configuration's doors: what YAML may hold, what it may import, and errors in one line."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonargparse
import yaml
from jsonargparse import ArgumentParser, Namespace

from cnn_lstm.errors import ConfigError
from cnn_lstm.specs import trusted_packages

MAX_BYTES = 10 << 20
MAX_NODES = 100_000
ALLOWED_IMPORTS = [
    "lightning.pytorch.callbacks",
    "lightning.pytorch.cli.ReduceLROnPlateau",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "torch.nn",
    "torch.optim",
]
# runs any function that a YAML file names
DENIED_IMPORTS = ["*", "lightning.pytorch.callbacks.LambdaCallback", "lightning.pytorch.callbacks.lambda_function"]


def guard_parser() -> None:
    """Sets the import policy and the YAML loader of this process."""
    jsonargparse.set_parsing_settings(
        import_path_denylist=DENIED_IMPORTS,
        import_path_allowlist=[*ALLOWED_IMPORTS, *sorted(trusted_packages())],
    )
    jsonargparse.set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))


def load_yaml(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        ConfigError: If it is too large, doubles a key, multiplies itself by aliases, or holds objects.

    Example:
        >>> load_yaml("{lr: 1e-3, layers: [1, 2]}")
        {'lr': 0.001, 'layers': [1, 2]}
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"a configuration of {len(text) >> 20} MiB", fix="keep it below 10 MiB", code=227)
    loader = jsonargparse._loaders_dumpers.get_yaml_default_loader()
    node = yaml.compose(text, Loader=loader)
    if node is not None:
        _check_node(node, {})
    return jsonargparse._loaders_dumpers.yaml_load(text)


def _check_node(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Number of values that a node stands for, aliases written out."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MAX_NODES + 1  # an alias of a node inside itself is endless
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_check_node(child, sizes) for child in children)
    if size > MAX_NODES:
        raise ConfigError("the YAML multiplies itself by aliases", _place(node), "write it out", code=227)
    sizes[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    seen: dict[str, yaml.Node] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in seen:
            raise ConfigError(
                f"the key {name!r} stands twice", f"{_place(seen[name])} and {_place(key)}", "remove one", code=226
            )
        seen[name] = key


def _place(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def check_values(config: Namespace) -> None:
    """Refuses numbers that no training can use, wherever they stand.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in _leaves("", config.as_dict()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}", fix="give a finite number", code=224)
        name = key.rsplit(".", 1)[-1]
        if name == "lr" and isinstance(value, int | float) and value <= 0:
            raise ConfigError(f"{key}={value}", fix="a learning rate is above 0", code=224)
        if key in ("trainer.max_epochs", "trainer.max_time") and isinstance(value, int) and value < 0:
            raise ConfigError(f"{key}={value}", fix="give 0 or more epochs", code=224)


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(f"{prefix}[{number}]", item)
    else:
        yield prefix, value


@contextmanager
def told_in_one_line(parser: ArgumentParser, words: list[str]) -> Iterator[None]:
    """Turns a parse error into a `ConfigError` with the nearest known key.

    Args:
        parser: Parser of the whole command line.
        words: The command line.
    """
    try:
        yield
    except (jsonargparse.ArgumentError, argparse.ArgumentError) as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConfigError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        message = re.sub(r"\s*\n\s*", " ", str(error)).strip()
        raise ConfigError(message, " ".join(words[:1]), _nearest(message, parser), code=225) from error


def _nearest(message: str, parser: ArgumentParser) -> str:
    """A hint at the known key nearest to the one that a message complains about."""
    quoted = re.findall(r"'([\w.\[\]-]+)'|--([\w.]+)", message)
    known = _known_keys(parser)
    for word in (first or second for first, second in quoted):
        last = word.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(word, known, n=1) or difflib.get_close_matches(
            last, sorted({key.rsplit(".", 1)[-1] for key in known}), n=1
        )
        if near and near[0] != word:
            return f"did you mean {near[0]}?"
    return "see --help"


def _known_keys(parser: ArgumentParser) -> list[str]:
    from cnn_lstm.model.network import CNNLSTM

    keys = {action.dest for action in parser._actions}
    for sub in getattr(parser, "_subcommand_parsers", {}).values():
        keys |= {action.dest for action in sub._actions}
    return sorted(keys | set(CNNLSTM.__init__.__annotations__))
