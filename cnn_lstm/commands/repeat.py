"""`cnn-lstm repeat`: ordinary runs that differ in their seed, what they have in common, and their average."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnn_lstm.commands.judge import calibration_of, rows_tested, with_baselines, write_report
from cnn_lstm.commands.member_runs import Member, leave_with, read_report, train_all
from cnn_lstm.commands.runs_together import Together, add_jobs, require_jobs
from cnn_lstm.commands.words import OneLineParser
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.dispersion import dispersion, render_dispersion
from cnn_lstm.evaluation.ledger import count_use
from cnn_lstm.evaluation.report import plain_values
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_text_whole
from cnn_lstm.inference.ensemble import FEWEST, ensemble_from, joined, write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import CHECKPOINT_KEY, refuse_differences

FIRST_SEED = 42
REPEAT = Together(
    command="repeat",
    option="--repeat_dir",
    ours=("--seed_everything", "--run_dir", "--ckpt_path"),
    free=("seed_everything",),
)


def run(words: list[str]) -> None:
    """Runs `repeat`.

    Args:
        words: `repeat` and its arguments.
    """
    given, passed_on = _parser().parse_known_args(words[1:])
    require_jobs(given.n_jobs)
    REPEAT.refuse_ours(passed_on)
    cli = REPEAT.parsed(passed_on)
    data, settings = cli.build_data(), Evaluation(**cli.config["fit"].evaluation.as_dict())
    folder = REPEAT.folder(given.repeat_dir, cli.config["fit"])
    members = [
        Member("seed", seed, folder, [*passed_on, "--seed_everything", str(seed)])
        for seed in _seeds(given.seeds, given.first_seed)
    ]
    with REPEAT.taken(folder) as lock:
        REPEAT.require_same_configuration(folder, cli.config_text)
        print(f"repeat folder: {folder}")
        failed = train_all(members, given.n_jobs, lock, REPEAT.option)
        _conclude(members, data, settings, failed)
    leave_with(members, failed)


# -- what was asked for ----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm repeat",
        description="Trains and tests a configuration with several seeds; every other option is passed on to fit.",
        epilog="Started again with the same --repeat_dir, it goes on where it was.",
    )
    parser.add_argument("--seeds", metavar="N|S,S,...", default="5", help="how many seeds, or which; 5 by default")
    parser.add_argument("--first_seed", type=int, metavar="S", help=f"the first of N seeds, {FIRST_SEED} by default")
    add_jobs(parser)
    parser.add_argument("--repeat_dir", type=Path, metavar="DIR", help="folder of all runs; made anew by default")
    return parser


def _seeds(text: str, first: int | None) -> list[int]:
    """The seeds that `5`, or `3,7,11`, means."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}", fix="give a number of seeds, or seeds as 3,7,11", code=224) from error
    if "," not in text and numbers and numbers[0] > 0:
        start = FIRST_SEED if first is None else first
        numbers = list(range(start, start + numbers[0]))
    elif first is not None:
        raise ConfigError(f"--first_seed {first}", f"--seeds {text}", "leave one out", code=224)
    elif "," not in text:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise ConfigError(f"--seeds {text}", fix="give at least one seed, each once and not negative", code=224)
    return numbers


# -- what they have in common ----------------------------------------------------------------------------------------


def _conclude(members: Sequence[Member], data: MarketDataModule, settings: Evaluation, failed: dict[int, int]) -> None:
    """Writes and prints mean and spread, and the ensemble unless a seed failed.

    Without the seeds that failed, the others are a selection: nothing may be claimed from them.
    """
    reports = {member.number: report for member in members if (report := member.report) is not None}
    if not reports:
        return
    folder, ensemble = members[0].folder, None
    if not failed and len(reports) >= FEWEST:
        ensemble = _average(members, data, settings)
    found = dispersion(reports, ensemble)
    if failed:
        found = {name: target | {"claim": False} for name, target in found.items()}
    text = render_dispersion(found) + "\n"
    if failed:
        text += f"seeds that failed: {', '.join(map(str, failed))}; without them nothing may be claimed\n"
    content = {"seeds": list(reports), "failed": list(failed), "targets": found}
    write_text_whole(folder / "repeat.json", json.dumps(plain_values(content), indent=2) + "\n")
    write_text_whole(folder / "repeat.txt", text)
    print(text, end="")
    print(f"repeat folder: {folder}")


def _average(members: Sequence[Member], data: MarketDataModule, settings: Evaluation) -> dict[str, Any] | None:
    """Writes the ensemble, and judges its forecasts of the test part as `test` does; returns its report."""
    paths = [member.run.checkpoint("best") for member in members]
    data.setup()
    average = Predictor(ensemble_from(joined(paths)))
    refuse_differences({"data": average.forecaster.contract["fingerprint"]}, {"data": data.fingerprint})
    file, folder = members[0].folder / "ensemble.ckpt", members[0].folder / "ensemble"
    write_ensemble(paths, file, calibration_of(average, data))
    content = read_checkpoint(file)
    ensemble = ensemble_from(content)
    folder.mkdir(exist_ok=True)
    table = with_baselines(
        Predictor(ensemble).predict_rows(data.panel, data.parts.test), data, ensemble.contract, settings
    )
    uses = count_use(folder, rows_tested(table, data), content[CHECKPOINT_KEY]["digest"])
    write_report(folder, table, _information(members[-1], paths) | {"test_rows_used": asdict(uses)}, settings)
    return read_report(folder)


def _information(last: Member, paths: Sequence[Path]) -> dict[str, Any]:
    """The members' information sheet: they share data, split and tests, and differ in their weights."""
    sheet: dict[str, Any] = json.loads((last.run.path / "model_info.json").read_text())
    parameters = sheet["model"]["parameters"] * len(paths)
    model = {"parameters": parameters, "ensemble_of": [str(path) for path in paths]}
    return sheet | {"model": sheet["model"] | model}
