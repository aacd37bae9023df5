"""`cnn-lstm sync-tracking`: sends to MLflow what waits in the journals of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnn_lstm.commands.parser import OneLineParser
from cnn_lstm.training.tracking.sync import sync


def run(words: list[str]) -> None:
    """Runs `sync-tracking`.

    Args:
        words: `sync-tracking` and its arguments.
    """
    given = _parser().parse_args(words[1:])
    for folder in given.runs:
        print(sync(folder, given.tracking_uri))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm sync-tracking", description="Sends what waits in the run folder to MLflow, each point once."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run")
    parser.add_argument(
        "--tracking_uri", metavar="URI", help="MLflow server or database; the one that the run was sent to by default"
    )
    return parser
