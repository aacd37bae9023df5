"""`cnn-lstm judge`: any table of forecasts against prices, by the code of `test`."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

import pandas as pd

from cnn_lstm.commands.parser import CommandParser, filled, filled_path, words_of_prices
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.foreign.compare import comparison_text
from cnn_lstm.evaluation.foreign.files import read_forecast_file
from cnn_lstm.evaluation.foreign.judgement import PAGE, Reading, compare_forecasts, judge_forecasts
from cnn_lstm.files import make_folder
from cnn_lstm.runs.data_config import data_and_evaluation
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.training.run_folder import unused_folder


def run(argv: list[str]) -> None:
    """Runs `judge`.

    Args:
        argv: `judge`, the file, and its options.
    """
    parser = _parser()
    options, of_data = parser.split(argv[1:] or ["--help"])
    reading = Reading(_columns(options.columns), options.model, options.closes, options.cutoff, options.issued)
    set_up_messages()
    if len(options.files) > 1 and (options.cutoff or options.issued):
        fix = "judge each file by itself for these checks"
        raise ConfigError("--cutoff and --issued are about one file", parser.prog, fix, code=225)
    of_text = [reading.columns[role] for role in ("symbol", "as_of", "target_end") if role in reading.columns]
    frames = _frames(options.files, [*of_text, *filter(None, [options.issued])])
    own_split = bool(options.config) or any(word.startswith("--data.split") for word in of_data)
    data, settings = data_and_evaluation(_words(options, of_data))
    name = "-".join(frames).replace("/", "-")[:60]
    fresh = Path("runs") / f"judge-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder: Path = options.folder or unused_folder(fresh)
    make_folder(folder)
    if len(frames) > 1:
        print(comparison_text(compare_forecasts(folder, frames, data, settings, reading)))
        print(f"comparison: {folder / PAGE}")
        return
    judgement = judge_forecasts(folder, next(iter(frames.values())), data, settings, reading, own_split)
    print(judgement.text, end="")
    print(f"report: {judgement.page}")


def _frames(files: list[Path], texts: list[str]) -> dict[str, pd.DataFrame]:
    """The tables, by the names of their files."""
    names = [file.stem for file in files]
    if len(set(names)) < len(names):  # of several runs, say
        names = [f"{file.absolute().parent.name}/{file.stem}" for file in files]
    if len(set(names)) < len(names):
        raise ConfigError("two files have one name", "cnn-lstm judge", "give each file once", code=224)
    return {name: read_forecast_file(file, texts) for name, file in zip(names, files, strict=True)}


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="cnn-lstm judge",
        description="Judges forecasts that any program made: baselines that know nothing after the first forecast, the "
        "verdict, intervals, a strategy after costs, the report. Every other option is passed on, such as "
        "--data.targets [RealizedVolatility], --data.targets.horizon 5 and --evaluation.fee_bp 2.",
        epilog="The table is one of ours, or has a column for the symbol, one for the last bar that was known (as_of) "
        "or for the bar that is forecast (target_end), and one for the forecast. docs/judge.md shows other forms.",
    )
    several = "forecasts, CSV or Parquet; several files are compared with each other"
    parser.add_argument("files", metavar="FILE", type=filled_path, nargs="+", help=several)
    prices = parser.add_mutually_exclusive_group(required=True)
    prices.add_argument("--prices", metavar="FILE", nargs="+", help="price files, CSV or Parquet")
    prices.add_argument("--config", metavar="FILE", type=filled, help="a configuration whose data are meant")
    names = "the table's own names, as symbol=ticker,as_of=date,y_pred=forecast"
    parser.add_argument("--columns", metavar="OURS=THEIRS[,...]", type=filled, help=names)
    parser.add_argument("--model", metavar="NAME", type=filled, help="which model, where the table has several")
    parser.add_flag("--closes", "the forecasts are prices: judge the return since the last known close")
    parser.add_argument("--cutoff", metavar="DATE", type=filled, help="first day that the training did not know")
    parser.add_argument("--issued", metavar="COLUMN", type=filled, help="when each forecast was made")
    parser.add_argument("--folder", metavar="DIR", type=filled_path, help="where to write; runs/judge-... by default")
    return parser


def _columns(text: str | None) -> dict[str, str]:
    """Names out of `symbol=ticker,as_of=date`."""
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise ConfigError(f"--columns {text}", "cnn-lstm judge", "write symbol=ticker,as_of=date", code=225)
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _words(options: Namespace, of_data: list[str]) -> list[str]:
    """The options of the data."""
    if options.config:
        return ["--config", options.config, *of_data]
    return [*words_of_prices(options.prices), *of_data]
