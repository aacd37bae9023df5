"""`cnn-lstm cross-validate`: fits every combination of test groups, and judges the paths through them."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.data.splits import CPCV
from cnn_lstm.runs.cross_validation import cross_validate


def run(argv: list[str]) -> None:
    """Runs `cross-validate`.

    Args:
        argv: `cross-validate` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm cross-validate",
        description="Combinatorial purged cross-validation: trains a configuration on every choice of test groups, and "
        "judges the paths that their forecasts make; every other option is passed on to fit.",
    )
    parser.add_argument("--groups", type=int, default=6, metavar="N", help="groups of dates; 6 by default")
    parser.add_argument("--test_groups", type=int, default=2, metavar="K", help="groups that a fit is tested on; 2")
    meaning = "share of the other dates that chooses the best epoch; 0.2 by default"
    parser.add_argument("--validation", type=float, default=0.2, metavar="SHARE", help=meaning)
    meaning = "dates that stay free around each stretch, next to what is purged"
    parser.add_argument("--embargo", type=int, default=0, metavar="N", help=meaning)
    parser.add_jobs()
    parser.add_folder("all fits")
    options, argv_of_fit = parser.split(argv[1:])
    settings = options.groups, options.test_groups
    first = CPCV(*settings, 0, options.validation, options.embargo)
    splits = [CPCV(*settings, number, options.validation, options.embargo) for number in range(first.fits)]
    cross_validate(argv_of_fit, splits, options.n_jobs, options.folder, options.resume, options.cluster)
