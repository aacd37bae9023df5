"""`cnn-lstm encode`: embeddings and forecasts of a whole table in one file, for whatever learns on top of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from cnn_lstm.commands.parser import OneLineParser
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.files import write_whole
from cnn_lstm.inference.embeddings import embeddings_table
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs.config import guard_parser
from cnn_lstm.runs.forecast_cli import ForecastCLI, quiet

FILE = "embeddings.parquet"


def run(words: list[str]) -> None:
    """Runs `encode`.

    Args:
        words: `encode` and its arguments.
    """
    given = _parser().parse_args(words[1:])
    if given.samples < 0:
        raise ConfigError(f"--samples {given.samples}", "cnn-lstm encode", "give 0 or more passes", code=224)
    output: Path = given.output or given.ckpt_path.with_name(FILE)
    if output.suffix.lower() not in ("", ".parquet", ".pq"):
        raise ConfigError(
            f"--output {output}", "cnn-lstm encode", "it writes Parquet: name the file .parquet", code=224
        )
    if not output.parent.is_dir() and given.output:
        raise ResourceError("cannot write the file", f"{output}: no such folder", "make the folder first", code=606)
    quiet()
    predictor = Predictor.from_checkpoint(given.ckpt_path)
    prices = PriceFiles(given.data).load(None, None, None) if given.data else _of_config(_config_of(given))
    table = embeddings_table(predictor, prices, given.samples)
    write_whole(output, lambda partial: table.to_parquet(partial, index=False))
    span = f"{table['as_of'].min():%Y-%m-%d}..{table['as_of'].max():%Y-%m-%d}"
    print(f"{len(table):,} embeddings of {table['symbol'].nunique()} symbols, {span}, in {output}")
    print(f"trained on decisions {table.attrs['training']['first'][:10]}..{table.attrs['training']['last'][:10]}")


def _config_of(given: argparse.Namespace) -> Path:
    """The configuration that says where the prices are: the given one, or that of the checkpoint's run."""
    if given.config is not None:
        return Path(given.config)
    folder = Path(given.ckpt_path).absolute().parent
    for file in (folder / "config.yaml", folder.parent / "config.yaml"):
        if file.is_file():
            return file
    raise ConfigError("no prices", f"no config.yaml beside {given.ckpt_path}", "give --data or --config", code=258)


def _of_config(file: Path) -> pd.DataFrame:
    guard_parser()
    data = ForecastCLI(["test", "--config", str(file)], run=False).build_data()
    return data.source.load(data.symbols, data.start, data.end)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm encode", description="Writes embeddings and forecasts of all windows of a price table."
    )
    parser.add_argument("--ckpt_path", metavar="FILE", type=Path, required=True, help="checkpoint of fit or repeat")
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument(
        "--data", metavar="FILE", nargs="+", help="CSV or Parquet files; by default the prices of the configuration"
    )
    prices.add_argument("--config", metavar="FILE", type=Path, help="config.yaml of the checkpoint's run by default")
    parser.add_argument("--output", metavar="FILE", type=Path, help=f"{FILE} beside the checkpoint by default")
    parser.add_argument("--samples", metavar="N", type=int, default=0, help="passes of Monte Carlo dropout: mc_std")
    return parser
