"""The configuration's doors: what YAML may hold, what it may import, and errors in one line."""

from __future__ import annotations

import argparse
import difflib
import enum
import inspect
import math
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from jsonargparse import Namespace

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import nearest
from cnn_lstm.specs import trusted_packages

MAX_BYTES = 10 << 20
MAX_NODES = 100_000
MAX_PATH = 255
# smallest value of a key, or of any key with that last part
SMALLEST = {
    "lr": 1e-12,
    "seed_everything": 0,
    "trainer.max_epochs": 0,
    "trainer.gradient_clip_val": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.check_val_every_n_epoch": 1,
}
HIGHER_IS_BETTER = ("_r2", "_explained_variance", "_correlation", "accuracy", "_f1", "_mcc")
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


PAGE = "see docs/rl.md"
# sections that only a configuration of `fit` has
FIT = {"data", "model", "trainer"}
KINDS = {"int": "no whole number", "float": "no number", "bool": "neither true nor false", "dict": "no mapping"}


def guard_parser() -> None:
    """Sets the import policy and the YAML loader of this process."""
    jsonargparse.set_parsing_settings(
        import_path_denylist=DENIED_IMPORTS,
        import_path_allowlist=[*ALLOWED_IMPORTS, *sorted(trusted_packages())],
    )
    # choices of Lightning's callbacks, such as the interval of `Timer`
    yaml.SafeDumper.add_multi_representer(enum.Enum, lambda dumper, choice: dumper.represent_data(choice.value))
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
    try:
        node = yaml.compose(text, Loader=jsonargparse._loaders_dumpers.get_yaml_default_loader())
        if node is not None:
            _check_node(node, {})
        return jsonargparse._loaders_dumpers.yaml_load(text)
    except RecursionError as error:
        raise ConfigError("the YAML is nested too deep", fix="write it flatter", code=227) from error


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
        smallest = SMALLEST.get(key, SMALLEST.get(key.rsplit(".", 1)[-1]))
        if smallest is not None and isinstance(value, int | float) and value < smallest:
            raise ConfigError(f"{key}={value}", fix=f"give at least {smallest:g}", code=224)
    for callback in ("checkpoint", "early_stopping"):
        monitor, mode = config[callback].monitor, config[callback].mode
        if mode == "min" and str(monitor).endswith(HIGHER_IS_BETTER):
            raise ConfigError(
                f"{callback}.mode=min",
                f"{callback}.monitor={monitor}",
                "higher is better: set mode to max",
                code=224,
            )


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(f"{prefix}[{number}]", item)
    else:
        yield prefix, value


def check_keys(files: Sequence[Path], known: Collection[str]) -> None:
    """Refuses unknown keys of the first two levels; the parser overlooks those that hold nothing.

    Args:
        files: Configuration files.
        known: Dotted keys of the parser.

    Raises:
        ConfigError: Naming file, key and the nearest known one.
    """
    levels = {".".join(key.split(".")[:depth]) for key in known for depth in (1, 2)}
    for file in files:
        if len(str(file)) > MAX_PATH:  # a configuration given in place of a file
            continue
        if file.is_dir():
            raise ConfigError("the configuration is a folder", str(file), f"give {file / 'config.yaml'}", code=225)
        try:
            tree = load_yaml(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = re.sub(r"\s+", " ", str(error))
            raise ConfigError("no plain YAML", f"{file}: {reason}", "write plain keys and values", code=227) from error
        if not isinstance(tree, dict):
            continue
        keys = {str(key) for key in tree} | {
            f"{key}.{inner}" for key, value in tree.items() if isinstance(value, dict) for inner in value
        }
        for key in sorted(keys - levels):
            if key.split(".")[0] in levels or "." not in key:
                raise ConfigError(f"unknown key {key!r}", str(file), _hint(key, levels), code=225)


@contextmanager
def told_in_one_line(command: str, known: Collection[str]) -> Iterator[None]:
    """Turns a parse error into a `ConfigError` with the nearest known key.

    Args:
        command: Name of the command.
        known: Dotted keys of its parser.
    """
    try:
        yield
    except ConfigError:
        raise
    except (jsonargparse.ArgumentError, argparse.ArgumentError, ValueError) as error:
        message = re.sub(r"\s*\n\s*", " ", str(error)).strip()
        ours = re.search(r"error\[E(\d+)\]: ([^\n]+)", _text_of(error))
        if ours:  # raised by a constructor of ours, and wrapped by the parser
            raise ConfigError(*ours[2].split(" — ")[:3], code=int(ours[1])) from error
        if not isinstance(error, jsonargparse.ArgumentError | argparse.ArgumentError):
            raise
        denied = re.search(r"Importing '([\w.]+)' is not allowed", message)
        if denied:
            path = denied[1]
            raise ConfigError(
                f"importing {path} is not allowed",
                f"{command}, a configuration names it",
                f"if the package is yours and you trust it, add --trust-imports {path.split('.')[0]}",
                code=228,
            ) from error
        raise ConfigError(_without_noise(message), command, _nearest(message, known), code=225) from error


def _text_of(error: BaseException | None) -> str:
    """Messages of an error and of all that led to it."""
    lines = []
    while error is not None:
        lines.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(lines)


def _without_noise(message: str) -> str:
    """A parser's message without what it says of optional types."""
    message = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: ", "", message)
    return re.sub(r" - Expected a <class 'NoneType'>.*| Given value type: .*", "", message)


def _nearest(message: str, known: Collection[str]) -> str:
    """A hint at the known key nearest to the one that a parser's message complains about."""
    keys = {*known, *_arguments(re.findall(r"class_path[= ]'([\w.]+)'", message))}
    words = re.findall(r"(?:[Oo]ption|unrecognized arguments:) '?-*([\w.]+)", message)
    return _hint(words[0], keys) if words else "see --help"


def _hint(word: str, keys: Collection[str]) -> str:
    """The known key that is nearest, by its whole path or by its last part."""
    near = difflib.get_close_matches(word, keys, n=1)
    if not near:
        last = {key.rsplit(".", 1)[-1]: key for key in keys}
        near = [last[name] for name in difflib.get_close_matches(word.rsplit(".", 1)[-1], last, n=1)]
    return f"did you mean {near[0]}?" if near else "see --help"


def _arguments(class_paths: list[str]) -> set[str]:
    """Argument names of classes that the parser has imported already."""
    names: set[str] = set()
    for path in class_paths:
        module, _, name = path.rpartition(".")
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None:
            names |= set(inspect.signature(cls).parameters)
    return names


def config_files(words: Sequence[str]) -> list[Path]:
    """Files given by `--config` or `-c`.

    Args:
        words: Words of the command line.

    Example:
        >>> [str(file) for file in config_files(["--config", "a.yaml", "--name", "x", "--config=b.yaml"])]
        ['a.yaml', 'b.yaml']
    """
    pairs = zip(words, [*words, ""][1:], strict=True)
    given = [word.partition("=")[2] or following for word, following in pairs if re.match(r"(--config|-c)(=|$)", word)]
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
        error: See `cnn_lstm.runs.config.told_in_one_line`.
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
