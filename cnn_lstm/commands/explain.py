"""`cnn-lstm explain`: which features and bars the forecasts of a checkpoint depend on."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from cnn_lstm.commands.parser import CommandParser, filled, filled_path
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.explanation.attribution import require_captum
from cnn_lstm.evaluation.explanation.explain import REPEATS, ROWS, explain, explain_forecast
from cnn_lstm.evaluation.explanation.page import explanation_page
from cnn_lstm.evaluation.explanation.results import Explanation, ForecastExplanation
from cnn_lstm.files import refuse_input_as_output, write_text_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.config import CLASS_DEFAULTS
from cnn_lstm.training.run_folder import OneWriter, resolve_run, writing

FILE = "explanation.html"


def run(argv: list[str]) -> None:
    """Runs `explain`.

    Args:
        argv: `explain`, its options, and the arguments of `test` that choose data and checkpoint.
    """
    options, argv_of_test = _parser().split(argv[1:] or ["--help"])
    output: Path | None = options.output
    if output is not None and output.suffix.lower() != ".html":
        raise ConfigError(f"--output {output}", "cnn-lstm explain", "end its name in .html", code=224)
    require_captum()
    cli = forecast_cli.parsed(["test", *argv_of_test])
    data = cli.build_data()
    with OneWriter("explain") as writer, writing(output, "explain"):
        folder = resolve_run("test", cli.command_config, CLASS_DEFAULTS, cli.files, None if output else writer).path
        output = output or folder / FILE
        refuse_input_as_output(output, [*cli.files, cli.command_config.ckpt_path])
        explanation = _explained(
            options, Predictor.from_checkpoint(cli.command_config.ckpt_path, allow_expired=True), data
        )
        write_text_whole(output, explanation_page(explanation))
        write_text_whole(output.with_suffix(".json"), json.dumps(explanation.to_plain(), indent=2) + "\n")
    print(f"{explanation!r}\n\nexplanation: {output}")


def _explained(options: Namespace, predictor: Predictor, data: MarketDataModule) -> Explanation | ForecastExplanation:
    if options.symbol is None and options.as_of is None:
        return explain(predictor, data, rows=options.rows, repeats=options.repeats, seed=options.seed)
    return explain_forecast(predictor, data, options.symbol, options.as_of)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="cnn-lstm explain",
        description="Integrated gradients and permutation importance of a checkpoint on the validation part, by "
        "feature and by bar; with --symbol or --as_of the parts of one forecast. Every other option is passed on to "
        "test: --config FILE, --data.KEY VALUE, and --ckpt_path best|last|FILE.",
    )
    parser.add_argument("--symbol", type=filled, metavar="NAME", help="explain one forecast of this symbol")
    parser.add_argument("--as_of", type=filled, metavar="DATE", help="its last bar, ISO; the newest one by default")
    parser.add_argument("--rows", type=int, metavar="N", default=ROWS, help=f"most windows; {ROWS} by default")
    parser.add_argument("--repeats", type=int, metavar="N", default=REPEATS, help=f"permutations; {REPEATS} by default")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the permutations; 0 by default")
    parser.add_argument(
        "--output", type=filled_path, metavar="FILE", help=f"page to write; {FILE} in the run folder by default"
    )
    return parser
