"""Retrains fold by fold, and judges the forecasts of all test parts as one.

No forecast comes from a model that saw its label, so that the stitched forecasts and embeddings may also train what
acts on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.bounded import load_json
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.splits import WalkForward
from cnn_lstm.data.stored_tables import read_table, read_text_of, write_table
from cnn_lstm.documents import hand_over
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.folds import fold_metrics, joint_sheet, render_folds, stitch
from cnn_lstm.evaluation.json_types import TargetFolds
from cnn_lstm.evaluation.judge import Judgement, write_report
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_text_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.runs.fold_embeddings import fold_embeddings
from cnn_lstm.runs.members import Member
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.runs.on_splits import OnSplits
from cnn_lstm.training.run_folder import empty_run_removed

WALK = MultiRunCommand(command="walk-forward", reserved=("--data.split", "--run_dir", "--ckpt_path"))


@empty_run_removed()
def walk_forward(
    argv: Sequence[str],
    splits: Sequence[WalkForward],
    jobs: int | None,
    folder: Path | None,
    resume: bool = False,
    address: str | None = None,
) -> None:
    """Trains and tests a configuration fold by fold, and judges the forecasts of all test parts as one.

    Args:
        argv: Arguments of `fit`.
        splits: The split of each fold.
        jobs: Runs at a time; None for one, or as many as the cluster has room for.
        folder: Folder of all folds; a new one by default.
        resume: Whether to go on in the folder.
        address: Address of a Ray cluster; None to train on this machine.

    Raises:
        ConfigError: If an option is wrong, before anything is trained.
        SystemExit: With the exit code of the first fold that failed.
    """
    OnSplits(WALK, "walk-forward", "fold", _conclude).run(argv, splits, jobs, folder, resume, address)


def _conclude(
    members: Sequence[Member], splits: Sequence[WalkForward], data: MarketDataModule, settings: Evaluation
) -> None:
    """Writes the stitched forecasts and embeddings, judges the forecasts, and prints the result."""
    folder = members[0].folder
    data.setup()
    table = stitch([read_table(member.run.path / "predictions.parquet") for member in members])
    for fingerprint in table["data_sha256"].unique():
        refuse_differences({"data": fingerprint}, {"data": data.fingerprint})
    embeddings = _embeddings(members, splits, data, table)
    write_table(folder / "embeddings.parquet", embeddings)
    sheets = [read_sheet(member.run.path) for member in members]
    judgement = write_report(folder, table, joint_sheet(sheets), settings)
    reports = [report for member in members if (report := member.report) is not None]
    _print_result(folder, judgement, fold_metrics(table, reports, judgement.report))


def read_sheet(folder: Path) -> Any:
    """Content of a folder's model_info.json.

    Raises:
        DataError: E339, if it is missing or damaged.
    """
    file = folder / "model_info.json"
    try:
        return load_json(read_text_of(file.with_name("predictions.parquet"), file.name))
    except (OSError, ValueError) as error:
        fix = "remove report.json next to it, and go on with --resume: the fold is tested again"
        raise DataError("no intact model_info.json of a fold", str(file), fix, code=339) from error


def _embeddings(
    members: Sequence[Member], splits: Sequence[WalkForward], data: MarketDataModule, table: pd.DataFrame
) -> pd.DataFrame:
    """`fold_embeddings` of all members, with the training dates that the stitched forecasts name for each fold."""
    folds = (
        (Predictor.from_checkpoint(member.run.checkpoint("best")), data.parts_of(split))
        for member, split in zip(members, splits, strict=True)
    )
    trained = table.groupby("fold")[["train_first", "train_last"]].first()
    return fold_embeddings(folds, data.panel).join(trained, on="fold")


def _print_result(folder: Path, judgement: Judgement, metrics: dict[str, TargetFolds]) -> None:
    text = render_folds(metrics) + "\n"
    write_text_whole(folder / "walk_forward.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_text_whole(folder / "walk_forward.txt", text)
    hand_over({**judgement.report, "folds": metrics})
    print(f"{judgement.text}\n{text}", end="")
    print(f"walk-forward folder: {folder}\nreport: {judgement.page}")
