"""A forecast is made of its own window: not of the rows next to it in a batch, and not of labels to come."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.times import time_text
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.evaluation.audit.findings import NO_CHECKPOINT, NOT_APPLICABLE, Finding, Result, result
from cnn_lstm.evaluation.audit.stages import BOUNDS, Base, earliest
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.contract import state_digest

BATCH, STREAMING = "batch independence", "streaming"
SAMPLED, ALONE, PASSES = 64, 5, 4
BATCH_TOLERANCE = 1e-6
STREAMED = 20
Columns = dict[str, Tensor]


def batch_independence(base: Base) -> Result:
    """Forecasts of some windows alone, shuffled, next to others, and under dropout; the weights stay as they are.

    Args:
        base: The stages of the table as it is, with forecasts.
    """
    predictor = base.pipeline.predictor
    if predictor is None or len(base.rows) < 2:
        return Result(BATCH, NOT_APPLICABLE, NO_CHECKPOINT if predictor is None else "fewer than two complete windows")
    rows = np.random.default_rng(0).permutation(base.rows)[:SAMPLED]
    before = state_digest(predictor.forecaster.state_dict())
    plain = predictor.forecast_rows(base.panel, rows)
    findings = []
    for k in range(min(ALONE, len(rows))):
        one = {name: values[[k]] for name, values in plain.items()}
        findings += _apart(base, one, predictor.forecast_rows(base.panel, rows[[k]]), rows[[k]], "forecast alone")
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = predictor.forecast_rows(base.panel, rows[order])
    findings += _apart(base, _picked(plain, order), shuffled, rows[order], "the rows of its batch were shuffled")
    findings += _dropout(base, predictor, rows)
    if state_digest(predictor.forecaster.state_dict()) != before:
        findings.append(Finding("weights", "state_dict", what="forecasting changed it"))
    compared = f"{len(rows)} windows alone, shuffled, next to others with dropout; weights by digest"
    return result(BATCH, compared, findings)


def _dropout(base: Base, predictor: Predictor, rows: Rows) -> list[Finding]:
    """Under the same masks the other half of a batch is replaced by other windows."""
    values, half = base.panel.values, max(len(rows) // 2, 1)
    windows = cut_windows(values, torch.from_numpy(rows), predictor.recipe.window)
    replaced = torch.cat([windows[:half], windows[half:].flip(1) * 3.0 + 1.0])
    with torch.inference_mode():
        one, other = (predictor.forecaster.forecast(x, PASSES, seed=3).columns for x in (windows, replaced))
    first = np.arange(half)
    what = "the other windows of its batch were replaced, with dropout"
    return _apart(base, _picked(one, first), _picked(other, first), rows[:half], what)


def _picked(columns: Columns, rows: NDArray[np.int64]) -> Columns:
    return {name: values.cpu()[torch.from_numpy(rows)] for name, values in columns.items()}


def _apart(base: Base, one: Columns, other: Columns, rows: Rows, what: str) -> list[Finding]:
    findings = []
    for name, values in one.items():
        size = float(values.abs().mean()) + 1e-12
        different = ((values - other[name].cpu()).abs() > BATCH_TOLERANCE * (values.abs() + size)).any(dim=1).numpy()
        if different.any():
            place = earliest(base.panel, rows[different])
            findings.append(Finding("forecasts", name, *place, f"it changed when {what}", int(different.sum())))
    return findings


def streaming(base: Base) -> Result:
    """Intervals of some days, given nothing but what had ended by then, are those of the whole table.

    Args:
        base: The stages of the table as it is, with forecasts.
    """
    predictor = base.pipeline.memory
    calibration = None if predictor is None else predictor.forecaster.contract.calibration
    if predictor is None or calibration is None or not len(base.rows):
        reason = (
            NO_CHECKPOINT if predictor is None else "no complete window" if calibration else "no calibration scores"
        )
        return Result(STREAMING, NOT_APPLICABLE, reason)
    table = predictor.predict_rows(base.panel, base.rows)
    bounds = [name for name in table.columns if name.startswith(BOUNDS)]
    boundary = predictor.forecaster.contract.boundaries.test
    days = np.sort(table["as_of"].unique())[-len(table["as_of"].unique()) // 4 :]
    days = days[evenly_spread(len(days), STREAMED, down=True)]
    attrs, table.attrs = table.attrs, {}  # pandas copies them with every piece of the table
    findings: list[Finding] = []
    for day in days:
        findings += _of_the_day(table, attrs, bounds, calibration, boundary, pd.Timestamp(day))
    return result(STREAMING, f"intervals of {len(days)} days from the forecasts and labels until then", findings)


def _of_the_day(
    table: pd.DataFrame,
    attrs: dict[Hashable | None, Any],
    bounds: list[str],
    calibration: Calibration,
    boundary: str,
    day: pd.Timestamp,
) -> list[Finding]:
    """Bounds of one day that differ when only the labels that had ended are known."""
    then = table[table["as_of"] <= day].drop(columns=bounds).reset_index(drop=True)
    open_yet = ~(then["target_end"] <= day)
    then.loc[open_yet, ["y_true", "bar_return"]] = np.nan
    then.loc[open_yet, "target_end"] = pd.NaT
    then.attrs = dict(attrs)
    again = add_intervals(then, calibration, boundary)
    again.attrs = {}
    one, other = (part[part["as_of"] == day].reset_index(drop=True) for part in (table, again))
    findings = []
    for name in bounds:
        different = one[name].to_numpy() != other[name].to_numpy()
        if different.any():
            place = str(one["symbol"][different.argmax()]), time_text(day.tz_localize(None).to_datetime64())
            findings.append(Finding("intervals", name, *place, "not what it was on that day"))
    return findings
