"""The table of `validate`: the model next to trivial forecasts of the same rows; `test` has a report instead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.quantities import Quantity
from cnn_lstm.evaluation.formatting import aligned
from cnn_lstm.hints import counted
from cnn_lstm.model.metrics import classification_metrics, regression_metrics

REGRESSION = ("mae", "rmse", "r2", "correlation")
CLASSIFICATION = ("accuracy", "balanced_accuracy", "f1", "mcc")


def scoreboard(predictions: pd.DataFrame) -> pd.DataFrame:
    """Metrics of the model, the training mean and the last value, for each target.

    Every metric comes from the predictions table alone. The training mean is the most frequent training class for
    classes; zero is added where the target is a return.

    Args:
        predictions: Predictions table with its `attrs`; rows whose truth is not known yet are left out.

    Returns:
        One row per target and forecast: target, forecast, rows, and the metrics; rmse and mae in the target's unit.

    Example:
        >>> table = pd.DataFrame(
        ...     {"target": "return_1", "y_true": [0.1, -0.1], "y_pred": [0.1, 0.0], "y_last": [0.0, 0.1], "y_mean": 0.0}
        ... )
        >>> table.attrs["targets"] = {"return_1": {"kind": "return", "classes": 0}}
        >>> scoreboard(table).set_index("forecast")["mae"].round(3).to_dict()
        {'model': 0.05, 'zero': 0.1, 'training mean': 0.1, 'last value': 0.15}
    """
    known = predictions[predictions["y_true"].notna()]
    lines, infos = [], target_infos(predictions)
    for target, group in known.groupby("target", sort=False):
        group = group[group["y_last"].notna()]
        true = torch.tensor(group["y_true"].to_numpy(copy=True))
        about = infos[str(target)]
        for name, forecast in _forecasts(about.quantity, group).items():
            metrics = _metrics(forecast, true, about.classes)
            lines.append({"target": target, "forecast": name, "rows": len(group), **metrics})
    return pd.DataFrame(lines)


def _forecasts(quantity: Quantity, group: pd.DataFrame) -> dict[str, Tensor]:
    model, mean, last = (torch.tensor(group[name].to_numpy(copy=True)) for name in ("y_pred", "y_mean", "y_last"))
    zero = {"zero": torch.zeros(len(group), dtype=torch.float64)} if quantity.is_return else {}
    name = "majority class" if quantity.is_class else "training mean"
    return {"model": model, **zero, name: mean, "last value": last}


def _metrics(forecast: Tensor, true: Tensor, classes: int) -> dict[str, float]:
    metrics = classification_metrics(forecast, true, classes) if classes else regression_metrics(forecast, true)
    return {name: metrics[name] for name in (CLASSIFICATION if classes else REGRESSION)}


def render(scores: pd.DataFrame) -> str:
    """The scoreboard as text, one block per target, the best value of each metric with a star.

    Args:
        scores: What `scoreboard` returned.

    Example:
        >>> scores = pd.DataFrame({"target": ["r"], "forecast": ["model"], "rows": [9], "mae": [0.5], "rmse": [1.0]})
        >>> print(render(scores))
        r, 9 forecasts
        model  mae 0.5000*  rmse 1.0000*
    """
    blocks = []
    for target, group in scores.groupby("target", sort=False):
        metrics = [name for name in group.columns if name not in ("target", "forecast", "rows")]
        best = {name: group[name].min() if name in ("mae", "rmse") else group[name].max() for name in metrics}
        lines = [
            [
                row["forecast"],
                *(f"{name} {_number(row[name])}{'*' if row[name] == best[name] else ' '}" for name in metrics),
            ]
            for _, row in group.iterrows()
        ]
        blocks.append(f"{target}, {counted(int(group['rows'].iloc[0]), 'forecast')}\n{aligned(lines)}")
    return "\n\n".join(blocks)


def _number(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) >= 0.1 else f"{value:.5f}"
