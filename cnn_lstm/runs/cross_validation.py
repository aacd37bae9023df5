"""Trains and tests every combination of a combinatorial purged cross-validation, and judges the paths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.splits import CPCV
from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.documents import hand_over
from cnn_lstm.evaluation.judge import Judgement, write_report
from cnn_lstm.evaluation.paths import path_metrics, path_sheet, path_table, paths_page, render_paths
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_text_whole
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.runs.members import Member
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.runs.on_splits import OnSplits
from cnn_lstm.runs.walk_forward import read_sheet
from cnn_lstm.training.run_folder import empty_run_removed

CROSS = MultiRunCommand(command="cross-validate", reserved=("--data.split", "--run_dir", "--ckpt_path"))
NAME = "cross_validation"


@empty_run_removed()
def cross_validate(
    argv: Sequence[str],
    splits: Sequence[CPCV],
    jobs: int | None,
    folder: Path | None,
    resume: bool = False,
    address: str | None = None,
) -> None:
    """Trains and tests a configuration on every combination, and judges each path.

    Args:
        argv: Arguments of `fit`.
        splits: The split of each combination.
        jobs: Runs at a time; None for one, or as many as the cluster has room for.
        folder: Folder of all runs; a new one by default.
        resume: Whether to go on in the folder.
        address: Address of a Ray cluster; None to train on this machine.

    Raises:
        ConfigError: If an option is wrong, before anything is trained.
        SystemExit: With the exit code of the first fit that failed.
    """
    OnSplits(CROSS, "cross-validation", "combination", _conclude).run(argv, splits, jobs, folder, resume, address)


def _conclude(members: Sequence[Member], splits: Sequence[CPCV], data: MarketDataModule, settings: Evaluation) -> None:
    """Judges the paths, writes their metrics, and prints the result."""
    folder, split = members[0].folder, splits[0]
    with muted_warnings():
        data.setup()
    tables = [read_table(member.run.path / "predictions.parquet") for member in members]
    for table in tables:
        refuse_differences({"data": table["data_sha256"].iloc[0]}, {"data": data.fingerprint})
    sheets, groups = [read_sheet(member.run.path) for member in members], split.group_spans(data.times)
    judgements: list[Judgement] = []
    for number in range(split.paths):
        fits, path = split.path(number), folder / f"path_{number}"
        path.mkdir(exist_ok=True)
        joined = path_table(tables, groups, fits)
        judgements.append(write_report(path, joined, path_sheet(sheets, joined, fits), settings))
    metrics = path_metrics(split, [judgement.report for judgement in judgements])
    text = render_paths(metrics) + "\n"
    write_text_whole(folder / f"{NAME}.txt", text)
    write_text_whole(folder / f"{NAME}.html", paths_page(metrics, split, folder.resolve().name))
    write_text_whole(folder / f"{NAME}.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    hand_over(metrics)
    print(f"{text}cross-validation folder: {folder}\nreport: {folder / NAME}.html")
