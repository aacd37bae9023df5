"""Runs that differ in their seed alone, what they have in common, and their average."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.documents import hand_over
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.json_types import Report
from cnn_lstm.evaluation.judge import judge
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.evaluation.seed_spread import render_seed_spread, seed_spread
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_json_whole, write_text_whole
from cnn_lstm.inference.ensemble import FEWEST
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.locks import take_folder
from cnn_lstm.runs.average import write_average
from cnn_lstm.runs.cluster import Cluster
from cnn_lstm.runs.members import Member, leave_with, train_all
from cnn_lstm.runs.messages import progress
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.training.run_folder import RunFolder, empty_run_removed

FIRST_SEED = 42
REPEAT = MultiRunCommand(
    command="repeat",
    reserved=("--seed_everything", "--run_dir", "--ckpt_path", "--ensemble"),
    free=("seed_everything", "ensemble"),
)


@empty_run_removed()
def repeat(
    argv: Sequence[str],
    seeds: str,
    first_seed: int | None,
    jobs: int | None,
    folder: Path | None,
    resume: bool = False,
    address: str | None = None,
) -> None:
    """Trains and tests a configuration with several seeds, and judges what they have in common.

    Args:
        argv: Arguments of `fit`.
        seeds: How many seeds, or which: `5`, or `3,7,11`.
        first_seed: The first of so many seeds; 42 by default.
        jobs: Runs at a time; None for one, or as many as the cluster has room for.
        folder: Folder of all runs; a new one by default.
        resume: Whether to go on in the folder.
        address: Address of a Ray cluster; None to train on this machine.

    Raises:
        ConfigError: If an option is wrong, before anything is trained.
        SystemExit: With the exit code of the first run that failed.
    """
    argv = REPEAT.argv_of_fit(argv, jobs, folder, resume)
    cli = REPEAT.parsed(argv)
    cluster = Cluster.of(address, cli.command_config.trainer)
    if cli.makes_ensemble:  # each seed is one member of the ensemble of all
        argv = [*argv, "--ensemble=1"]
    data = cli.build_data()
    with muted_warnings():  # bad data leave no folder behind; the seeds warn for themselves
        data.setup()
    folder = folder or REPEAT.new_folder(cli)
    members = [
        Member("seed", seed, folder, [*argv, "--seed_everything", str(seed)]) for seed in _seeds(seeds, first_seed)
    ]
    with REPEAT.locked(folder) as lock:
        REPEAT.require_same_configuration(folder, cli.config_text)
        progress(f"repeat folder: {folder}")
        failed = train_all(members, jobs, lock, cluster=cluster)
        _conclude(members, data, cli.evaluation, failed)
        leave_with(members, failed, new=None if resume else folder)


def _seeds(text: str, first: int | None) -> list[int]:
    """The seeds that `5`, or `3,7,11`, means."""
    try:
        seeds = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}", fix="give a number of seeds, or seeds as 3,7,11", code=224) from error
    if "," not in text and seeds and seeds[0] > 0:
        start = FIRST_SEED if first is None else first
        seeds = list(range(start, start + seeds[0]))
    elif first is not None:
        raise ConfigError(f"--first_seed {first}", f"--seeds {text}", "leave one out", code=224)
    elif "," not in text:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds {text}", fix="give at least one seed, each once and not negative", code=224)
    return seeds


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
    spread = seed_spread(reports, ensemble)
    if failed:
        for target in spread.values():
            target["claim"] = False
    text = render_seed_spread(spread) + "\n"
    if failed:
        text += f"seeds that failed: {', '.join(map(str, failed))}; without them nothing may be claimed\n"
    content = json_values({"seeds": list(reports), "failed": list(failed), "targets": spread})
    write_json_whole(folder / "repeat.json", content)
    hand_over(content)
    write_text_whole(folder / "repeat.txt", text)
    print(text, end="")
    print(f"repeat folder: {folder}")


def _average(members: Sequence[Member], data: MarketDataModule, settings: Evaluation) -> Report:
    """Writes the ensemble, and judges its forecasts of the test part as `test` does; returns its report.

    The folder has the configuration too, so that every command takes the file and works in this folder, whose uses of
    the test rows are counted together with those of the seeds.
    """
    file, folder = members[0].folder / "ensemble.ckpt", members[0].folder / "ensemble"
    ensemble = write_average([member.run.checkpoint("best") for member in members], file, data)
    kept = REPEAT.kept_config(members[0].folder).read_text(encoding="utf-8")
    table = Predictor(ensemble).predict_rows(data.panel, data.parts.test)
    with take_folder(folder, REPEAT.command, "ensemble"):
        write_text_whole(RunFolder(folder).config, kept)
        return judge(folder, table, data, ensemble, settings, file).report
