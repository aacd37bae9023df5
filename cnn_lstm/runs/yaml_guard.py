"""What a YAML text may hold, and which classes it may import."""

from __future__ import annotations

import enum
from typing import Any

import jsonargparse
import yaml

from cnn_lstm.bounded import TooDeepError, require_shallow
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs.symbols_text import with_quoted_symbols
from cnn_lstm.specs import trusted_packages

MAX_BYTES = 10 << 20
MAX_NODES = 100_000
ALLOWED_IMPORTS = [
    "cnn_lstm.data",
    "cnn_lstm.model",
    "cnn_lstm.training",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.cli.ReduceLROnPlateau",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "torch.nn",
    "torch.optim",
]
# LambdaCallback runs any function that a YAML file names
DENIED_IMPORTS = ["*", "lightning.pytorch.callbacks.LambdaCallback", "lightning.pytorch.callbacks.lambda_function"]


# a file that is not one: the parser reads none, neither in place of a value nor from an address. Lightning lets it read
# from every address that fsspec knows, and each value that was the name of a file was replaced by the file's content
NO_FILE = "fF"


def guard_parser(settings: str = "cnn_lstm.evaluation.settings") -> None:
    """Sets the import policy and the YAML loader of this process, and lets the parser read no file by itself.

    Args:
        settings: Module of a command's own settings, whose classes the parser names by itself.
    """
    jsonargparse._optionals._config_read_mode = NO_FILE
    jsonargparse.set_parsing_settings(
        import_path_denylist=DENIED_IMPORTS,
        import_path_allowlist=[*ALLOWED_IMPORTS, settings, *sorted(trusted_packages() - {"cnn_lstm"})],
    )
    # choices of Lightning's callbacks, such as the interval of `Timer`
    yaml.SafeDumper.add_multi_representer(enum.Enum, lambda dumper, choice: dumper.represent_data(choice.value))
    jsonargparse.set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))


def read_nothing(parser: jsonargparse.ArgumentParser) -> None:
    """Lets no value of a parser, nor one inside of its classes, be a file or the standard input.

    Args:
        parser: The parser, with all its arguments.
    """
    for action in parser._actions:
        if hasattr(action, "_enable_path"):
            action._enable_path = False
        if hasattr(action, "sub_add_kwargs"):
            action.sub_add_kwargs = action.sub_add_kwargs | {"sub_configs": False}


def load_yaml(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        ConfigError: If it is too large, nested too deep, repeats a key, multiplies itself by aliases, or holds objects.

    Example:
        >>> load_yaml("{lr: 1e-3, layers: [1, 2]}")
        {'lr': 0.001, 'layers': [1, 2]}
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"a configuration of {len(text) >> 20} MiB", fix="keep it below 10 MiB", code=227)
    try:
        require_shallow(text)
        node = yaml.compose(text, Loader=jsonargparse._loaders_dumpers.get_yaml_default_loader())
        if node is not None:
            _count_values(node, {})
            text = with_quoted_symbols(text, node)
        return jsonargparse._loaders_dumpers.yaml_load(text)
    except TooDeepError as error:
        raise ConfigError(f"the YAML is {error}", fix="write it flatter", code=227) from error


def _count_values(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Number of values that a node stands for, aliases written out; refuses too many, and a key that is repeated."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MAX_NODES + 1  # an alias of a node inside itself is endless
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_count_values(child, sizes) for child in children)
    if size > MAX_NODES:
        raise ConfigError("the YAML multiplies itself by aliases", _place(node), "write it out", code=227)
    sizes[id(node)] = size
    return size


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
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
