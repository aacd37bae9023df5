"""`cnn-lstm walk-forward`: retrains fold by fold."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnn_lstm.commands.parser import OneLineParser
from cnn_lstm.runs.together import add_jobs
from cnn_lstm.runs.walk_forward import walk_forward


def run(argv: list[str]) -> None:
    """Runs `walk-forward`.

    Args:
        argv: `walk-forward` and its arguments.
    """
    given, passed_on = _parser().parse_known_args(argv[1:])
    walk_forward(passed_on, given.folds, given.sliding, given.embargo, given.n_jobs, given.folder)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm walk-forward",
        description="Trains and tests a configuration fold by fold; every other option is passed on to fit.",
        epilog="Started again with the same --folder, it goes on where it was.",
    )
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds; 5 by default")
    parser.add_argument(
        "--sliding", action="store_true", help="train on as many dates in each fold; else on all before"
    )
    parser.add_argument(
        "--embargo", type=int, default=0, metavar="N", help="dates between the last label of a part and the next part"
    )
    add_jobs(parser)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder of all folds; made anew by default")
    return parser
