"""The one way of a test: predictions table -> with baselines -> evaluated -> judgement -> text, page and JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.evaluation.audit.findings import FAILED
from cnn_lstm.evaluation.audit.learning import calibration_of
from cnn_lstm.evaluation.baselines.fit import add_baselines, with_variances
from cnn_lstm.evaluation.explanation.attribution import require_captum
from cnn_lstm.evaluation.explanation.explain import Effort, explain_part
from cnn_lstm.evaluation.explanation.results import Explanation
from cnn_lstm.evaluation.html import render_page
from cnn_lstm.evaluation.json_types import JudgedModelInfo, Report
from cnn_lstm.evaluation.ledger import count_use, rows_key
from cnn_lstm.evaluation.model_info import model_info
from cnn_lstm.evaluation.plain_language import uses_sentence
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.same_recipe import recipe_key
from cnn_lstm.evaluation.sequential import RECIPE, keep_losses
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.text import render_report
from cnn_lstm.files import write_text_whole
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract, TrainingRange, digest_of
from cnn_lstm.model.forecast_model import ForecastModel

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """The result of `test`, which is in its files too.

    Attributes:
        report: What report.json holds.
        text: What is printed.
        page: The report for a browser.
        files: Everything that was written.
    """

    report: Report
    text: str
    page: Path
    files: list[Path]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the verdict, by the name that a tracker shows."""
        metrics: dict[str, float] = {}
        for name, target in self.report["targets"].items():
            compared = target["comparisons"][target["best_baseline"]]
            values = {
                "evidence": target["evidence"],
                "skill": compared["skill"],
                "dm_p": compared["dm_p"],
                target["loss"].lower().replace(" ", "_"): target["loss_model"],
            }
            metrics |= {f"test_{key}_{name}": float(value) for key, value in values.items() if value is not None}
        return metrics


def judge(
    folder: Path,
    table: pd.DataFrame,
    data: MarketDataModule,
    model: ForecastModel | Ensemble,
    settings: Evaluation,
    checkpoint: Path,
    plots: Sequence[Path] = (),
) -> Judgement:
    """Judges the forecasts that a checkpoint made of the test part, and writes the report.

    Counts one use of the test rows, also if the judging fails afterwards.

    Args:
        folder: Where to write.
        table: Predictions table of the test part.
        data: The data module.
        model: The tested forecaster, or an ensemble.
        settings: Evaluation settings.
        checkpoint: File that was tested.
        plots: PNG files that the page shows too.

    Raises:
        ConfigError: E229, if an explanation is asked for, and captum is not installed.
    """
    if settings.explain:
        require_captum()
    saved = read_checkpoint(checkpoint)
    uses = count_use(folder, rows_tested(table, data), digest_of(saved))
    info: JudgedModelInfo = {**model_info(data, model, Contract.of(saved)), "test_rows_used": uses}
    contract = model.contract
    if contract.fitted_on:
        log.warning("the comparison favours the final model: its baselines are fitted on the training part alone")
    contract = with_smearing(contract, table, Predictor(model), data)
    table = with_baselines(table, data, contract, settings)
    table.attrs |= {"model": digest_of(saved), RECIPE: recipe_key(folder, info, Contract.of(saved))}
    explanation = explain_part(Predictor(model), data, Effort(seed=settings.seed)) if settings.explain else None
    return write_report(folder, table, info, settings, plots, explanation)


def with_smearing(contract: Contract, table: pd.DataFrame, predictor: Predictor, data: MarketData) -> Contract:
    """The contract of a checkpoint with smearing factors.

    Older checkpoints have none, and those of a fit none of a linear part that only `forecast` gives.

    Args:
        contract: What the checkpoint says.
        table: Predictions table.
        predictor: The checkpoint.
        data: Data that are set up, whose validation forecasts the factors are made of.
    """
    calibration = contract.calibration
    linear = "y_linear" in table and not (calibration and calibration.linear_smearing)
    if calibration is None or not calibration.smearing or linear:
        return replace(contract, calibration=calibration_of(predictor, data))
    return contract


def with_own_variances(table: pd.DataFrame, targets: Sequence[str], calibration: Calibration) -> pd.DataFrame:
    """A predictions table with the variance forecasts of the model and of its linear part, see `with_variances`.

    Args:
        table: Predictions table.
        targets: Names of the targets, in the order of the calibration.
        calibration: That of the model, with smearing factors.
    """
    factors = {"y_pred": calibration.smearing, "y_linear": calibration.linear_smearing}
    known = {name: values for name, values in factors.items() if name in table and values}
    return with_variances(
        table, {target: {name: values[k] for name, values in known.items()} for k, target in enumerate(targets)}
    )


def with_baselines(
    table: pd.DataFrame,
    data: MarketData,
    contract: Contract,
    settings: Evaluation,
    rows: Rows | None = None,
) -> pd.DataFrame:
    """A predictions table of the test part with everything that its metrics are computed from.

    Args:
        table: Predictions table of the test part.
        data: The data module.
        contract: What the model's checkpoint says of its data and calibration, with smearing factors.
        settings: Evaluation settings.
        rows: Panel rows of the table, (n,); the test part by default.

    Returns:
        The table with the columns of the baselines, `train_first` and `train_last`, the first and last decision that
        the model was trained on, and `data_sha256`, the fingerprint of the prices that it forecast from.
    """
    table = add_baselines(table, data, settings.season, rows)
    assert contract.calibration is not None, "smearing factors are needed"
    table = with_own_variances(table, [target.name for target in data.targets], contract.calibration)
    training = contract.training or TrainingRange("NaT", "NaT")  # older checkpoints have none
    dates = {f"train_{name}": pd.Timestamp(day, tz="UTC") for name, day in asdict(training).items()}
    return table.assign(**dates, data_sha256=data.fingerprint)


def write_report(
    folder: Path,
    table: pd.DataFrame,
    info: JudgedModelInfo,
    settings: Evaluation,
    plots: Sequence[Path] = (),
    explanation: Explanation | None = None,
) -> Judgement:
    """Judges a predictions table, and writes table, text, information sheet, page and report.

    Args:
        folder: Where to write.
        table: Predictions table with baselines.
        info: The model information sheet.
        settings: Evaluation settings.
        plots: PNG files that the page shows too.
        explanation: Of the model on the validation part; a section of the page, and explanation.json.
    """
    table.attrs |= {
        "settings": settings.to_plain(),
        "trials": settings.trials or info["test_rows_used"]["models"],
        "failed_checks": [check["kind"] for check in info["leakage"] if check["outcome"] == FAILED],
    }
    keep_losses(folder, table)
    report = evaluate(table)
    texts = {
        "test.txt": f"{render_report(report)}\n{uses_sentence(info['test_rows_used'])}\n",
        "model_info.json": _json(info),
        **({"explanation.json": _json(explanation.to_plain())} if explanation else {}),
        "report.html": render_page(report, table, info, plots, explanation),
        "report.json": _json(report),  # last: `repeat` takes it for the end of a test
    }
    predictions = folder / "predictions.parquet"
    write_table(predictions, table, {name: texts[name] for name in ("model_info.json", "report.json")})
    for name, content in texts.items():
        write_text_whole(folder / name, content)
    files = [predictions, *(folder / name for name in texts), *plots]
    return Judgement(report, texts["test.txt"], folder / "report.html", files)


def rows_tested(table: pd.DataFrame, data: MarketData) -> str:
    """What identifies the rows of a predictions table of the test part, for `count_use`."""
    first, last = (str(day)[:10] for day in (table["as_of"].min(), table["as_of"].max()))
    spans = data.parts.boundaries.spans  # combinations with the same first and last date test other rows between them
    prices = data.fingerprint if spans is None else f"{data.fingerprint} {spans.to_plain()['test']}"
    return rows_key(prices, first, last, [target.name for target in data.targets])


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
