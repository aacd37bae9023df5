"""`cnn-lstm encode`: embeddings and forecasts of a whole table in one file, for whatever learns on top of them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pandas as pd

from cnn_lstm.commands.parser import CommandParser, filled_path
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.files import refuse_input_as_output
from cnn_lstm.inference.embeddings import EmbeddingBlocks
from cnn_lstm.inference.outputs import write_table_of
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.training.run_folder import run_of_checkpoint, writing

FILE = "embeddings.parquet"


def run(argv: list[str]) -> None:
    """Runs `encode`.

    Args:
        argv: `encode` and its arguments.
    """
    options = _parser().options(argv[1:])
    output = _output(options)
    set_up_messages()
    with writing(output, "encode"):
        predictor = Predictor.from_checkpoint(options.ckpt_path, allow_expired=options.allow_expired)
        table = EmbeddingBlocks(predictor, _prices(options, predictor), options.samples)
        written = write_table_of(output, table.blocks(), table.rows)
    print(f"{written.summary('embedding')}, in {output}")
    trained = table.attrs["training"]
    print(f"trained on decisions {trained['first'][:10]}..{trained['last'][:10]}")


def _output(options: Namespace) -> Path:
    """The file to write; refuses what cannot be written, or not be computed, before any work."""
    if options.samples < 0:
        raise ConfigError(f"--samples {options.samples}", "cnn-lstm encode", "give 0 or more passes", code=224)
    output: Path = options.output or options.ckpt_path.with_name(FILE)
    if output.suffix.lower() not in ("", ".parquet", ".pq"):
        raise ConfigError(
            f"--output {output}", "cnn-lstm encode", "it writes Parquet: name the file .parquet", code=224
        )
    if not output.parent.is_dir() and options.output:
        raise ResourceError("cannot write the file", f"{output}: no such folder", "make the folder first", code=606)
    refuse_input_as_output(output, [*(options.data or []), *filter(None, (options.known_future, options.static))])
    return output


def _prices(options: Namespace, predictor: Predictor) -> pd.DataFrame:
    """The prices of --data, else those of --config, else those of the checkpoint's run.

    The predictor keeps the tables next to them, those of the options first.
    """
    if options.data:
        predictor.keep(options.known_future, options.static)
        return PriceFiles(options.data).load(None, None, None)
    folder = options.ckpt_path.absolute().parent
    kept = [run_of_checkpoint(options.ckpt_path).config, folder / "config.yaml", folder.parent / "config.yaml"]
    files = [options.config] if options.config else kept
    file = next((file for file in files if options.config or file.is_file()), None)
    if file is None:
        where = f"no config.yaml next to {options.ckpt_path}"
        raise ConfigError("no prices", where, "give --data or --config", code=258)
    from cnn_lstm.runs.data_config import data_of_run

    data = data_of_run(file, named=bool(options.config))
    tables = data.recipe.tables
    if tables is not None:
        predictor.keep(tables.known_future, tables.static)
    predictor.keep(options.known_future, options.static)
    return data.load()


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="cnn-lstm encode", description="Writes embeddings and forecasts of all windows of a price table."
    )
    parser.add_argument("--ckpt_path", metavar="FILE", type=filled_path, required=True, help="of fit or repeat")
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument(
        "--data",
        "--prices",
        metavar="FILE",
        nargs="+",
        help="CSV or Parquet; by default those of the configuration",
    )
    prices.add_argument("--config", metavar="FILE", type=filled_path, help="that of the checkpoint's run by default")
    default = "those of the configuration by default"
    parser.add_argument("--known_future", metavar="FILE", help=f"facts known ahead; {default}")
    parser.add_argument("--static", metavar="FILE", help=f"static columns; {default}")
    parser.add_argument("--output", metavar="FILE", type=filled_path, help=f"{FILE} next to the checkpoint by default")
    parser.add_flag("--allow_expired", "take a checkpoint that has expired")
    parser.add_argument("--samples", metavar="N", type=int, default=0, help="passes of Monte Carlo dropout: mc_std")
    return parser
