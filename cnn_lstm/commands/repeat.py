"""`cnn-lstm repeat`: ordinary runs that differ in their seed, what they have in common, and their average.

All that is known lies in the files of the runs, so that a repeat that was killed goes on when it is started again.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.commands.config import guard_parser
from cnn_lstm.commands.judge import calibration_of, rows_tested, with_baselines, write_report
from cnn_lstm.commands.lightning import ForecastCLI, quiet
from cnn_lstm.commands.seed_runs import Repeat, last_error, read_report, train_all
from cnn_lstm.commands.words import OneLineParser
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ConfigError, ResourceError
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
# what each run is given by us
OURS = ("--seed_everything", "--run_dir", "--ckpt_path")
# keys that change no figure, or that differ between the runs
FREE_KEYS = (
    *("seed_everything", "runs_dir", "quiet", "csv", "tensorboard", "mlflow"),
    *("tracking", "tracking_uri", "experiment", "register_model"),
)


def run(words: list[str]) -> None:
    """Runs `repeat`.

    Args:
        words: `repeat` and its arguments.
    """
    given, passed_on = _parser().parse_known_args(words[1:])
    quiet()
    guard_parser()
    _refuse_ours(passed_on)
    cli = ForecastCLI(["fit", *passed_on], run=False)  # a wrong one is told before anything is trained
    if cli.config["fit"].get("ckpt_path"):
        raise ConfigError("ckpt_path is not for repeat", fix="each run gets its own: leave it out", code=225)
    data, settings = cli.build_data(), Evaluation(**cli.config["fit"].evaluation.as_dict())
    repeat = Repeat(_folder(given.repeat_dir, cli), _seeds(given.seeds, given.first_seed), _jobs(given.jobs), passed_on)
    with _taken(repeat.folder) as lock:
        _require_same_configuration(repeat.folder, cli.config_text)
        print(f"repeat folder: {repeat.folder}")
        failed = train_all(repeat, lock)
        _conclude(repeat, data, settings, failed)
    for seed, code in failed.items():
        print(f"seed {seed} failed with exit code {code}: {last_error(repeat, seed)}", file=sys.stderr)
    if failed:
        raise SystemExit(next(iter(failed.values())))


# -- what was asked for ----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="cnn-lstm repeat",
        description="Trains and tests a configuration with several seeds; every other option is passed on to fit.",
        epilog="Started again with the same --repeat_dir, it goes on where it was.",
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", metavar="N|S,S,...", default="5", help="how many seeds, or which; 5 by default")
    parser.add_argument("--first_seed", type=int, metavar="S", help=f"the first of N seeds, {FIRST_SEED} by default")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time; 1 by default")
    parser.add_argument("--repeat_dir", type=Path, metavar="DIR", help="folder of all runs; made anew by default")
    return parser


def _refuse_ours(words: Sequence[str]) -> None:
    for word in words:
        name = word.partition("=")[0]
        if name in OURS:
            raise ConfigError(f"{name} is not for repeat", fix="each run gets its own: leave it out", code=225)


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


def _jobs(jobs: int) -> int:
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}", fix="give at least 1", code=224)
    return jobs


def _folder(given: Path | None, cli: ForecastCLI) -> Path:
    if given is not None:
        return given
    config = cli.config["fit"]
    name = Path(str(config.config[0])).stem if config.get("config") else "fit"
    return Path(config.runs_dir) / f"{name}-repeat-{time.strftime('%Y%m%d-%H%M%S')}"


# -- the folder ------------------------------------------------------------------------------------------------------


@contextmanager
def _taken(folder: Path) -> Iterator[int]:
    """Makes the folder and keeps others out of it; yields the lock, which the runs inherit.

    So the folder stays taken while a run of a repeat that was killed still works in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise ResourceError(
            "cannot write the repeat folder", f"{folder}: {error.strerror}", "choose another --repeat_dir", code=606
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                "another repeat, or a run of it, is at work here", str(folder), "wait for its end", code=243
            ) from error
        yield lock.fileno()


def _require_same_configuration(folder: Path, text: str) -> None:
    """Keeps the configuration in a new folder, and refuses a folder that was made of another one."""
    kept = folder / "repeat.yaml"
    if not kept.exists():
        if any(path.name != ".lock" for path in folder.iterdir()):
            raise ConfigError("the folder holds something else", str(folder), "choose a new --repeat_dir", code=242)
        write_text_whole(kept, text)
        return
    before, now = (_settings(yaml.safe_load(content)) for content in (kept.read_text(encoding="utf-8"), text))
    differing = [
        f"{key}: {before.get(key)} -> {now.get(key)}" for key in {**before, **now} if before.get(key) != now.get(key)
    ]
    if differing:
        raise ConfigError(
            "the repeat folder was made of another configuration",
            f"{folder}: {'; '.join(differing)}",
            "choose a new --repeat_dir, or give what it was made of",
            code=242,
        )


def _settings(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values of a configuration, without those that change no figure."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= _settings(value, f"{name}.")
        elif name not in FREE_KEYS:
            found[name] = value
    return found


# -- what they have in common ----------------------------------------------------------------------------------------


def _conclude(repeat: Repeat, data: MarketDataModule, settings: Evaluation, failed: dict[int, int]) -> None:
    """Writes and prints mean and spread, and the ensemble unless a seed failed.

    Without the seeds that failed, the others are a selection: nothing may be claimed from them.
    """
    reports = {seed: report for seed in repeat.seeds if (report := repeat.report(seed)) is not None}
    if not reports:
        return
    ensemble = None
    if not failed and len(reports) >= FEWEST:
        ensemble = _average(repeat, data, settings)
    found = dispersion(reports, ensemble)
    if failed:
        found = {name: target | {"claim": False} for name, target in found.items()}
    text = render_dispersion(found) + "\n"
    if failed:
        text += f"seeds that failed: {', '.join(map(str, failed))}; without them nothing may be claimed\n"
    content = {"seeds": list(reports), "failed": list(failed), "targets": found}
    write_text_whole(repeat.folder / "repeat.json", json.dumps(plain_values(content), indent=2) + "\n")
    write_text_whole(repeat.folder / "repeat.txt", text)
    print(text, end="")
    print(f"repeat folder: {repeat.folder}")


def _average(repeat: Repeat, data: MarketDataModule, settings: Evaluation) -> dict[str, Any] | None:
    """Writes the ensemble, and judges its forecasts of the test part as `test` does; returns its report."""
    paths = [repeat.run(seed).checkpoint("best") for seed in repeat.seeds]
    data.setup()
    average = Predictor(ensemble_from(joined(paths)))
    refuse_differences({"data": average.forecaster.contract["fingerprint"]}, {"data": data.fingerprint})
    file, folder = repeat.folder / "ensemble.ckpt", repeat.folder / "ensemble"
    write_ensemble(paths, file, calibration_of(average, data))
    content = read_checkpoint(file)
    ensemble = ensemble_from(content)
    folder.mkdir(exist_ok=True)
    table = with_baselines(
        Predictor(ensemble).predict_rows(data.panel, data.parts.test), data, ensemble.contract, settings
    )
    uses = count_use(folder, rows_tested(table, data), content[CHECKPOINT_KEY]["digest"])
    write_report(folder, table, _information(repeat, paths) | {"test_rows_used": asdict(uses)}, settings)
    return read_report(folder)


def _information(repeat: Repeat, members: Sequence[Path]) -> dict[str, Any]:
    """The members' information sheet: they share data, split and tests, and differ in their weights."""
    sheet: dict[str, Any] = json.loads((repeat.run(repeat.seeds[-1]).path / "model_info.json").read_text())
    parameters = sheet["model"]["parameters"] * len(members)
    model = {"parameters": parameters, "ensemble_of": [str(path) for path in members]}
    return sheet | {"model": sheet["model"] | model}
