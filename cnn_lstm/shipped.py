"""The configurations that the package carries: found by their names, and written to a folder of the user's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cnn_lstm.errors import ConfigError
from cnn_lstm.files import write_whole
from cnn_lstm.hints import counted, nearest, one_of

PACKAGE = Path(__file__).resolve().parent
OPTIONS = ("--config", "-c", "--space")  # of commands, whose value may be the name of a shipped file
ENDING = ".yaml"
SENTENCE_END = re.compile(r"(?<!al)(?<=[.?])\s+(?=[A-Z]|cnn-lstm)")
NAME = re.compile(r"\w{1,40}(/\w{1,40})?")


def configs() -> Path:
    """The folder of the configurations: in a checkout it lies next to the package, elsewhere within it."""
    within = PACKAGE / "configs"
    return within if within.is_dir() else PACKAGE.parent / "configs"


def names() -> list[str]:
    """Names of all configurations, as `quickstart` or `rl/ppo`.

    Example:
        >>> {"quickstart", "rl/ppo", "sweep/quick"} <= set(names())
        True
    """
    home = configs()
    return sorted(path.relative_to(home).with_suffix("").as_posix() for path in home.rglob(f"*{ENDING}"))


def config_path(name: str) -> Path | None:
    """The shipped file of a name; None where there is none, or where the user has a file or folder of this name.

    Args:
        name: What follows `--config`.
    """
    # the value may as well be a whole configuration, which is too long for a path
    if not NAME.fullmatch(name) or Path(name).exists():
        return None
    path = configs() / f"{name}{ENDING}"
    return path if path.is_file() else None


def with_shipped(argv: Sequence[str]) -> list[str]:
    """The arguments, with the path of a shipped file in place of its name.

    Args:
        argv: Arguments of a command.

    Example:
        >>> found = with_shipped(["fit", "--config", "quickstart", "--data.window", "20"])
        >>> Path(found[2]).name, found[3:]
        ('quickstart.yaml', ['--data.window', '20'])
    """
    replaced = list(argv)
    for position, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        place = position if equals else position + 1
        if option in OPTIONS and place < len(argv) and (path := config_path(value if equals else argv[place])):
            replaced[place] = f"{option}={path}" if equals else str(path)
    return replaced


def hint(name: str) -> str:
    """What to do where `--config` names no file."""
    return f"correct --config: {near}" if (near := nearest(name, names())) else "correct --config"


def about(name: str) -> str:
    """The first sentence of the comment at the top of a configuration.

    Args:
        name: One of `names`.

    Example:
        >>> about("stocks_daily")
        'Returns over 1, 5 and 20 days of any stocks that Yahoo has.'
    """
    lines = (configs() / f"{name}{ENDING}").read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return SENTENCE_END.split(" ".join(comment))[0]


def write_configs(folder: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """Writes configurations to `folder/configs`; a file of the user's own is never overwritten.

    Args:
        folder: The user's folder.
        wanted: Names; all by default.

    Returns:
        The files that were written; a file of the same content is left as it is.

    Raises:
        ConfigError: E225, if a name is unknown; E294, if another file is in the way. Then nothing is written.
        ResourceError: If the folder cannot be written.
    """
    known = names()
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no configuration is named {name!r}", "cnn-lstm init", one_of(name, known), code=225)
    contents = {
        folder / "configs" / f"{name}{ENDING}": (configs() / f"{name}{ENDING}").read_bytes() for name in wanted or known
    }
    if changed := [file for file, content in contents.items() if file.exists() and not _holds(file, content)]:
        what = f"{counted(len(changed), 'file')} would be overwritten"
        raise ConfigError(what, str(changed[0]), "give another folder, or move your file", code=294)
    fresh = [file for file in contents if not file.exists()]
    for file in fresh:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = contents[file]
        write_whole(file, lambda partial, content=content: partial.write_bytes(content))  # type: ignore[misc]
    return fresh


def _holds(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content
