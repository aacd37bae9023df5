"""`cnn-lstm sync-tracking`: sends to MLflow what waits in the journals of runs."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser, filled, filled_path
from cnn_lstm.training.tracking.delivery import sync


def run(argv: list[str]) -> None:
    """Runs `sync-tracking`.

    Args:
        argv: `sync-tracking` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm sync-tracking", description="Sends what waits in the run folder to MLflow, each point once."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=filled_path, help="folder of a run")
    parser.add_argument(
        "--tracking_uri",
        metavar="URI",
        type=filled,
        help="server or database; by default MLFLOW_TRACKING_URI, else mlflow.db next to the run folder",
    )
    options = parser.options(argv[1:])
    for folder in options.runs:
        print(sync(folder, options.tracking_uri))
