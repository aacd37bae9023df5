"""The columns of the baselines in the predictions table, next to those of the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.windows import Rows
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from cnn_lstm.evaluation.baselines.fit import fit_baselines
from cnn_lstm.evaluation.forecasts import variance_name


def add_baselines(
    table: pd.DataFrame, data: MarketDataModule, season: int | None = None, rows: Rows | None = None
) -> pd.DataFrame:
    """The predictions table with the forecasts of the baselines, each fitted on the training rows alone.

    Args:
        table: Predictions table.
        data: The data module that it was made from.
        season: Rows of a season for the seasonal naive forecast; guessed from the dates by default.
        rows: Panel rows of the table; the test part by default.

    Returns:
        The table with one column per baseline, `naive_mae` and `naive_mse`, and the variance forecast that belongs to
        each column of a volatility target. A column that does not suit a target is NaN in its rows.
    """
    rows = data.parts.test if rows is None else rows
    baselines = fit_baselines(BaselineInputs.of(data), season).forecast(rows)
    key = pd.DataFrame({"symbol": data.panel.symbol[rows], "as_of": data.panel.time[rows]})
    key["symbol"] = key["symbol"].map(dict(enumerate(data.panel.symbols))).astype("str")
    key["as_of"] = key["as_of"].dt.tz_localize("UTC")
    parts = [
        key.assign(
            target=target, **columns, naive_mae=baselines.naive_mae[target], naive_mse=baselines.naive_mse[target]
        ).astype({"target": "str"})
        for target, columns in baselines.columns.items()
    ]
    joined = table.merge(pd.concat(parts), on=["target", "symbol", "as_of"], how="left", validate="one_to_one")
    joined.attrs = table.attrs
    return with_variances(joined, baselines.smearing)


def with_variances(table: pd.DataFrame, factors: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """The predictions table with variance forecasts: factor times squared volatility, see `smearing`.

    Args:
        table: Predictions table.
        factors: For each target name the factor of each of its point forecast columns; targets other than
            volatilities are skipped.

    Returns:
        The table with a column `variance_pred` for `y_pred`, `variance_har` for `y_har`, and so on; NaN for targets
        without a factor.
    """
    variances: dict[str, pd.Series[float]] = {}
    infos = target_infos(table)
    for target, of_target in factors.items():
        quantity = infos[target].quantity
        rows = table["target"] == target
        for column, factor in of_target.items() if quantity.is_volatility else ():
            name = variance_name(column)
            known = variances.get(name, table[name] if name in table else pd.Series(np.nan, table.index))
            variances[name] = known.mask(rows, factor * quantity.variance(table[column].to_numpy(np.float64)))
    widened = table.assign(**variances)
    widened.attrs = table.attrs
    return widened
