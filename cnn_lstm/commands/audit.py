"""`cnn-lstm audit`: checks on the user's own data, features, split and checkpoint that nothing looks ahead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cnn_lstm.errors import ConfigError, ValidityError
from cnn_lstm.evaluation.audit.findings import Result
from cnn_lstm.evaluation.audit.run_audit import Audit, audit
from cnn_lstm.files import write_text_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.runs.config import guard_parser
from cnn_lstm.runs.forecast_cli import CLASS_DEFAULTS, ForecastCLI, quiet
from cnn_lstm.training.run_folder import choose_run

FILE = "audit.json"
USAGE = """usage: cnn-lstm audit --config FILE [--ckpt_path best|last|FILE] [--strict] [--output FILE]
                      [--data.KEY VALUE ...]

Changes, blanks and removes the future at chosen moments: whatever the pipeline knew until then must stay as it is in
every bit. Tests too what was learnt from which rows, where labels lie, and what must not matter.

--ckpt_path   a checkpoint: its statistics, forecasts, intervals and embeddings are tested too
--strict      a warning is a failure
--output      where to write the findings as JSON; audit.json in the run folder of a checkpoint by default

exit codes: 0 nothing looks ahead, 8 something does
"""


def run(words: list[str]) -> None:
    """Runs `audit`.

    Args:
        words: `audit`, its own options, and the arguments of `test` that choose data and checkpoint.

    Raises:
        ValidityError: If a check failed.
    """
    if len(words) < 2 or "--help" in words or "-h" in words:
        print(USAGE, end="")
        return
    strict, output, rest = _own_options(words[1:])
    quiet()
    guard_parser()
    cli = ForecastCLI(["test", *rest], run=False)
    config = cli.config["test"]
    data = cli.build_data()
    predictor = checkpoint = None
    if config.get("ckpt_path") is not None:
        folder = choose_run("test", config, CLASS_DEFAULTS).path
        checkpoint = read_checkpoint(config.ckpt_path)
        predictor = Predictor.from_checkpoint(config.ckpt_path)
        refuse_differences(predictor.recipe.to_plain(), data.recipe.to_plain())
        output = output or folder / FILE
    found = audit(data, predictor, checkpoint, warnings_fail=strict)
    print(f"{found}\n{found.seconds:.1f} s")
    if output is not None:
        write_text_whole(output, json.dumps(found.to_plain(), indent=2) + "\n")
        print(f"audit: {output}")
    _refuse(found)


def _own_options(words: Sequence[str]) -> tuple[bool, Path | None, list[str]]:
    """Takes out `--strict` and `--output`."""
    strict, output, rest = False, None, []
    todo = iter(words)
    for word in todo:
        name, equals, value = word.partition("=")
        if name == "--strict":
            strict = value.lower() != "false"
        elif name == "--output":
            given = value if equals else next(todo, "")
            if not given:
                raise ConfigError("--output without a file", "cnn-lstm audit", "name one", code=225)
            output = Path(given)
        else:
            rest.append(word)
    return strict, output, rest


def _refuse(found: Audit) -> None:
    if found.failed:
        first = found.failed[0].findings[0]
        raise ValidityError(
            f"the audit failed: {', '.join(map(_counted, found.failed))}",
            str(first),
            "mend the first finding, the others may follow from it; see docs/audit.md",
            code=820,
        )


def _counted(part: Result) -> str:
    return f"{part.name} ({len(part.findings)})"
