"""What the fix of a message tells a user to type next."""

from __future__ import annotations

import re
from collections.abc import Sequence

ELSEWHERE = "elsewhere"  # another name for a folder


def advised(error: str, argv: Sequence[str], original: Sequence[str]) -> list[list[str]]:
    """The command lines that a message leads to, what goes on first.

    Args:
        error: The message.
        argv: The command that was refused.
        original: The command that the crash ended.

    Example:
        >>> refused = "error[E206]: ... — choose another --run_dir, or continue it with --ckpt_path best"
        >>> advised(refused, ["fit", "--run_dir", "one"], [])
        [['fit', '--run_dir', 'one', '--ckpt_path', 'best'], ['fit', '--run_dir', 'elsewhere']]
    """
    fix = error.rpartition(" — ")[2]
    commands = []
    if match := re.search(r"cnn-lstm ([\w-]+ [^;]+)$", fix):
        commands.append(match[1].split())
    if match := re.search(r"--ckpt_path (best|last)\b", fix):
        commands.append(with_option(argv, "--ckpt_path", match[1]))
    if match := re.search(r"candidates: ([^,]+)", fix):
        commands.append(with_option(argv, "--ckpt_path", match[1].strip()))
    if re.search(r"(?<!leave )--resume", fix) and "--resume" not in argv:
        commands.append([*argv, "--resume"])
    if "add --space" in fix:
        commands.append(with_option(argv, "--space", "space.yaml"))
    if any(words in fix for words in ("leave --resume out", "train one with fit", "correct --config")):
        commands.append(list(original))
    for option in ("--run_dir", "--folder"):
        if re.search(rf"(another|a new) {option}", fix):
            fresh = [word for word in without_option(argv, "--ckpt_path") if word != "--resume"]
            commands.append(with_option(fresh, option, ELSEWHERE))
    return [command for command in commands if command]


def asks_to_wait(error: str) -> bool:
    """Whether a message says that the same command works later: a process that a crash left behind is still at work.

    Args:
        error: The message.

    Example:
        >>> asks_to_wait("error[E243]: another command is at work here — runs/one: cnn-lstm fit — wait for its end")
        True
    """
    return error.rpartition(" — ")[2].startswith("wait for its end")


def with_option(argv: Sequence[str], option: str, value: str) -> list[str]:
    """The command line with an option set."""
    if option not in argv:
        return [*argv, option, value]
    place = list(argv).index(option)
    return [*argv[: place + 1], value, *argv[place + 2 :]]


def without_option(argv: Sequence[str], option: str) -> list[str]:
    """The command line without an option and its value."""
    if option not in argv:
        return list(argv)
    place = list(argv).index(option)
    return [*argv[:place], *argv[place + 2 :]]
