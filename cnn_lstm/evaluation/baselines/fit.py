"""All baselines together: fitted once, then they forecast any rows.

Shapes: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cnn_lstm.data.windows import Rows
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns, Fitted, Floats
from cnn_lstm.evaluation.baselines.boosting import fit_boosting, installed
from cnn_lstm.evaluation.baselines.dlinear import fit_dlinear
from cnn_lstm.evaluation.baselines.har import fit_har
from cnn_lstm.evaluation.baselines.linear import fit_logistic, fit_ridge
from cnn_lstm.evaluation.baselines.trivial import NaiveErrors, fit_trivial, naive_errors
from cnn_lstm.model.calibration import smearing


@dataclass(frozen=True)
class Baselines:
    """Forecasts of all baselines for some rows.

    Attributes:
        columns: For each target name the forecast columns, each (n,), in the target's unit.
        naive_mae: For each target name the training MAE of the last value, (n,), that of each row's symbol.
        naive_mse: The same with squared errors.
        smearing: For each volatility target the factor of each point forecast, `y_last` and `y_mean` among them.
    """

    columns: dict[str, Columns]
    naive_mae: dict[str, Floats]
    naive_mse: dict[str, Floats]
    smearing: dict[str, dict[str, float]]


@dataclass(frozen=True)
class FittedBaselines:
    """Baselines fitted on the training rows.

    Attributes:
        inputs: What the baseline is fitted on.
        models: The fitted baselines.
        naive: Naive errors of each symbol and target.
        smearing: For each volatility target the factor of each point forecast.
    """

    inputs: BaselineInputs
    models: list[Fitted]
    naive: NaiveErrors
    smearing: dict[str, dict[str, float]]

    def forecast(self, rows: Rows) -> Baselines:
        """Forecasts of rows that end a complete window, (n,)."""
        symbol = self.inputs.panel.symbol[rows]
        names = [target.name for target in self.inputs.targets]
        return Baselines(
            dict(zip(names, _columns(self.inputs, self.models, rows), strict=True)),
            {name: self.naive.mae[symbol, k] for k, name in enumerate(names)},
            {name: self.naive.mse[symbol, k] for k, name in enumerate(names)},
            self.smearing,
        )


def fit_baselines(inputs: BaselineInputs, season: int | None = None) -> FittedBaselines:
    """Fits every baseline that suits the targets: parameters on training rows, penalties on validation rows.

    Args:
        inputs: What to fit on.
        season: Rows of a season for `y_seasonal`; guessed from the dates by default.

    Returns:
        The baselines. LightGBM is among them where it is installed, HAR where `inputs` has prices.
    """
    models: list[Fitted] = [fit_trivial(inputs, season), fit_dlinear(inputs)]
    models.append(fit_logistic(inputs) if inputs.targets[0].classes else fit_ridge(inputs))
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
    volatilities = [k for k, target in enumerate(inputs.targets) if target.quantity.is_volatility]
    if not volatilities:
        return {}
    rows = inputs.parts.validation
    columns = _columns(inputs, models, rows)
    factors = {}
    for k in volatilities:
        target = inputs.targets[k]
        mean = np.full(len(rows), float(inputs.statistics.y_mean[k]))
        forecasts = columns[k] | {"y_last": inputs.present(rows, k), "y_mean": mean}
        truth = torch.from_numpy(inputs.labels(rows, k))
        factors[target.name] = {
            name: smearing(target.kind, truth, torch.from_numpy(values)) for name, values in forecasts.items()
        }
    return factors
