"""`cnn-lstm roll`: refits as time goes on; a new model takes over where it is better on unseen dates."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser, filled
from cnn_lstm.service.roll import roll
from cnn_lstm.service.roll_plan import Words


def run(argv: list[str]) -> None:
    """Runs `roll`.

    Args:
        argv: `roll` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm roll",
        description="Refits a configuration step by step in time, and lets the new model take over where it is better "
        "on dates that neither has seen. Every other option is passed on to fit.",
    )
    meaning = "from one step to the next: 20bars, 2w, 3mo, 1y"
    parser.add_argument("--every", type=filled, metavar="SPAN", help=meaning)
    meaning = "date of the first step; the first of the test part by default"
    parser.add_argument("--from", type=filled, dest="first", metavar="DATE", help=meaning)
    meaning = "where the walk ends; after the last bar by default"
    parser.add_argument("--until", type=filled, metavar="DATE", help=meaning)
    meaning = "before each step, to judge champion and challenger on; that of --every by default"
    parser.add_argument("--judge_on", type=filled, metavar="SPAN", help=meaning)
    meaning = "that a champion may forecast after the next step was due; that of --every by default"
    parser.add_argument("--grace", type=filled, metavar="SPAN", help=meaning)
    parser.add_flag("--warm_start", "begin each fit with the weights of the one before")
    parser.add_jobs()
    parser.add_folder("all steps")
    options, argv_of_fit = parser.split(argv[1:])
    words = Words(
        options.every, options.judge_on, options.grace, options.first, options.until, options.warm_start or None
    )
    roll(argv_of_fit, words, options.n_jobs, options.folder, options.resume, options.cluster)
