"""Judges a table of forecasts from a notebook."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from cnn_lstm.data.arrow_frames import Frame, as_pandas
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.prices import require_table
from cnn_lstm.evaluation.foreign.judgement import Reading, judge_forecasts
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import make_folder
from cnn_lstm.notebook.report import TestReport
from cnn_lstm.training.run_folder import unused_folder


def judge(  # noqa: PLR0913 - each is an option of the command
    forecasts: Frame,
    data: MarketData,
    *,
    columns: Mapping[str, str] | None = None,
    model: str | None = None,
    closes: bool = False,
    cutoff: str | None = None,
    issued: str | None = None,
    settings: Evaluation | None = None,
    folder: str | Path | None = None,
) -> TestReport:
    """Judges forecasts that any program made, as `cnn-lstm judge` does.

    Args:
        forecasts: Table of forecasts; docs/judge.md shows the forms.
        data: Prices and the one target that was forecast; features and window are those of the baselines.
        columns: The table's names for `symbol`, `as_of`, `target_end`, `y_pred` or `sample`.
        model: Which model's forecasts, where the table has those of several.
        closes: Whether the forecasts are prices, which become returns since the last known close.
        cutoff: First day that the training of the forecaster did not know, ISO.
        issued: Column with the time at which each forecast was made.
        settings: Costs, level and so on.
        folder: Where the report is written; `runs/judge-DATE-TIME` by default.

    Raises:
        DataError: E357 to E359, if the table cannot be read, or belongs to other prices.

    Example:
        >>> data = MarketDataModule(prices, targets=[ForwardReturn(5)])  # doctest: +SKIP
        >>> judge(theirs, data, columns={"y_pred": "NHITS"}).verdict  # doctest: +SKIP
        {'return_5': {'evidence': False, 'verdict': 'NO EVIDENCE OF SKILL', 'reason': ...}}
    """
    fresh = Path("runs") / f"judge-{time.strftime('%Y%m%d-%H%M%S')}"
    where = unused_folder(fresh) if folder is None else Path(folder)
    make_folder(where)
    reading = Reading(dict(columns or {}), model, closes, cutoff, issued)
    frame = require_table(as_pandas(forecasts))
    judge_forecasts(where, frame, data, settings or Evaluation(), reading)
    return TestReport.from_run(where)
