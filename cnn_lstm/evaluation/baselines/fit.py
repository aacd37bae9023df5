"""All baselines together: fitted once, then they forecast any rows, as columns of a predictions table.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Target
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns, Fitted
from cnn_lstm.evaluation.baselines.boosting import fit_boosting, installed
from cnn_lstm.evaluation.baselines.dlinear import fit_dlinear
from cnn_lstm.evaluation.baselines.har import fit_har
from cnn_lstm.evaluation.baselines.linear import logistic_baseline, ridge_baseline
from cnn_lstm.evaluation.baselines.trivial import NaiveErrors, fit_trivial, naive_errors
from cnn_lstm.evaluation.forecasts import variance_name
from cnn_lstm.model.smearing import LogRatios, log_ratios, smearing

MOST_TRAINING = 50_000  # rows that smearing factors rest on, as many as ridge and DLinear are fitted on


@dataclass(frozen=True)
class FittedBaselines:
    """Baselines fitted on the training rows.

    Attributes:
        inputs: What the baseline is fitted on.
        models: The fitted baselines.
        naive: Naive errors of each symbol and target.
        smearing: For each volatility target the factor of each point forecast, `y_last` and `y_mean` among them.
    """

    inputs: BaselineInputs
    models: list[Fitted]
    naive: NaiveErrors
    smearing: dict[str, dict[str, float]]

    def forecast(self, rows: Rows) -> dict[str, Columns]:
        """Columns of rows that end a complete window, each (n,), in the target's unit, for each target name.

        They are the forecasts of all baselines, then `naive_mae` and `naive_mse`, those of each row's symbol.
        """
        symbol, naive = self.inputs.panel.symbol[rows], self.naive
        forecasts = _columns(self.inputs, self.models, rows)
        return {
            target.name: forecasts[k] | {"naive_mae": naive.mae[symbol, k], "naive_mse": naive.mse[symbol, k]}
            for k, target in enumerate(self.inputs.targets)
        }


def fit_baselines(inputs: BaselineInputs, season: int | None = None) -> FittedBaselines:
    """Fits every baseline that suits the targets: parameters on training rows, penalties on validation rows.

    Args:
        inputs: What to fit on.
        season: Rows of a season for `y_seasonal`; guessed from the dates by default.

    Returns:
        The baselines. LightGBM is among them where it is installed, HAR where `inputs` has prices.
    """
    models: list[Fitted] = [fit_trivial(inputs, season), fit_dlinear(inputs)]
    models.append(logistic_baseline(inputs) if inputs.targets[0].classes else ridge_baseline(inputs))
    if inputs.prices is not None and any(target.quantity.is_volatility for target in inputs.targets):
        models.append(fit_har(inputs, inputs.prices))
    if installed():
        models.append(fit_boosting(inputs))
    return FittedBaselines(inputs, models, naive_errors(inputs), _smearing(inputs, models))


def _columns(inputs: BaselineInputs, models: list[Fitted], rows: Rows) -> list[Columns]:
    merged: list[Columns] = [{} for _ in inputs.targets]
    for model in models:
        for k, columns in enumerate(model.forecast(rows)):
            merged[k] |= columns
    for k, target in enumerate(inputs.targets):
        if target.quantity.is_positive:
            # a linear model may forecast a volatility below zero, whose square would be a high variance
            labels = inputs.labels(inputs.parts.train, k)
            least = labels[labels > 0].min()
            merged[k] = {name: np.maximum(values, least) for name, values in merged[k].items()}
    return merged


def _smearing(inputs: BaselineInputs, models: list[Fitted]) -> dict[str, dict[str, float]]:
    volatilities = {k: target for k, target in enumerate(inputs.targets) if target.quantity.is_volatility}
    if not volatilities:
        return {}
    validation, training = (
        _errors(inputs, models, rows, volatilities) for rows in (inputs.parts.validation, inputs.train(MOST_TRAINING))
    )
    return {
        target.name: {name: smearing(errors, training[k][name]) for name, errors in validation[k].items()}
        for k, target in volatilities.items()
    }


def _errors(
    inputs: BaselineInputs, models: list[Fitted], rows: Rows, targets: Mapping[int, Target]
) -> dict[int, dict[str, LogRatios]]:
    """For each target the errors of each column of point forecasts, `y_last` and `y_mean` among them."""
    columns, date = _columns(inputs, models, rows), torch.from_numpy(inputs.panel.time[rows].astype(np.int64))
    errors = {}
    for k, target in targets.items():
        mean = np.full(len(rows), float(inputs.statistics.y_mean[k]))
        forecasts = columns[k] | {"y_last": inputs.present(rows, k), "y_mean": mean}
        truth = torch.from_numpy(inputs.labels(rows, k))
        errors[k] = {
            name: log_ratios(target.kind, truth, torch.from_numpy(values), date) for name, values in forecasts.items()
        }
    return errors


def add_baselines(
    table: pd.DataFrame, data: MarketData, season: int | None = None, rows: Rows | None = None
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
    baselines = fit_baselines(BaselineInputs.of(data), season)
    key = pd.DataFrame({"symbol": data.panel.symbol[rows], "as_of": data.panel.time[rows]})
    key["symbol"] = key["symbol"].map(dict(enumerate(data.panel.symbols))).astype("str")
    key["as_of"] = key["as_of"].dt.tz_localize("UTC")
    parts = [
        key.assign(target=target, **columns).astype({"target": "str"})
        for target, columns in baselines.forecast(rows).items()
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
