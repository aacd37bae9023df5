"""`cnn-lstm update`: an evening of a model in service."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm.commands.parser import CommandParser, filled, filled_path, words_of_prices
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs.data_config import data_of_run
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.service.live import LIVE
from cnn_lstm.service.record import keep_live
from cnn_lstm.service.update import update_run
from cnn_lstm.training.run_folder import RunFolder

PROG = "cnn-lstm update"


def run(argv: list[str]) -> None:
    """Runs `update`.

    Args:
        argv: `update`, the run folder, and its options.
    """
    options, of_data = _parser().split(argv[1:] or ["--help"])
    folder = RunFolder(options.run)
    predictor = Predictor.from_checkpoint(folder.model_file(options.ckpt_path))
    config: Path = options.config or folder.config
    data = data_of_run(config, options.config is not None, [*words_of_prices(options.prices), *of_data])
    set_up_messages()
    changes = update_run(folder.path, predictor, data, options.since)
    if changes.new or changes.known:
        keep_live(folder.path, options.tracking_uri)
    hint = f" (data.end is {data.end}: add --data.end null)" if data.end and not changes.new else ""
    print(f"{changes} in {folder.path / LIVE}{hint}")


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=PROG,
        description=f"Appends to RUN/{LIVE} the forecasts of every new bar, and fills in what has become "
        "known of earlier ones. Safe to run twice. Every other option is passed on, such as --data.end null.",
    )
    parser.add_argument("run", metavar="RUN", type=filled_path, help="folder of a run")
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument(
        "--prices", metavar="FILE", nargs="+", help="CSV or Parquet; as RUN/config.yaml says by default"
    )
    prices.add_argument("--config", "-c", metavar="FILE", type=filled_path, help="RUN/config.yaml by default")
    parser.add_argument("--since", metavar="DATE", type=filled, help="first decision, on the first update")
    parser.add_argument("--ckpt_path", metavar="FILE", type=filled, help="best, last or a file; best by default")
    meaning = "MLflow; by default MLFLOW_TRACKING_URI, else mlflow.db next to the run folder"
    parser.add_argument("--tracking_uri", metavar="URI", type=filled, help=meaning)
    return parser
