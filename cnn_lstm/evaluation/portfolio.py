"""Forecasts and strategies in the forms of portfolio libraries: a frame for skfolio, a series for quantstats.

Shapes: D dates, S symbols.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cnn_lstm.data.arrow_frames import Frame, as_pandas
from cnn_lstm.data.predictions import TARGETS, TargetInfo, target_infos
from cnn_lstm.data.prices import require_table
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.forecasts import judged_rows
from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.hints import first_names


def forecast_frame(predictions: Frame, target: str | None = None) -> pd.DataFrame:
    """Expected return of one bar, as a wide frame of decisions: a field of skfolio's `AssetPanel`.

    skfolio's `PredictorAlpha` calibrates it, with `horizon` that of the target and `signal_lag` its delay + 1. The
    forecasts must be out of sample, as those of `walk_forward` and `test` are: skfolio cannot see what a model has
    learned from.

    Args:
        predictions: Predictions table, with its `attrs`, as `walk_forward` and `test` write it. Rows whose truth is not
            known yet count too.
        target: Name of the target, a return; the only one by default.

    Returns:
        The forecast divided by the horizon, (D, S): a row for each date of a decision (`as_of`, without a time zone), a
        column for each symbol, NaN where a forecast is missing. Logarithmic returns stay logarithmic.

    Raises:
        DataError: E371, if the table lacks the target or its description, or the target is not a return.

    Example:
        >>> days = pd.to_datetime(["2024-01-02", "2024-01-03"], utc=True)
        >>> table = pd.DataFrame({"symbol": "A", "as_of": days, "target": "return_5", "y_pred": [0.01, -0.02]})
        >>> table.attrs["targets"] = {"return_5": {"kind": "return", "horizon": 5}}
        >>> forecast_frame(table)["A"].tolist()
        [0.002, -0.004]
    """
    table = require_table(as_pandas(predictions))
    name, about = _target(table, target)
    if not about.quantity.is_return:
        raise DataError(f"{name} is a {about.kind}", "forecast_frame", "give forecasts of returns", code=371)
    rows = table[table["target"] == name]
    wide: pd.DataFrame = rows.pivot(index="as_of", columns="symbol", values="y_pred").astype(np.float64) / about.horizon
    return wide.set_axis(_naive(wide.index)).rename_axis(index="date")


def strategy_returns(
    predictions: Frame, target: str | None = None, settings: Evaluation | None = None, name: str = "strategy"
) -> pd.Series:
    """Returns after costs of the report's strategy by day, as quantstats, pyfolio and ffn read them.

    They are those that the report's Sharpe ratio is made of, each on the day on which its bar ended. The stake is
    constant: returns add up. A library that compounds them shows other curves, but the same Sharpe ratio.

    Args:
        predictions: As for `forecast_frame`, of a target that is traded.
        target: Name of the target; the only one by default.
        settings: Costs and rule; those of the report of the table by default, or else the defaults.
        name: Name of the series.

    Returns:
        Simple net returns in stakes, (D,), ascending, by day without a time zone. Bars within a day are added up.

    Raises:
        DataError: E371, if the table lacks the target, the target is not traded, or all returns are missing.

    Example:
        >>> returns = strategy_returns(pd.read_parquet("predictions.parquet"))  # doctest: +SKIP
        >>> quantstats.stats.sharpe(returns)  # doctest: +SKIP
        0.41
    """
    table = require_table(as_pandas(predictions))
    which, about = _target(table, target)
    settings = settings or Evaluation(**table.attrs.get("settings", {}))
    rows = judged_rows(table, which, about)
    if not about.quantity.traded or rows["bar_return"].isna().all():
        fix = "give forecasts of returns or directions of prices"
        raise DataError(f"{which} is not traded", "strategy_returns", fix, code=371)
    book = make_book(rows, about.horizon, rule=settings.position, cost_bp=settings.cost_bp, classes=about.classes)
    earned = _naive(_ends_of_bars(rows, book.dates)).normalize().rename("date")
    return pd.Series(book.net, index=earned, name=name).groupby(level=0).sum()


def _target(table: pd.DataFrame, target: str | None) -> tuple[str, TargetInfo]:
    """Name of the target, and what the table says of it."""
    infos = target_infos(table) if TARGETS in table.attrs else {}
    if target is None and len(infos) == 1:
        target = next(iter(infos))
    if target is None or target not in infos:
        what = "the table does not say which target it is of" if target is None else f"no target {target}"
        fix = (
            f"choose one of {first_names(list(infos))}" if infos else "read predictions.parquet, which keeps its attrs"
        )
        raise DataError(what, "the predictions table", fix, code=371)
    return target, infos[target]


def _ends_of_bars(rows: pd.DataFrame, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """When the bar ended that the decisions of each date traded first, (D,): the bar after `target_start`."""
    begins = rows.groupby("as_of")["target_start"].max().reindex(dates)
    bars = pd.DatetimeIndex(np.unique(pd.concat([rows["target_start"], rows["target_end"]]).dropna()))
    after = np.minimum(bars.searchsorted(pd.DatetimeIndex(begins), side="right"), len(bars) - 1)
    return bars[after]


def _naive(times: pd.Index) -> pd.DatetimeIndex:
    """Times in UTC, without their zone."""
    return pd.DatetimeIndex(times).tz_localize(None)
