"""What all command lines have in common: flags without a value, and the files of `--config`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import get_args

import jsonargparse


def explicit_flags(argv: Sequence[str], flags: Collection[str]) -> list[str]:
    """Gives each flag its value: `--quiet` means `--quiet=true`, and `--no_quiet` means `--quiet=false`.

    Args:
        argv: Arguments of a command.
        flags: Names of the options that are true or false.

    Example:
        >>> explicit_flags(["--quiet", "--no_mlflow", "--csv", "false", "--seed", "1"], {"quiet", "mlflow", "csv"})
        ['--quiet=true', '--mlflow=false', '--csv', 'false', '--seed', '1']
    """
    explicit = []
    for argument, following in zip(argv, [*argv, "-"][1:], strict=True):
        name = argument[2:] if argument.startswith("--") else ""
        if name in flags and following.startswith("-"):
            argument = f"--{name}=true"
        elif name not in flags and name.startswith("no_") and name[3:] in flags:
            argument = f"--{name[3:]}=false"
        explicit.append(argument)
    return explicit


def flags_of(parser: jsonargparse.ArgumentParser) -> set[str]:
    """Names of a parser's options that may be true or false."""
    hints = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    return {name for name, hint in hints.items() if bool in (hint, *get_args(hint)) and not name.endswith(".help")}


def config_files(argv: Sequence[str]) -> list[Path]:
    """Files given by `--config` or `-c`, in order.

    Args:
        argv: Arguments of a command.

    Example:
        >>> [str(file) for file in config_files(["--config", "a.yaml", "--run_dir", "x", "--config=b.yaml"])]
        ['a.yaml', 'b.yaml']
    """
    files: list[Path] = []
    replace_configs(argv, lambda file: files.append(file))
    return files


def replace_configs(argv: Sequence[str], content: Callable[[Path], str | None]) -> list[str]:
    """The arguments, with something else in place of each file that `--config` or `-c` names.

    Args:
        argv: Arguments of a command.
        content: What takes the place of a file; None leaves it.
    """
    replaced = list(argv)
    for position, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        if option not in ("--config", "-c") or not (equals or argv[position + 1 :]):
            continue
        text = content(Path(value if equals else argv[position + 1]))
        if text is not None:
            replaced[position if equals else position + 1] = f"{option}={text}" if equals else text
    return replaced


def word_of(path: Path) -> str:
    """A path as an argument that is not an option, whatever a configuration or a folder is called.

    Without this, a folder `--trust-imports=x` in a command that we start would be an option of the user.

    Args:
        path: The path.

    Example:
        >>> word_of(Path("runs/a")), word_of(Path("--trust-imports=x"))
        ('runs/a', './--trust-imports=x')
    """
    return f"./{path}" if str(path).startswith("-") else str(path)
