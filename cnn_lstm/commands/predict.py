"""`cnn-lstm predict`: the forecasts of a checkpoint, also where nothing but PyTorch and pandas is installed.

With Lightning a trainer makes them, as in every command of a run. Without it, and for a table of prices that no
configuration names, the checkpoint alone does; the forecasts are the same.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cnn_lstm.commands.parser import CommandParser, filled, filled_path
from cnn_lstm.data.predictions import predictions_blocks
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.files import refuse_input_as_output
from cnn_lstm.inference.outputs import with_intervals, write_csv_of, write_table_of
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import refuse_expired
from cnn_lstm.model.training_data import contract_with
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.training.run_folder import RunFolder, named_run, run_of_checkpoint, writing

PROG = "cnn-lstm predict"
FILE = "forecasts.parquet"
PRICES = "--prices"


def run(argv: list[str]) -> None:
    """Runs `predict`.

    Args:
        argv: `predict` and its arguments.
    """
    of_table = any(word.partition("=")[0] == PRICES for word in argv)
    if not of_table:
        try:
            from cnn_lstm.commands import fit
        except ModuleNotFoundError as error:
            if str(error.name).startswith("cnn_lstm"):
                raise
        else:
            fit.run(argv)
            return
    _alone(argv[1:], of_table)


def _alone(argv: Sequence[str], of_table: bool) -> None:
    """Forecasts without a trainer."""
    options, rest = _parser().split(argv)
    _require_fitting(options, rest, of_table)
    checkpoint = _checkpoint(options)
    place = checkpoint.with_name(FILE) if of_table else _run_of(options, checkpoint).path / FILE
    output: Path = options.output or place
    refuse_input_as_output(output, [*(options.prices or []), *filter(None, (options.known_future, options.static))])
    set_up_messages()
    with writing(output, "predict"):
        predictor = Predictor.from_checkpoint(checkpoint, allow_expired=options.allow_expired)
        panel, rows = _of_files(predictor, options) if of_table else _of_config(predictor, options, rest)
        contract, columns = predictor.forecaster.contract, predictor.forecast_rows(panel, rows)
        blocks = predictions_blocks(panel, predictor.targets, rows, columns, contract.target_mean)
        widened = with_intervals(blocks, contract.calibration, contract.boundaries.test)
        written = write_table_of(output, widened, len(rows) * len(predictor.targets))
        if options.csv:
            write_csv_of(output, output.with_suffix(".csv"))
    print(f"{written.summary('forecast')}, in {output}")


def _require_fitting(options: Namespace, rest: Sequence[str], of_table: bool) -> None:
    """Refuses options of one kind of prices with the other, and no prices at all."""
    if not of_table and not options.config:
        raise ConfigError("no prices", PROG, f"give {PRICES} FILE, or the --config of a run", code=258)
    wrong = (rest or ["--config"])[:1] if of_table and (rest or options.config) else []
    if not of_table:
        of_files = ("--output", "--start", "--known_future", "--static")
        wrong = [name for name in of_files if getattr(options, name[2:]) is not None]
    if wrong:
        kind = PRICES if of_table else "--config"
        raise ConfigError(f"{wrong[0]} with {kind}", PROG, f"leave out {wrong[0]} or {kind}", code=225)


def _checkpoint(options: Namespace) -> Path:
    """The checkpoint file; `best` and `last` are those of a run."""
    if options.ckpt_path is None:
        fix = "add --ckpt_path RUN/checkpoints/best.ckpt, or best|last with --run_dir RUN"
        raise CheckpointError("predict needs a checkpoint", fix=fix, code=437)
    if options.ckpt_path in ("best", "last"):
        return named_run(options.run_dir, options.config or []).checkpoint(options.ckpt_path)
    return Path(options.ckpt_path)


def _run_of(options: Namespace, checkpoint: Path) -> RunFolder:
    return RunFolder(Path(options.run_dir)) if options.run_dir else run_of_checkpoint(checkpoint)


def _of_files(predictor: Predictor, options: Namespace) -> tuple[Panel, Rows]:
    """Every complete window of the tables, or those since a day."""
    predictor.keep(options.known_future, options.static)
    panel, rows, _ = predictor.windows(PriceFiles(options.prices).load(None, None, None), options.start)
    return panel, rows


def _of_config(predictor: Predictor, options: Namespace, rest: Sequence[str]) -> tuple[Panel, Rows]:
    """The windows that the trainer would take for this configuration."""
    from cnn_lstm.runs.data_config import data_of

    contract = predictor.forecaster.contract
    data = data_of([*(f"--config={file}" for file in options.config), *rest], "test")
    data.keep_dates(contract.boundaries)
    data.keep_gap_limit(contract.gap_limit)
    data.setup()
    contract_with(contract, data, refuse_other_prices=False)  # or windows could be cut from rows of another length
    rows = data.rows_to_predict()
    refuse_expired(contract, data.panel.time[rows].max() if len(rows) else None)
    return data.panel, rows


def _parser() -> CommandParser:
    parser = CommandParser(prog=PROG, description="Writes the forecasts of a checkpoint for a table of prices.")
    parser.add_argument("--ckpt_path", metavar="FILE", type=filled, help="of fit or repeat; best or last with a run")
    parser.add_argument(PRICES, metavar="FILE", nargs="+", help="CSV or Parquet files")
    parser.add_argument("--known_future", metavar="FILE", type=filled, help="facts known ahead, next to --prices")
    parser.add_argument("--static", metavar="FILE", type=filled, help="static columns, next to --prices")
    meaning = "of the run, whose prices are taken; it needs jsonargparse"
    parser.add_argument("--config", "-c", metavar="FILE", type=filled_path, action="append", help=meaning)
    parser.add_argument("--run_dir", metavar="DIR", type=filled, help="run that best and last belong to")
    parser.add_argument(
        "--output", metavar="FILE", type=filled_path, help=f"{FILE} next to the checkpoint, or in the run"
    )
    parser.add_argument("--start", metavar="DATE", help="first day of a decision; all by default")
    parser.add_flag("--allow_expired", "take a checkpoint that has expired")
    parser.add_flag("--csv", "write a CSV file next to it, too")
    parser.add_flag("--quiet", "say nothing but the result, as this command does without it")
    return parser
