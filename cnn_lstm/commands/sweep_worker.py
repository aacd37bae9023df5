"""The processes of a sweep, which are not for users: a worker, and a trial that trains in several processes."""

from __future__ import annotations

import sys

from cnn_lstm.sweeps.trial import TRIAL_COMMAND, fit_of_environment, work


def run(argv: list[str]) -> None:
    """Runs a worker, whose plan comes by the pipe that also ends it, or a trial.

    Args:
        argv: The command, and the arguments of `fit` of a trial.
    """
    if argv[0] == TRIAL_COMMAND:
        fit_of_environment(argv[1:])
    elif text := sys.stdin.readline():  # empty where the sweep has ended already
        work(text, sys.stdin)
