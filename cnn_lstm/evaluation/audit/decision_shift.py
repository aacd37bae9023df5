"""What a later decision costs: an edge that is gone one bar later was taken from the bar that it trades on."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from cnn_lstm.data.targets import Target
from cnn_lstm.evaluation.audit.findings import FAILED, NO_CHECKPOINT, NOT_APPLICABLE, WARNED, Finding, Result, result
from cnn_lstm.evaluation.audit.stages import Base
from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.metrics.sharpe import automatic_lags, sharpe_ratio, sharpe_standard_error

SHIFTED = "shifted decision"
DELAYS = (0, 1, 2, 5)
LONG = 5  # bars of a label of which one bar is little
CLAIMED = 2.0  # standard errors from which a Sharpe ratio is an edge


class Edge(NamedTuple):
    """What decisions earn.

    Attributes:
        sharpe: Yearly Sharpe ratio before costs.
        error: Its standard error.
        ic: Correlation of forecasts and labels.
    """

    sharpe: float
    error: float
    ic: float


def shifted_decision(base: Base, warnings_fail: bool = False) -> Result:
    """Takes the decisions on the validation rows 1, 2 and 5 bars later, and gives Sharpe ratio and IC of each.

    A label of 5 bars or more keeps four fifths of its interval when decided one bar later. Where more than half of an
    edge goes, it is a warning.

    Args:
        base: The stages of the table as it is, with forecasts.
        warnings_fail: Whether that is a failure.
    """
    data, predictor = base.pipeline.data, base.pipeline.memory
    targets = [target for target in data.targets if target.traded]
    if predictor is None or not targets:
        return Result(SHIFTED, NOT_APPLICABLE, "no target is traded" if predictor else NO_CHECKPOINT)
    table = predictor.predict_rows(data.panel, data.parts.validation)
    curves: list[str] = []
    findings: list[Finding] = []
    for target in targets:
        rows = table[table["target"] == target.name]
        edges = [_edge(rows, target, delay) for delay in DELAYS]
        points = ", ".join(f"{edge.sharpe:.2f} ({edge.ic:+.3f})" for edge in edges)
        curves.append(f"{target.name} {points}")
        now, later = edges[:2]
        claimed = now.sharpe > CLAIMED * now.error
        if target.horizon >= LONG and claimed and later.sharpe < 0.5 * now.sharpe:
            gone = 1 - later.sharpe / now.sharpe
            what = f"decided one bar later, {gone:.0%} of its Sharpe ratio of {now.sharpe:.2f} is gone"
            findings.append(Finding("forecasts", f"y_pred of {target.name}", what=what))
    bars = ", ".join(map(str, DELAYS))
    compared = f"Sharpe before costs (IC) on validation rows, decided {bars} bars later: {'; '.join(curves)}"
    return result(SHIFTED, compared, findings, FAILED if warnings_fail else WARNED)


def _edge(rows: pd.DataFrame, target: Target, delay: int) -> Edge:
    """What forecasts earn that are `delay` rows old."""
    rows = rows.sort_values(["symbol", "as_of"])
    rows = rows.assign(y_pred=rows.groupby("symbol", observed=True)["y_pred"].shift(delay))
    book = make_book(rows, target.horizon, classes=target.classes)
    year = math.sqrt(book.periods)
    return Edge(
        sharpe=sharpe_ratio(book.gross) * year,
        error=sharpe_standard_error(book.gross, automatic_lags(len(book.gross))) * year,
        ic=float(rows["y_pred"].corr(rows["y_true"])),
    )
