"""`cnn-lstm init`: the configurations that the package carries, in a folder of the user's."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm import shipped
from cnn_lstm.commands.parser import CommandParser, filled_path
from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import counted


def run(argv: list[str]) -> None:
    """Runs `init`.

    Args:
        argv: `init` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm init",
        description="Writes configurations to FOLDER/configs, where the commands of the guide find them. "
        "--config also takes a name of the list as it is: cnn-lstm fit --config quickstart",
    )
    parser.add_argument("folder", metavar="FOLDER", type=filled_path, nargs="?", help="yours; made if it is not there")
    parser.add_argument("names", metavar="NAME", nargs="*", help="which ones, as quickstart or rl/ppo; all by default")
    parser.add_flag("--list", "show the names and what each is for, and write nothing")
    options = parser.options(argv[1:])
    if options.list:
        print("\n".join(f"{name:<26} {shipped.about(name)}" for name in shipped.names()))
        return
    if options.folder is None:
        raise ConfigError("no folder was given", parser.prog, "name one, or add --list", code=225)
    written = shipped.write_configs(options.folder, options.names)
    print(f"{counted(len(written), 'file')} written to {options.folder / 'configs'}")
    print(_next(options.folder, options.names))


def _next(folder: Path, names: list[str]) -> str:
    """The command to go on with."""
    trained = [name for name in names or ["quickstart"] if "/" not in name]
    where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    return f"next: {where}cnn-lstm fit --config configs/{trained[0]}.yaml" if trained else "see docs/command_line.md"
