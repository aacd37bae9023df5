"""`cnn-lstm monitor`: does a model in service still work?"""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser, filled, filled_path, words_of_prices
from cnn_lstm.documents import hand_over
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs.data_config import data_and_evaluation_of_run
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.service.health import Verdict
from cnn_lstm.service.monitor import FILE, PAGE, MonitoredRun, moment_of, monitor_run
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import reopened_record

PROG = "cnn-lstm monitor"
CODES: dict[Verdict, int] = {"fine": 0, "watch": 10, "stale": 11}


def run(argv: list[str]) -> None:
    """Runs `monitor`.

    Args:
        argv: `monitor`, the run folder, and its options.

    Raises:
        SystemExit: With the exit code of the verdict, unless it is fine.
    """
    options, of_data = _parser().split(argv[1:] or ["--help"])
    folder = RunFolder(options.run)
    since, now = moment_of(options.since, "--since"), moment_of(options.now, "--now")
    predictor = Predictor.from_checkpoint(folder.model_file(options.ckpt_path))
    named = options.config is not None
    words = [*words_of_prices(options.prices), *of_data]
    data, settings = data_and_evaluation_of_run(options.config or folder.config, named, words)
    set_up_messages()
    seen = monitor_run(folder.path, predictor, data, settings, since=since, now=now, page=options.html)
    hand_over(seen.record)
    print(seen.text)
    if options.html:
        print(f"\npage: {folder.path / PAGE}")
    if seen.files and (folder.path / "tracking").is_dir():
        _record(folder, seen)
    if code := 0 if options.exit_zero else CODES[seen.verdict]:
        raise SystemExit(code)


def _record(folder: RunFolder, seen: MonitoredRun) -> None:
    """Keeps verdict, metrics and files in the run's record; a server that is down gets them later."""
    record = reopened_record(folder, None)
    with record.ended():
        record.begin("", resumed=True)
        record.log(seen.record["metrics"], seen.day)
        record.tag({"monitor.verdict": seen.verdict, "monitor.reason": seen.record["reasons"][0]})
        record.keep(*seen.files)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=PROG,
        description="Compares what a model does since it went into service with what it did in its test: losses next "
        "to a naive forecast, coverage of intervals, the forecast distribution, how new the inputs are, how old the "
        f"bars. Writes RUN/{FILE}. Every other option is passed on, such as --data.end null.",
        epilog="exit codes: 0 fine, 10 watch, 11 stale; all others as of every command",
    )
    parser.add_argument("run", metavar="RUN", type=filled_path, help="folder of a run")
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument(
        "--prices", metavar="FILE", nargs="+", help="CSV or Parquet; those of RUN/config.yaml by default"
    )
    prices.add_argument("--config", "-c", metavar="FILE", type=filled_path, help="RUN/config.yaml by default")
    parser.add_argument("--ckpt_path", metavar="FILE", type=filled, help="best, last or a file; best by default")
    since = "first day in service; by default the first that the fit did not know"
    parser.add_argument("--since", metavar="DATE", type=filled, help=since)
    parser.add_argument("--now", metavar="DATE", type=filled, help="day of the look, for the age of the bars")
    parser.add_flag("--html", f"write RUN/{PAGE}, too")
    parser.add_flag("--exit_zero", "end with 0 whatever the verdict is")
    return parser
