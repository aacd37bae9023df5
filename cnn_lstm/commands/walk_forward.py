"""`cnn-lstm walk-forward`: retrains fold by fold."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.data.splits import WalkForward
from cnn_lstm.runs.walk_forward import walk_forward


def run(argv: list[str]) -> None:
    """Runs `walk-forward`.

    Args:
        argv: `walk-forward` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm walk-forward",
        description="Trains and tests a configuration fold by fold; every other option is passed on "
        "to fit: with --ensemble N each fold is the average of N seeds.",
    )
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds; 5 by default")
    parser.add_flag("--sliding", "train on as many dates in each fold; else on all before")
    parser.add_argument(
        "--embargo", type=int, default=0, metavar="N", help="dates between the last label of a part and the next part"
    )
    parser.add_jobs()
    parser.add_folder("all folds")
    options, argv_of_fit = parser.split(argv[1:])
    folds = max(options.folds, 1)  # a number below 1 is refused by the split
    splits = [WalkForward(options.folds, fold, options.sliding, options.embargo) for fold in range(folds)]
    walk_forward(argv_of_fit, splits, options.n_jobs, options.folder, options.resume, options.cluster)
