"""`cnn-lstm rl`: agents on a forecaster's encoder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.runs.forecast_cli import quiet
from cnn_lstm.runs.yaml_guard import guard_parser

USAGE = """usage: cnn-lstm rl train --ckpt_path RUN/checkpoints/best.ckpt [--config FILE] [--algo ppo|a2c|sac|td3|dqn]
                         [--folder NAME] [--resume] [--market.KEY VALUE ...] [--agent.KEY VALUE ...]
       cnn-lstm rl evaluate RUN/rl/NAME

train     agents of several seeds that see what a forecaster's encoder makes of each date, in RUN/rl/NAME
evaluate  what they earn after costs on the forecaster's test dates, next to simple rules

--folder  NAME; by default made of algorithm, date and time
--resume  train the seeds that are missing in RUN/rl/NAME

The data are those of RUN/config.yaml; docs/rl.md has all keys.
"""
MODULES = {"train": "cnn_lstm.commands.rl_train", "evaluate": "cnn_lstm.commands.rl_evaluate"}
EXTRA = ("gymnasium", "stable_baselines3")


def run(argv: list[str]) -> None:
    """Runs `rl`.

    Args:
        argv: `rl`, `train` or `evaluate`, and its arguments.

    Raises:
        ConfigError: If the extra is not installed, or there is no such command.
        SystemExit: With 2, if there is no command.
    """
    if len(argv) < 2 or "--help" in argv or "-h" in argv:
        print(USAGE, end="")
        if len(argv) < 2:
            raise SystemExit(2)
        return
    if argv[1] not in MODULES:
        raise ConfigError(f"unknown command rl {argv[1]}", "", one_of(argv[1], MODULES), code=225)
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(f"rl needs {' and '.join(missing)}", "", 'pip install "cnn_lstm[rl]"', code=272)
    quiet()
    guard_parser()
    # only now, since these need the extra
    command: Callable[[list[str]], None] = importlib.import_module(MODULES[argv[1]]).run
    command(argv[2:])
