"""`cnn-lstm rl`: agents on a forecaster's encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cnn_lstm.commands.parser import CommandParser, filled, filled_path
from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.runs.messages import set_up_messages

USAGE = """usage: cnn-lstm rl train --ckpt_path RUN/checkpoints/best.ckpt [--config FILE] [--algo ppo|a2c|sac|td3|dqn]
                         [--folder NAME] [--resume] [--market.KEY VALUE ...] [--agent.KEY VALUE ...]
       cnn-lstm rl evaluate RUN/rl/NAME
       cnn-lstm rl sweep --space FILE --ckpt_path RUN/checkpoints/best.ckpt [--config FILE] [--folder DIR] [--resume]
                         [--n_trials N] [--n_jobs N] [--timeout SECONDS] [--keep N] [--storage URL] [--study_name NAME]
                         [--algo ALGO] [--market.KEY VALUE ...] [--agent.KEY VALUE ...]

train     train agents of several seeds, which see a forecaster's embedding of each date, in RUN/rl/NAME
evaluate  report what they earn after costs on the forecaster's test dates, next to simple rules
sweep     search a space of settings with Optuna; trials are judged on dates of the validation part

--folder  NAME; by default made of algorithm, date and time; of sweep a folder, by default RUN/rl/sweep-DATE-TIME
--resume  train the seeds that are missing in RUN/rl/NAME; go on with the sweep in DIR

The data are those of RUN/config.yaml; docs/rl.md lists all keys.
"""
COMMANDS = ("train", "evaluate", "sweep")
EXTRA = ("gymnasium", "stable_baselines3")


def run(argv: list[str]) -> None:
    """Runs `rl`.

    Args:
        argv: `rl`, one of its commands, and the arguments of that.

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
    {"train": _train, "evaluate": _evaluate, "sweep": _sweep}[command](rest)


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


def _sweep(argv: list[str]) -> None:
    from cnn_lstm.agent_sweeps.search import search
    from cnn_lstm.sweeps.search import SweepOptions

    parser = CommandParser(prog="cnn-lstm rl sweep", add_help=False)
    parser.add_argument("--algo")
    parser.add_folder("all trials")
    for name, kind in (("n_trials", int), ("n_jobs", int), ("timeout", float), ("keep", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--space", type=filled_path)
    parser.add_argument("--storage", type=filled)
    parser.add_argument("--study_name", type=filled)
    options, rest = parser.split(argv)
    algo = vars(options).pop("algo")
    search(SweepOptions.of(vars(options)), [*rest, *([f"--agent.algo={algo}"] if algo else [])])


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
