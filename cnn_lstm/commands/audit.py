"""`cnn-lstm audit`: checks on the user's data, features, split and checkpoint that nothing looks ahead."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser, filled_path
from cnn_lstm.evaluation.audit.run_audit import audit_files
from cnn_lstm.files import refuse_input_as_output
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.config import CLASS_DEFAULTS
from cnn_lstm.training.run_folder import OneWriter, resolve_run, writing

FILE = "audit.json"


def run(argv: list[str]) -> None:
    """Runs `audit`.

    Args:
        argv: `audit`, its options, and the arguments of `test` that choose data and checkpoint.

    Raises:
        ValidityError: If a check failed.
    """
    options, argv_of_test = _parser().split(argv[1:] or ["--help"])
    cli = forecast_cli.parsed(["test", *argv_of_test])
    config, output = cli.command_config, options.output
    data = cli.build_data()
    with OneWriter("audit") as writer, writing(output, "audit"):
        if config.get("ckpt_path") is not None:
            folder = resolve_run("test", config, CLASS_DEFAULTS, cli.files, None if output else writer).path
            output = output or folder / FILE
        if output is not None:
            refuse_input_as_output(output, [*cli.files, *filter(None, [config.get("ckpt_path")])])
        audit_files(data, config.get("ckpt_path"), output, options.warnings_fail)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="cnn-lstm audit",
        description="Changes, blanks and removes the future at chosen moments: whatever the pipeline knew until then "
        "must stay as it is in every bit. Tests too what was learnt from which rows, where labels lie, and what must "
        "not matter. Every other option is passed on to test: --config FILE, --data.KEY VALUE, and --ckpt_path "
        "best|last|FILE for a checkpoint, whose statistics, forecasts, intervals and embeddings are tested too.",
        epilog="exit codes: 0 nothing looks ahead, 8 something does",
        renamed={"--strict": "--warnings_fail"},
    )
    parser.add_flag("--warnings_fail", "a warning is a failure")
    parser.add_argument(
        "--output",
        type=filled_path,
        metavar="FILE",
        help=f"where to write the findings as JSON; {FILE} in the run folder of a checkpoint by default",
    )
    return parser
