"""`cnn-lstm repeat`: trains and tests a configuration with several seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnn_lstm.commands.parser import OneLineParser
from cnn_lstm.runs.repeat import FIRST_SEED, repeat
from cnn_lstm.runs.together import add_jobs


def run(argv: list[str]) -> None:
    """Runs `repeat`.

    Args:
        argv: `repeat` and its arguments.
    """
    given, passed_on = _parser().parse_known_args(argv[1:])
    repeat(passed_on, given.seeds, given.first_seed, given.n_jobs, given.repeat_dir)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm repeat",
        description="Trains and tests a configuration with several seeds; every other option is passed on to fit.",
        epilog="Started again with the same --repeat_dir, it goes on where it was.",
    )
    parser.add_argument("--seeds", metavar="N|S,S,...", default="5", help="how many seeds, or which; 5 by default")
    parser.add_argument("--first_seed", type=int, metavar="S", help=f"the first of N seeds, {FIRST_SEED} by default")
    add_jobs(parser)
    parser.add_argument("--repeat_dir", type=Path, metavar="DIR", help="folder of all runs; made anew by default")
    return parser
