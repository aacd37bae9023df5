"""The files that a configuration is read from: those of `--config`, and the parts of it that they name.

The parser reads no file by itself, see `yaml_guard`: it gets the content. A section may name a file that holds its
keys, as in `model: model/reference.yaml`. A file can only name one below its own folder, and never an address.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm import shipped
from cnn_lstm.bounded import warn_if_changed
from cnn_lstm.errors import ConfigError, require
from cnn_lstm.hints import nearest_key
from cnn_lstm.runs.argv import replace_configs
from cnn_lstm.runs.config import MAX_PATH, RENAMED, read_config, with_current_keys
from cnn_lstm.runs.yaml_guard import load_yaml

ENDINGS = (".yaml", ".yml", ".json")
# of a web page, a bucket, a database, or a chain of them as `simplecache::s3://bucket/file`
ADDRESS = re.compile(r"\s*[A-Za-z][\w+.-]+(:/|::)")
DOWNLOAD = "download the file: only local files are read"


def is_address(value: object) -> bool:
    """Whether a value is a text that begins as an address of something on another machine does, or `file://`.

    Example:
        >>> [is_address(text) for text in ("http://a.example/x.yaml", "s3://bucket/x", "model/reference.yaml", "a: b")]
        [True, True, False, False]
    """
    return isinstance(value, str) and ADDRESS.match(value) is not None


def part_of(folder: Path, section: str, value: object, where: str) -> Path | None:
    """The file that a section names in place of its keys; None where the value is something else.

    Args:
        folder: Folder of the configuration.
        section: Key of the section.
        value: Its value.
        where: The configuration, for messages.

    Raises:
        ConfigError: E290, if the file lies outside of the folder; E291, if the value is an address.
    """
    require(not is_address(value), f"{section}={value} is an address", where, DOWNLOAD, code=291)
    if not _is_name(value):
        return None
    home = folder.resolve()
    try:
        file = (home / str(value)).resolve()
    except (OSError, RuntimeError):  # a circle of links
        return None
    inside = f"a configuration names files below its own folder only; move the file, or give --{section} {value}"
    require(file.is_relative_to(home), f"{section}={value} lies outside of the folder", where, inside, code=290)
    return file if file.is_file() else None


def _is_name(value: object) -> bool:
    """Whether a value may be the name of a file with keys and values."""
    return isinstance(value, str) and len(value) <= MAX_PATH and "\0" not in value and value.lower().endswith(ENDINGS)


def with_parts(tree: Mapping[str, Any], sections: Collection[str], folder: Path, where: str) -> dict[str, Any]:
    """A configuration in which each section that names a file holds the keys of that file.

    Args:
        tree: Keys and values.
        sections: Keys of sections.
        folder: Folder of the configuration.
        where: The configuration, for messages.

    Raises:
        ConfigError: As of `part_of`, and as of `read_config`.
    """
    parts = {key: part_of(folder, key, tree[key], where) for key in tree if key in sections}
    return dict(tree) | {key: _keys_of(file) for key, file in parts.items() if file is not None}


def with_read_files(
    argv: Sequence[str], sections: Collection[str], renamed: Mapping[str, str] | None = None
) -> list[str]:
    """The arguments, with its content in place of each file: of `--config FILE`, and of `--model FILE`.

    Args:
        argv: Arguments of a command.
        sections: Keys of sections.
        renamed: As for `read_config`.

    Raises:
        ConfigError: E225, if there is no such file; E227, if it holds no keys and values; E290 or E291, if it names
            something else than a file below its own folder.

    Example:
        >>> with_read_files(["--config", "{quiet: true}", "--data.window", "30"], ["data"])
        ['--config', '{quiet: true}', '--data.window', '30']
    """
    read = replace_configs(argv, lambda file: _content(file, sections, RENAMED if renamed is None else renamed))
    for position, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        if not option.startswith("--") or option[2:] not in sections or not (equals or argv[position + 1 :]):
            continue
        value = value if equals else argv[position + 1]
        require(not is_address(value), f"{option} {value} is an address", "the command line", DOWNLOAD, code=291)
        if _is_name(value) and Path(value).is_file():
            text = _dumped(_keys_of(Path(value)))
            read[position if equals else position + 1] = f"{option}={text}" if equals else text
    return read


def _content(file: Path, sections: Collection[str], renamed: Mapping[str, str]) -> str | None:
    """The text of a file, with its parts and the present names of its keys; None for keys on the command line itself.

    A file that needs neither is given as it is, so that the parser reads what its author wrote.
    """
    text = str(file)
    if len(text) > MAX_PATH or not (file.is_dir() or file.is_file()):
        what = f"no such file: {text}"
        require(not is_address(text), f"--config {text} is an address", "the command line", DOWNLOAD, code=291)
        require(isinstance(_loaded(text), dict), what, "the command line", shipped.hint(text), code=225)
        return None
    kept, text = read_config(file, {}), file.read_text(encoding="utf-8")
    warn_if_changed(text, file)
    whole = with_current_keys(with_parts(kept, sections, file.parent, str(file)), renamed)
    if whole != kept:
        return _dumped(whole)
    require(bool(kept) or not _loaded(text), "it holds no keys and values", str(file), "correct --config", code=227)
    return f"\n{text}" if kept else "{}"  # a text that begins with --- would be read as an option


def _loaded(text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return None


def _keys_of(file: Path) -> dict[str, Any]:
    """The keys of a part; nothing that it holds is shown if these are none."""
    keys = read_config(file, {})
    require(bool(keys), "it holds no keys and values", str(file), "write keys and values", code=227)
    return keys


def _dumped(tree: Mapping[str, Any]) -> str:
    """YAML with quotes everywhere: without them the text 1e-3 would come back as a number."""
    return yaml.safe_dump(dict(tree), sort_keys=False, default_style='"')


# -- keys ------------------------------------------------------------------------------------------------------------


def check_keys(files: Sequence[Path], known: Collection[str]) -> None:
    """Refuses unknown keys of the first two levels; the parser overlooks those that hold nothing.

    Args:
        files: Configuration files.
        known: Dotted keys of the parser.

    Raises:
        ConfigError: Naming file, key and the nearest known one.
    """
    levels, sections = _levels(known), sections_of(known)
    for file in files:
        tree = read_config(file)
        for key in sorted(sections & set(tree)):
            _require_section(key, tree[key], file)
        keys = set(tree) | {
            f"{key}.{inner}" for key, value in tree.items() if isinstance(value, dict) for inner in value
        }
        for key in sorted(keys - levels):
            if key.split(".")[0] in levels or "." not in key:
                fix = f"a file gives whole lists: append with --{key} on the command line"
                fix = fix if key.endswith("+") and key[:-1] in levels else nearest_key(key, levels)
                raise ConfigError(f"unknown key {key!r}", str(file), fix, code=225)


def sections_of(known: Collection[str]) -> set[str]:
    """Keys that stand for several others.

    Args:
        known: Dotted keys of a parser.

    Example:
        >>> sections_of(["config", "quiet", "data.window", "market.help"])
        {'data'}
    """
    return {level.split(".")[0] for level in _levels(known) if "." in level and not level.endswith((".help", "config"))}


def _levels(known: Collection[str]) -> set[str]:
    """The first two levels of dotted keys."""
    return {".".join(key.split(".")[:depth]) for key in known for depth in (1, 2)}


def _require_section(key: str, value: object, file: Path) -> None:
    """Refuses what is neither keys and values, nor the name of a file that holds them."""
    if not isinstance(value, dict) and part_of(file.parent, key, value, str(file)) is None:
        what = f"the section {key} is empty" if value is None else f"{key}={value} is not a section"
        raise ConfigError(what, str(file), "write keys and values below it, or remove it", code=225)
