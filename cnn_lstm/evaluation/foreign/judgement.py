"""Judges a table of forecasts against prices, by the code of `test`.

Shapes: n forecasts.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.predictions import are_late, target_infos
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.errors import require
from cnn_lstm.evaluation.audit.findings import FAILED, PASSED
from cnn_lstm.evaluation.baselines.fit import add_baselines
from cnn_lstm.evaluation.forecasts import variance_name
from cnn_lstm.evaluation.foreign.compare import TargetComparison, compare_forecasters
from cnn_lstm.evaluation.foreign.forms import Given, read_forms
from cnn_lstm.evaluation.foreign.page import comparison_page
from cnn_lstm.evaluation.foreign.placed import first_decision, place
from cnn_lstm.evaluation.foreign.split import BeforeForecasts
from cnn_lstm.evaluation.json_types import CheckRecord, JudgedModelInfo
from cnn_lstm.evaluation.judge import Judgement, rows_tested, write_report
from cnn_lstm.evaluation.ledger import count_use
from cnn_lstm.evaluation.model_info import NOTE, data_record, split_record
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.evaluation.sequential import KEPT, RECIPE
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_text_whole
from cnn_lstm.hints import counted

log = logging.getLogger(__name__)
COMPARISON, LOSSES, PAGE = "comparison.json", "comparison.parquet", "comparison.html"


@dataclass(frozen=True)
class Reading:
    """How a table of forecasts is to be read.

    Attributes:
        columns: The table's names for `symbol`, `as_of`, `target_end`, `y_pred` or `sample`.
        model: Which model's forecasts, where a table has those of several.
        closes: Whether the forecasts are prices, which become returns since the last known close.
        cutoff: First day that the training of the forecaster did not know, ISO.
        issued: Column with the time at which each forecast was made.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    closes: bool = False
    cutoff: str | None = None
    issued: str | None = None


def judge_forecasts(
    folder: Path,
    frame: pd.DataFrame,
    data: MarketData,
    settings: Evaluation,
    reading: Reading | None = None,
    own_split: bool = False,
) -> Judgement:
    """Judges forecasts, writes the report, and counts the use of the rows.

    Args:
        folder: Where to write.
        frame: The forecasts, in one of the forms of `read_forms`.
        data: Data with the prices and the target. Its features and window are those of the baselines.
        settings: Evaluation settings.
        reading: How the table is to be read.
        own_split: Whether the split of the data stays, where its test part begins no later than the forecasts.

    Raises:
        DataError: E357 to E359, if the table cannot be read, or belongs to other prices.
    """
    _require_no_run(folder)
    reading = reading or Reading()
    given = read_forms(frame, reading.columns, reading.model, reading.issued)
    data = copy.copy(data)  # another split must not reach the caller
    _split(data, given, own_split)
    placed = place(given, data, reading.closes)
    _warn_of_squares(placed.table, "the table")
    table = add_baselines(placed.table, data, settings.season, data.windows)
    for name in ("train_first", "train_last"):
        known = frame[name].iloc[0] if name in frame else pd.NaT
        table = table.assign(**{name: pd.Series(known, table.index, dtype="datetime64[us, UTC]")})
    table = table.assign(data_sha256=data.fingerprint)
    checks = [_after_cutoff(table, reading.cutoff), _in_time(table)]
    checks += [_check(kind, "as the test of the model has found it", FAILED, "") for kind in _failed(frame)]
    digest = str(frame.attrs.get("model") or _digest(table))
    known = {name: frame.attrs[name] for name in (RECIPE, KEPT) if name in frame.attrs}
    table.attrs = {**placed.table.attrs, "model": digest, RECIPE: _first_digest(table), **known}
    info: JudgedModelInfo = {
        "model": None,
        "data": data_record(data, data.fingerprint),
        "split": split_record(data, placed.rows),
        "leakage": checks,
        "test_rows_used": count_use(folder, rows_tested(table, data), digest),
    }
    return write_report(folder, table.drop(columns="issued", errors="ignore"), info, settings)


def compare_forecasts(
    folder: Path,
    frames: Mapping[str, pd.DataFrame],
    data: MarketData,
    settings: Evaluation,
    reading: Reading | None = None,
) -> dict[str, TargetComparison]:
    """Compares forecasters on the rows that all of them know, and counts each use of the rows.

    It writes comparison.json; comparison.parquet, the loss of each on each date; and comparison.html.

    Args:
        folder: Where to write.
        frames: The forecasts of each, at least two, by its name.
        data: As for `judge_forecasts`.
        settings: Resamples and seed of the bootstraps.
        reading: How the tables are to be read.

    Raises:
        DataError: As `judge_forecasts`, and E358, if the tables have too little in common.
    """
    _require_no_run(folder)
    reading, data = reading or Reading(), copy.copy(data)
    givens = {name: read_forms(frame, reading.columns, reading.model) for name, frame in frames.items()}
    _split(data, min(givens.values(), key=first_decision), own_split=False)
    tables = {name: place(given, data, reading.closes).table for name, given in givens.items()}
    for name, table in tables.items():
        _warn_of_squares(table, name)
    compared = compare_forecasters(tables, settings)
    for name, table in tables.items():
        count_use(folder, rows_tested(table, data), str(frames[name].attrs.get("model") or _digest(table)))
    plain = {name: one.to_plain() for name, one in compared.items()}
    write_table(folder / LOSSES, _losses(compared))
    write_text_whole(folder / COMPARISON, json.dumps(json_values(plain), indent=2, allow_nan=False) + "\n")
    write_text_whole(folder / PAGE, comparison_page(compared))
    return compared


def _warn_of_squares(table: pd.DataFrame, name: str) -> None:
    """Says that forecasts of a volatility are squared for QLIKE as they are, where no variance stands next to them.

    The square of a mean volatility, and more so of a mean logarithm, is lower than the mean variance. The baselines are
    corrected for that on their training rows; the errors that a forecaster of others made there are not known.
    """
    column = variance_name("y_pred")
    infos = target_infos(table)
    missing = [target for target, about in infos.items() if about.quantity.is_volatility]
    if missing and (column not in table or table[column].isna().all()):
        what = "QLIKE squares these forecasts as they are, unlike those of the baselines: a mean variance is higher"
        fix = f"add a column {column}, or go by R2 log and RMSE; docs/judge.md says more"
        log.warning("[W374] %s — %s without %s: %s — %s", what, name, column, ", ".join(missing), fix)


def _losses(compared: Mapping[str, TargetComparison]) -> pd.DataFrame:
    """target, as_of, forecaster, loss: one row for each date of each forecaster."""
    parts = [
        one.daily.reset_index().melt("as_of", var_name="forecaster", value_name="loss").assign(target=name)
        for name, one in compared.items()
    ]
    return pd.concat(parts, ignore_index=True)[["target", "as_of", "forecaster", "loss"]]


def _require_no_run(folder: Path) -> None:
    """Refuses the folder of a run, whose own report would be written over."""
    held = (folder / "config.yaml").exists()
    require(not held, f"{folder} holds a run", "judge", "give another folder", code=224)


def _split(data: MarketData, given: Given, own_split: bool) -> None:
    """Sets the data up, with baselines that know nothing of the dates of the forecasts."""
    first = first_decision(given)
    back = max(target.reach for target in data.targets) if given.by_target_end else 0
    before = BeforeForecasts(str(first), back)
    if not own_split:
        data.resplit(before)
    data.setup()
    if own_split and data.parts.boundaries.test > before.boundaries(data.times).test:
        data.resplit(before)


def _failed(frame: pd.DataFrame) -> list[str]:
    """Kinds of leakage that the test of our own model has found."""
    return [str(kind) for kind in frame.attrs.get("failed_checks", [])]


def _after_cutoff(table: pd.DataFrame, cutoff: str | None) -> CheckRecord:
    kind = "a forecaster that was trained on the dates that it forecasts"
    test = "each label begins after the last day that the forecaster's training knew (--cutoff)"
    if cutoff is None:
        return _check(kind, test, NOTE, "no --cutoff was given: what the training knew is not known")
    first = pd.Timestamp(stamp(cutoff, "--cutoff"), tz="UTC")
    early = int((table["as_of"] < first).sum())
    found = f"{early:,} of {counted(len(table), 'forecast')} lie before {first:%Y-%m-%d}"
    return _check(kind, test, FAILED if early else PASSED, found)


def _in_time(table: pd.DataFrame) -> CheckRecord:
    kind = "forecasts that were made too late"
    test = "each forecast was made before its label began (--issued); on daily bars, on its first day at the latest"
    if "issued" not in table:
        return _check(kind, test, NOTE, "no --issued was given: when the forecasts were made is not known")
    begins = table["target_start"]
    daily = bool((begins.dropna() == begins.dropna().dt.normalize()).all())
    late = int(are_late(table["issued"], begins, daily).sum())
    unknown = int(table["issued"].isna().sum())
    found = f"{late:,} of {len(table):,} were late" + (f", {counted(unknown, 'time')} unknown" if unknown else "")
    return _check(kind, test, FAILED if late else PASSED, found)


def _check(kind: str, test: str, outcome: str, found: str) -> CheckRecord:
    return {"kind": kind, "test": test, "outcome": outcome, "found": found}


def _first_digest(table: pd.DataFrame) -> str:
    """What identifies a forecaster as its table grows: its forecasts of the first date."""
    return _digest(table[table["as_of"] == table["as_of"].min()])[:12]


def _digest(table: pd.DataFrame) -> str:
    """What identifies a forecaster by its forecasts."""
    keys = pd.util.hash_pandas_object(table[["symbol", "as_of", "target"]], index=False).to_numpy()
    return hashlib.sha256(keys.tobytes() + np.ascontiguousarray(table["y_pred"], np.float64).tobytes()).hexdigest()
