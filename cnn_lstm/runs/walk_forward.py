"""Retrains fold by fold, and judges the forecasts of all test parts as one.

No forecast comes from a model that saw its label, so that the stitched forecasts and embeddings may also train what
acts on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.splits import WalkForward
from cnn_lstm.evaluation.folds import fold_metrics, joint_sheet, render_folds, stitch
from cnn_lstm.evaluation.judge import Judgement, write_report
from cnn_lstm.evaluation.record import TargetFolds
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_text_whole, write_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.runs.members import Member, leave_with, train_all
from cnn_lstm.runs.together import MultiRunCommand, require_jobs
from cnn_lstm.training.tracking.parent import name_parent

WALK = MultiRunCommand(command="walk-forward", option="--folder", ours=("--data.split", "--run_dir", "--ckpt_path"))


def walk_forward(
    passed_on: Sequence[str], folds: int, sliding: bool, embargo: int, jobs: int, folder: Path | None
) -> None:
    """Trains and tests a configuration fold by fold, and judges the forecasts of all test parts as one.

    Args:
        passed_on: Arguments of `fit`.
        folds: Number of folds.
        sliding: Whether each fold trains on as many dates; else on all before.
        embargo: Dates between the last label of a part and the next part.
        jobs: Runs at a time.
        folder: Folder of all folds; a new one by default.

    Raises:
        ConfigError: If an option is wrong, before anything is trained.
        SystemExit: With the exit code of the first fold that failed.
    """
    require_jobs(jobs)
    WALK.refuse_ours(passed_on)
    splits = [WalkForward(folds, fold, sliding, embargo) for fold in range(max(folds, 1))]
    arguments = [[*passed_on, f"--data.split={json.dumps(split.spec())}"] for split in splits]
    cli = WALK.parsed(arguments[0])
    data, settings = cli.build_data(), Evaluation(**cli.config["fit"].evaluation.as_dict())
    _require_sound(cli.build_data(), splits)
    folder = WALK.folder(folder, cli.config["fit"])
    members = [Member("fold", fold, folder, own) for fold, own in enumerate(arguments)]
    with WALK.taken(folder) as lock:
        WALK.require_same_configuration(folder, cli.config_text)
        name_parent(folder)
        print(f"walk-forward folder: {folder}")
        failed = train_all(members, jobs, lock, WALK.option)
        if not failed:
            _conclude(members, splits, data, settings)
    leave_with(members, failed)


def _require_sound(data: MarketDataModule, splits: Sequence[WalkForward]) -> None:
    """Refuses prices or parts that a fold could not be trained on, before any is; the folds warn for themselves."""
    with muted_warnings():
        data.setup()
        for split in splits:
            data.require_sound(data.parts_of(split))


def _conclude(
    members: Sequence[Member], splits: Sequence[WalkForward], data: MarketDataModule, settings: Evaluation
) -> None:
    """Writes the stitched forecasts and embeddings, judges the forecasts, and prints what was found."""
    folder = members[0].folder
    data.setup()
    table = stitch([pd.read_parquet(member.run.path / "predictions.parquet") for member in members])
    for fingerprint in table["data_sha256"].unique():
        refuse_differences({"data": fingerprint}, {"data": data.fingerprint})
    embeddings = _embeddings(members, splits, data)
    write_whole(folder / "embeddings.parquet", lambda partial: embeddings.to_parquet(partial, index=False))
    sheets = [json.loads((member.run.path / "model_info.json").read_text(encoding="utf-8")) for member in members]
    said = write_report(folder, table, joint_sheet(sheets), settings)
    reports = [report for member in members if (report := member.report) is not None]
    _say(folder, said, fold_metrics(table, reports, said.report))


def _embeddings(members: Sequence[Member], splits: Sequence[WalkForward], data: MarketDataModule) -> pd.DataFrame:
    """Embeddings of each fold's test windows by that fold's own checkpoint: symbol, as_of, fold, e0 ... e{D-1}."""
    parts = []
    for fold, (member, split) in enumerate(zip(members, splits, strict=True)):
        predictor = Predictor.from_checkpoint(member.run.checkpoint("best"))
        part = predictor.encode_rows(data.panel, data.parts_of(split).test)
        part.insert(2, "fold", fold)
        parts.append(part)
    return pd.concat(parts).sort_values(["symbol", "as_of"], ignore_index=True)


def _say(folder: Path, said: Judgement, found: dict[str, TargetFolds]) -> None:
    text = render_folds(found) + "\n"
    write_text_whole(folder / "walk_forward.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    write_text_whole(folder / "walk_forward.txt", text)
    print(f"{said.text}\n{text}", end="")
    print(f"walk-forward folder: {folder}\nreport: {said.page}")
