"""`cnn-lstm plot`: draws a run, or several side by side, from their metrics.csv."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm.commands.parser import CommandParser, filled_path
from cnn_lstm.training.history import PLOT_FILE, curves_of
from cnn_lstm.training.history_plot import draw_history
from cnn_lstm.training.run_folder import writing


def run(argv: list[str]) -> None:
    """Runs `plot`.

    Args:
        argv: `plot` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm plot", description="Draws the history of a run, or the validation curves of several."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=filled_path, help="folder of a run, or of an ensemble")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=filled_path,
        help=f"PNG, PDF or SVG to write; RUN/{PLOT_FILE} for one run, {PLOT_FILE} in the current folder for several",
    )
    options = parser.options(argv[1:])
    target = options.output or (options.runs[0] / PLOT_FILE if len(options.runs) == 1 else Path(PLOT_FILE))
    with writing(target, "plot"):
        draw_history([folder for run in options.runs for folder in curves_of(run)], target)
    print(target)
