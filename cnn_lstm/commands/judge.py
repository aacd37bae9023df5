"""`test`: from the forecasts of the test part to verdict, tables and report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.evaluation.baselines.columns import add_baselines
from cnn_lstm.evaluation.html import write_page
from cnn_lstm.evaluation.model_info import FAILED, model_info
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.text import render_report
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import CHECKPOINT_KEY, Forecaster
from cnn_lstm.training.runs import RunFolder
from cnn_lstm.training.test_uses import count_use, rows_key


@dataclass(frozen=True)
class Judgement:
    """What `test` found.

    Attributes:
        text: What is printed.
        page: The report for a browser.
        files: Everything that was written.
    """

    text: str
    page: Path
    files: list[Path]


def judge(
    run: RunFolder,
    table: pd.DataFrame,
    data: MarketDataModule,
    model: Forecaster,
    settings: Evaluation,
    checkpoint: Path,
) -> Judgement:
    """Adds baselines to the forecasts of the test part, judges them, and writes the report.

    Args:
        run: The run folder.
        table: Predictions table of the test part.
        data: The data module.
        model: The tested forecaster.
        settings: Evaluation settings.
        checkpoint: File that was tested.
    """
    saved = read_checkpoint(checkpoint)[CHECKPOINT_KEY]
    info = model_info(data, model, saved)
    uses = count_use(run, _rows_of(table, data), saved["digest"])
    info["test_rows_used"] = {"times": uses.times, "models": uses.models}
    table = add_baselines(table, data, settings.season)
    _add_smearing(table, model)
    table.attrs |= {
        "settings": settings.to_plain(),
        "trials": settings.trials or uses.models,
        "failed_checks": [check["kind"] for check in info["leakage"] if check["outcome"] == FAILED],
    }
    report = evaluate(table)
    text = render_report(report) + _used(uses.times, uses.models)
    folder = run.path
    files = [folder / name for name in ("predictions.parquet", "report.json", "test.txt", "model_info.json")]
    _write_table(table, files[0])
    for path, content in zip(files[1:], (_json(report), text, _json(info)), strict=True):
        path.write_text(content)
    page = folder / "report.html"
    write_page(page, report, table, info, pictures=[folder / "attention.png"])
    return Judgement(text, page, [*files, page])


def _add_smearing(table: pd.DataFrame, model: Forecaster) -> None:
    factors = (model.contract.get("calibration") or {}).get("smearing", [])
    for about, factor in zip(table.attrs["targets"].values(), factors, strict=False):
        if "smearing" in about:
            about["smearing"]["y_pred"] = factor


def _rows_of(table: pd.DataFrame, data: MarketDataModule) -> str:
    first, last = (str(day)[:10] for day in (table["as_of"].min(), table["as_of"].max()))
    return rows_key(data.fingerprint, first, last, [target.name for target in data.targets])


def _used(times: int, models: int) -> str:
    often = "once" if times == 1 else f"{times} times"
    warning = "" if models < 2 else f", with {models} different models: the best of many looks better than it is"
    return f"\nthese test rows were used {often}{warning}\n"


def _write_table(table: pd.DataFrame, path: Path) -> None:
    partial = path.with_suffix(".partial")
    table.to_parquet(partial, index=False)
    partial.replace(path)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
