"""The options of a command that are not keys of a configuration."""

from __future__ import annotations

import argparse
import json
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import nearest, refuse_renamed

FLAG_VALUES = {"true": True, "false": False}


class CommandParser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, with our exit code and the option or choice that was probably meant.

    Args:
        prog: What the user calls.
        description: What it does.
        epilog: What else there is to say.
        renamed: The new option by the old one.
        add_help: Whether it answers `--help`.
    """

    def __init__(
        self,
        prog: str,
        description: str = "",
        epilog: str | None = None,
        renamed: Mapping[str, str] | None = None,
        add_help: bool = True,
    ) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False, add_help=add_help)
        self._renamed = renamed or {}

    def add_flag(self, name: str, meaning: str) -> None:
        """Adds an option that is false by default: `--name`, `--name true`, `--no_name`.

        Args:
            name: The option.
            meaning: What it does, for `--help`.
        """
        self.add_argument(name, nargs="?", const=True, default=False, type=_truth, metavar="true|false", help=meaning)
        self.add_argument(
            f"--no_{name[2:]}", dest=name[2:], action="store_false", default=False, help=argparse.SUPPRESS
        )

    def add_folder(self, holds: str) -> None:
        """Adds `--folder` and `--resume`.

        Args:
            holds: What the folder holds, for `--help`.
        """
        self.add_argument("--folder", type=filled_path, metavar="DIR", help=f"folder of {holds}; a new one by default")
        self.add_flag("--resume", "go on in --folder where it stopped")

    def add_jobs(self, what: str = "runs at a time") -> None:
        """Adds `--n_jobs` and `--cluster`.

        Args:
            what: What there are so many of, for `--help`.
        """
        meaning = f"{what}; 1 by default, with --cluster as many as it has room for"
        self.add_argument("--n_jobs", type=int, metavar="N", help=meaning)
        meaning = "train on a Ray cluster: auto, or ray://HOST:PORT"
        self.add_argument("--cluster", type=filled, metavar="ADDRESS", help=meaning)

    def options(self, argv: Sequence[str]) -> Namespace:
        """The options of a command that takes no others.

        Args:
            argv: Arguments of the command.

        Raises:
            ConfigError: E225, if one is unknown or wrong.
        """
        refuse_renamed(argv, self._renamed, self.prog)
        return self.parse_args(argv)

    def split(self, argv: Sequence[str]) -> tuple[Namespace, list[str]]:
        """The options of a command, and what is left for the parser of a configuration.

        Args:
            argv: Arguments of the command.

        Raises:
            ConfigError: E225, if one is wrong.
        """
        refuse_renamed(argv, self._renamed, self.prog)
        return self.parse_known_args(argv)

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            ConfigError: Always.
        """
        unknown = re.search(r"unrecognized arguments: (\S+)|invalid choice: '(.*?)' ", message)
        known = list(self._option_string_actions)
        if unknown and unknown[2]:
            known = [name for action in self._actions for name in action.choices or ()]
        hint = unknown and nearest((unknown[1] or unknown[2]).partition("=")[0], known)
        raise ConfigError(message, self.prog, hint or f"see {self.prog} --help", code=225)


def filled(text: str) -> str:
    """The text of an option that must not be empty: a shell leaves `--folder "$UNSET"` empty.

    Args:
        text: What the user gives.

    Raises:
        ArgumentTypeError: If it is.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: give a value, or leave it out")
    return text


def filled_path(text: str) -> Path:
    """`filled`, as a path; an empty one would be the current folder.

    Args:
        text: What the user gives.

    Raises:
        ArgumentTypeError: If it is empty.
    """
    return Path(filled(text))


def words_of_prices(paths: Sequence[str] | None) -> list[str]:
    """The options of data that `--prices FILE ...` stands for.

    Args:
        paths: The files; None or empty, where the configuration says what the prices are.

    Example:
        >>> words_of_prices(["prices.csv"])
        ['--data.source', 'PriceFiles', '--data.source.paths=["prices.csv"]']
    """
    if not paths:
        return []
    return ["--data.source", "PriceFiles", f"--data.source.paths={json.dumps(list(paths), ensure_ascii=False)}"]


def _truth(text: str) -> bool:
    if text.lower() not in FLAG_VALUES:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return FLAG_VALUES[text.lower()]
