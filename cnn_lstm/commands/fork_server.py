"""The internal process that starts the processes of other commands warm."""

from __future__ import annotations

from cnn_lstm.runs.fork_server import served

# what fit, test and a worker of a sweep import, now or at their first use
MODULES = (
    "cnn_lstm.commands.fit",
    "cnn_lstm.commands.sweep_worker",
    "cnn_lstm.evaluation.judge",
    "cnn_lstm.training.tracking.store",
    "matplotlib.backends.backend_agg",
)


def next_command() -> list[str] | None:
    """Serves; returns the arguments of a command in each process that was forked for one, and None at the end."""
    return served(MODULES)
