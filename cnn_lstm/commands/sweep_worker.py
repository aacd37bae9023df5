"""The internal processes of a sweep: a worker, and a trial that trains in several processes."""

from __future__ import annotations

import sys

from cnn_lstm.sweeps.trial import TRIAL_COMMAND, fit_of_environment
from cnn_lstm.sweeps.worker import work


def run(argv: list[str]) -> None:
    """Runs `sweep-worker` or `sweep-trial`.

    Args:
        argv: The command; for a trial also the arguments of its `fit`.
    """
    if argv[0] == TRIAL_COMMAND:
        fit_of_environment(argv[1:])
    else:
        work(sys.stdin)
