"""`cnn-lstm repeat`: trains and tests a configuration with several seeds."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.runs.repeat import FIRST_SEED, repeat


def run(argv: list[str]) -> None:
    """Runs `repeat`.

    Args:
        argv: `repeat` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm repeat",
        description="Trains and tests a configuration with several seeds; every other option is passed on to fit.",
        renamed={"--repeat_dir": "--folder"},
    )
    parser.add_argument("--seeds", metavar="N|S,S,...", default="5", help="how many seeds, or which; 5 by default")
    parser.add_argument("--first_seed", type=int, metavar="S", help=f"the first of N seeds, {FIRST_SEED} by default")
    parser.add_jobs()
    parser.add_folder("all runs")
    options, argv_of_fit = parser.split(argv[1:])
    of_seeds = (options.seeds, options.first_seed, options.n_jobs)
    repeat(argv_of_fit, *of_seeds, options.folder, options.resume, options.cluster)
