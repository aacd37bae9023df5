"""`cnn-lstm --print_completion SHELL`: what a shell needs to complete commands and options, without importing any.

The options lie in options.json, which `python tools/options.py` writes from the help of each command.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of

FILE = Path(__file__).with_name("options.json")
PRINT = "--print_completion"
SHELLS = ("bash", "zsh", "tcsh")
LIKE_FIT = ("validate", "test", "predict")
# their other options are those of fit
PASS_ON = ("repeat", "walk-forward", "cross-validate", "roll", "sweep", "data")
VERBS = {"data": ("describe", "check", "build", "clean"), "rl": ("train", "evaluate")}
FOLDERS = ("--folder", "--run_dir", "--runs_dir")
FILES = (
    "--config",
    "--ckpt_path",
    "--space",
    "--output",
    "--prices",
    "--calibration_from",
    "--weights_from",
    "--known_future",
    "--static",
)
SHARED = {"--debug": "show the traceback of an error", "--json": "print the result as JSON", "--help": "the options"}

try:
    import shtab
except ImportError:  # an optional extra
    shtab = None


def completion(shell: str, commands: Mapping[str, str]) -> str:
    """The script of a shell.

    Args:
        shell: `bash`, `zsh` or `tcsh`.
        commands: What each command does, by its name.

    Raises:
        ConfigError: E225, if the shell is another one; E299, if shtab is not installed.
    """
    if shell not in SHELLS:
        raise ConfigError(f"{PRINT} {shell}", "cnn-lstm", one_of(shell, SHELLS), code=225)
    if shtab is None:
        raise ConfigError("shtab is not installed", PRINT, "pip install 'cnn-lstm[completion]'", code=299)
    text: str = shtab.complete(_parser(commands, shtab), shell=shell)
    return text


def options(commands: Mapping[str, str]) -> dict[str, list[str]]:
    """Every option that a command takes, by its name.

    Args:
        commands: As for `completion`.

    Example:
        >>> "--data.window" in options({"sweep": "search"})["sweep"]
        True
    """
    known: dict[str, list[str]] = json.loads(FILE.read_text(encoding="utf-8"))
    like = {name: "fit" if name in LIKE_FIT else name for name in commands}
    return {
        name: sorted({*known.get(like[name], []), *(known["fit"] if name in PASS_ON else [])} - SHARED.keys())
        for name in commands
    }


def _parser(commands: Mapping[str, str], library: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cnn-lstm")
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("--trust-imports", help="packages of yours that a file may name")
    parser.add_argument(PRINT, choices=SHELLS, help="print the script of a shell")
    below = parser.add_subparsers()
    for name, taken in options(commands).items():
        one = below.add_parser(name, help=commands[name], add_help=False)
        for option, meaning in SHARED.items():
            one.add_argument(option, action="store_true", help=meaning)
        for option in taken:
            action = one.add_argument(option)
            place = library.DIRECTORY if option in FOLDERS else library.FILE if option in FILES else None
            if place is not None:
                action.complete = place  # type: ignore[attr-defined]  # what shtab looks for
        if name in VERBS:
            one.add_argument("verb", choices=VERBS[name])
    return parser
