"""A forecaster of the user's own class: `model.class_path` with `init_args`, as Lightning's command line names classes.

The parser of a run knows the arguments of one class, so the section is read in its short form, `model: {network: ...}`,
and kept in the long one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.errors import ConfigError, require
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.own_class import class_of
from cnn_lstm.runs.argv import config_files
from cnn_lstm.runs.config import MAX_PATH, read_config
from cnn_lstm.runs.config_files import part_of
from cnn_lstm.runs.yaml_guard import load_yaml
from cnn_lstm.specs import class_path, imported, is_trusted

MODEL, NAMED, ARGUMENTS = "model", "model.class_path", "model.init_args"
KEYS = frozenset({NAMED, ARGUMENTS})


def model_class(argv: Sequence[str]) -> type[Forecaster]:
    """The class that the arguments of a command name last; `Forecaster` by default.

    Args:
        argv: Arguments of the command.

    Raises:
        ConfigError: E228, if its package is not trusted; E292, if it is not derived from `Forecaster`; E282, if it does
            not take what a run gives it.
    """
    paths = list(_named(argv))
    if not paths:
        return Forecaster
    path = paths[-1]
    fix = f"if the package is yours and you trust it, add --trust-imports {path.split('.')[0]}"
    require(is_trusted(path), f"importing {path} is not allowed", NAMED, fix, code=228)
    try:
        found = imported(path)
    except Exception as error:  # whatever the user's module raises
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"cannot import {path}: {reason}", NAMED, "correct the path or the module", code=228
        ) from error
    derived = isinstance(found, type) and issubclass(found, Forecaster)
    require(derived, f"{path} is not derived from Forecaster", NAMED, "class Mine(cnn_lstm.Forecaster)", code=292)
    parameters = inspect.signature(found.__init__).parameters.values()
    open_ended = any(one.kind == one.VAR_KEYWORD for one in parameters)
    lacks = sorted({"network", "n_targets"} - {one.name for one in parameters}) if not open_ended else []
    fix = "end its constructor with **kwargs, and hand them to super().__init__"
    require(not lacks, f"{found.__name__} takes no {', '.join(lacks)}", NAMED, fix, code=282)
    kind: type[Forecaster] = found
    return kind


def _named(argv: Sequence[str]) -> Iterator[str]:
    """Class paths that files and options name, in their order."""
    for file in config_files(argv):
        if len(str(file)) > MAX_PATH or not file.is_file():  # keys and values on the command line
            tree: Any = _loaded(str(file))
            section = tree.get(MODEL) if isinstance(tree, dict) else None
        else:
            section = read_config(file).get(MODEL)
            part = part_of(file.parent, MODEL, section, str(file))
            section = section if part is None else read_config(part, {})
        if isinstance(section, Mapping) and "class_path" in section:
            yield str(section["class_path"])
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option == f"--{NAMED}":
            yield value if equals else following
        elif option == f"--{MODEL}" and (equals or following):
            section = _loaded_option(value if equals else following)
            if "class_path" in section:
                yield str(section["class_path"])


def short_options(argv: Sequence[str]) -> list[str]:
    """The arguments without the class path, and with the short names of its arguments.

    Args:
        argv: Arguments of a command.

    Example:
        >>> short_options(["fit", "--model.class_path", "mine.Mine", "--model.init_args.extra=2", "--quiet"])
        ['fit', '--model.extra=2', '--quiet']
    """
    short: list[str] = []
    skip = False
    for word in argv:
        option, equals, _ = word.partition("=")
        if skip or option == f"--{NAMED}":
            skip = not skip and not equals
            continue
        short.append(re.sub(rf"^--{re.escape(ARGUMENTS)}\.", f"--{MODEL}.", word))
    return short


def short_texts(words: Sequence[str]) -> list[str]:
    """The arguments with the section of the model in its short form, in texts of configurations.

    Args:
        words: Arguments, with content in place of files.
    """
    short = list(words)
    for position, word in enumerate(words):
        option, equals, value = word.partition("=")
        value = value if equals else next(iter(words[position + 1 :]), "")
        if option in ("--config", "-c"):
            tree: Any = _loaded(value)
            if not isinstance(tree, dict) or not _is_long(tree.get(MODEL)):
                continue
            text = _dumped(tree | {MODEL: _short(tree[MODEL])})
        elif option == f"--{MODEL}" and _is_long(tree := _loaded(value)):
            text = _dumped(_short(tree))
        else:
            continue
        short[position if equals else position + 1] = f"{option}={text}" if equals else text
    return short


def _is_long(section: object) -> bool:
    return isinstance(section, dict) and bool({"class_path", "init_args"} & set(section))


def _short(section: Mapping[str, Any]) -> dict[str, Any]:
    inner = section.get("init_args") or {}
    require(isinstance(inner, Mapping), f"{ARGUMENTS} is not a section", MODEL, "write keys and values", code=225)
    return {key: value for key, value in section.items() if key not in ("class_path", "init_args")} | dict(inner)


def _loaded(text: str) -> Any:
    try:
        return load_yaml(text)
    except (yaml.YAMLError, ConfigError):
        return None


def _loaded_option(value: str) -> Mapping[str, Any]:
    short = len(value) <= MAX_PATH and value.endswith((".yaml", ".yml", ".json"))
    tree: Any = read_config(Path(value), {}) if short else _loaded(value)
    return tree if isinstance(tree, Mapping) else {}


def _dumped(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(tree), sort_keys=False, default_style='"')


def long_text(text: str, kind: type[Forecaster]) -> str:
    r"""The text of a configuration with the class of its model, if that is not ours.

    Args:
        text: The text, as `saved_text` makes it.
        kind: The class.

    Example:
        >>> class Mine(Forecaster):
        ...     pass
        >>> print(long_text("seed: 1\nmodel:\n  samples: 0\ndata:\n  window: 9\n", Mine).replace(class_path(Mine), "M"))
        seed: 1
        model:
          class_path: M
          init_args:
            samples: 0
        data:
          window: 9
        <BLANKLINE>
    """
    if kind is Forecaster:
        return text
    head, section, rest = re.split(r"^(model:\n(?:[ \n].*\n?)+)", text, maxsplit=1, flags=re.MULTILINE)
    inner = "".join(f"  {line}" for line in section.splitlines(keepends=True)[1:])
    return f"{head}model:\n  class_path: {class_path(kind)}\n  init_args:\n{inner}{rest}"


def require_same_class(plain: Mapping[str, Any], kind: type[Forecaster]) -> None:
    """Refuses a checkpoint whose forecaster is of another class than that of the configuration.

    Args:
        plain: Hyperparameters of the checkpoint.
        kind: The class of the configuration.

    Raises:
        CheckpointError: E436.
    """
    asked = None if kind is Forecaster else class_path(kind)
    named = {"model": class_path(Forecaster)}
    refuse_differences({"model": class_of(plain) or named["model"]}, {"model": asked or named["model"]})
