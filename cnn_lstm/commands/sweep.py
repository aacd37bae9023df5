"""`cnn-lstm sweep`: searches for better settings, by ordinary runs that Optuna proposes and ends early."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser, filled, filled_path
from cnn_lstm.sweeps.search import SweepOptions, search


def run(argv: list[str]) -> None:
    """Runs `sweep`.

    Args:
        argv: `sweep` and its arguments; those that are not listed here go to `fit`.
    """
    parser = CommandParser(
        prog="cnn-lstm sweep",
        description="Searches a space of settings by fits that are judged on the validation part; every other option "
        "is passed on to fit.",
        epilog="The same command on several machines with one --storage shares one study.",
    )
    parser.add_argument("--space", type=filled_path, metavar="FILE", help="YAML: space, sampler, pruner, objectives")
    parser.add_argument("--n_trials", type=int, metavar="N", help="trials to finish; 50 by default")
    parser.add_jobs("worker processes")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="ends the sweep with the best so far")
    parser.add_argument("--keep", type=int, metavar="N", help="best trials that keep their checkpoints; 3 by default")
    parser.add_argument("--refit", type=int, metavar="N", help="train and test the best with N seeds; 0 by default")
    parser.add_folder("all trials")
    parser.add_argument("--storage", type=filled, metavar="URL", help="database; study.db in the folder by default")
    parser.add_argument("--study_name", type=filled, metavar="NAME", help="name of the study in the database")
    options, argv_of_fit = parser.split(argv[1:])
    search(SweepOptions.of(vars(options)), argv_of_fit)
