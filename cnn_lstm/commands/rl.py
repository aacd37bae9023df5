"""`cnn-lstm rl`: agents on a forecaster's encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.runs.messages import set_up_messages

USAGE = """usage: cnn-lstm rl train --ckpt_path RUN/checkpoints/best.ckpt [--config FILE] [--algo ppo|a2c|sac|td3|dqn]
                         [--folder NAME] [--resume] [--market.KEY VALUE ...] [--agent.KEY VALUE ...]
       cnn-lstm rl evaluate RUN/rl/NAME

train     train agents of several seeds, which see a forecaster's embedding of each date, in RUN/rl/NAME
evaluate  report what they earn after costs on the forecaster's test dates, next to simple rules

--folder  NAME; by default made of algorithm, date and time
--resume  train the seeds that are missing in RUN/rl/NAME

The data are those of RUN/config.yaml; docs/rl.md lists all keys.
"""
COMMANDS = ("train", "evaluate")
EXTRA = ("gymnasium", "stable_baselines3")


def run(argv: list[str]) -> None:
    """Runs `rl`.

    Args:
        argv: `rl`, `train` or `evaluate`, and its arguments.

    Raises:
        ConfigError: E225, if the command is unknown; E272, if the extra is not installed.
        SystemExit: With 2, if the command is missing.
    """
    if len(argv) < 2 or "--help" in argv or "-h" in argv:
        print(USAGE, end="")
        if len(argv) < 2:
            raise SystemExit(2)
        return
    command, *rest = argv[1:]
    if command not in COMMANDS:
        raise ConfigError(f"unknown command rl {command}", "", one_of(command, COMMANDS), code=225)
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(f"rl needs {' and '.join(missing)}", "", 'pip install "cnn_lstm[rl]"', code=272)
    set_up_messages()
    if command == "train":
        _train(rest)
    else:
        _evaluate(rest)


def _train(argv: list[str]) -> None:
    from cnn_lstm.rl.job import parse_config
    from cnn_lstm.rl.training import train

    parser = CommandParser(prog="cnn-lstm rl train", renamed={"--name": "--folder"}, add_help=False)
    parser.add_argument("--algo")
    parser.add_flag("--resume", "train the seeds that are missing in --folder")
    options, rest = parser.split(argv)
    config = parse_config([*rest, *([f"--agent.algo={options.algo}"] if options.algo else [])])
    folder, here = train(config, options.resume), Path.cwd()
    typed = folder.relative_to(here) if folder.is_relative_to(here) else folder  # as short as it can be typed here
    print(f"agents: {folder}\nevaluate them: cnn-lstm rl evaluate {typed}")


def _evaluate(argv: list[str]) -> None:
    from cnn_lstm.rl.evaluation import evaluate

    option = next((argument for argument in argv if argument.startswith("-")), None)
    if option:
        fix = "it takes the folder alone; all settings are those that the agents learnt with"
        raise ConfigError(f"unknown option {option}", "rl evaluate", fix, code=225)
    if len(argv) != 1:
        what = "several folders" if argv else "no agents of rl train"
        raise ConfigError(what, f"rl evaluate {' '.join(argv)}".strip(), "give one folder of rl train", code=273)
    files = evaluate(Path(argv[0]))
    print(files.text.read_text(encoding="utf-8"), end="")
    print(f"evaluation: {files.report}\nreport: {files.page}")
