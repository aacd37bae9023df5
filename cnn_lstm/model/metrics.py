"""Metrics of forecasts against truth, from all forecasts of an epoch at once, by torchmetrics.

Scale-free metrics are computed on values standardised by the truth: torchmetrics takes sums of squares below 1e-4
for zero, which the sums of daily returns are (https://github.com/Lightning-AI/torchmetrics, `_r2_score_compute`).

Shapes: n forecasts, H targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics.functional import explained_variance, pearson_corrcoef, r2_score
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
)

NAN = float("nan")


def regression_metrics(y_pred: Tensor, y_true: Tensor) -> dict[str, float]:
    """Errors and fit of one target.

    Args:
        y_pred: Forecasts in original units, (n,).
        y_true: Truth in original units, (n,).

    Returns:
        mse, mae, rmse, r2, explained_variance, correlation, and mean and std of both; NaN where undefined, for
        example the correlation of a constant forecast.

    Example:
        >>> metrics = regression_metrics(torch.tensor([0.0, 0.0]), torch.tensor([0.001, -0.001]))
        >>> round(metrics["r2"], 6), round(metrics["rmse"], 6)
        (0.0, 0.001)
    """
    pred, true = y_pred.double(), y_true.double()
    mse = float(((pred - true) ** 2).mean())
    metrics = {"mse": mse, "mae": float((pred - true).abs().mean()), "rmse": mse**0.5}
    metrics |= _fit(pred, true)
    for name, values in (("pred", pred), ("true", true)):
        metrics[f"{name}_mean"] = float(values.mean())
        metrics[f"{name}_std"] = float(values.std(correction=0))
    return metrics


def _fit(pred: Tensor, true: Tensor) -> dict[str, float]:
    scale = true.std(correction=0)
    if len(true) < 2 or not scale > 0:
        return {"r2": NAN, "explained_variance": NAN, "correlation": NAN}
    z_pred, z_true = (pred - true.mean()) / scale, (true - true.mean()) / scale
    moves = z_pred.std(correction=0)
    correlation = float(pearson_corrcoef((z_pred - z_pred.mean()) / moves, z_true)) if moves > 1e-9 else NAN
    return {
        "r2": float(r2_score(z_pred, z_true)),
        "explained_variance": float(torch.as_tensor(explained_variance(z_pred, z_true))),
        "correlation": correlation,
    }


def classification_metrics(y_pred: Tensor, y_true: Tensor, classes: int) -> dict[str, float]:
    """Hits of one target.

    Args:
        y_pred: Forecast classes, (n,).
        y_true: True classes, (n,).
        classes: Number of classes.

    Returns:
        accuracy, balanced_accuracy (mean recall), f1 (macro), mcc (Matthews correlation).

    Example:
        >>> classification_metrics(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2)["balanced_accuracy"]
        0.75
    """
    pred, true = y_pred.long(), y_true.long()
    return {
        "accuracy": float((pred == true).double().mean()),
        # torchmetrics counts a class that is never true as a recall of 0
        "balanced_accuracy": float(multiclass_accuracy(pred, true, classes, average="none")[true.unique()].mean()),
        "f1": float(multiclass_f1_score(pred, true, classes, average="macro")),
        # of two classes torchmetrics gives a constant forecast some number other than 0
        "mcc": float(multiclass_matthews_corrcoef(pred, true, classes)) if _varies(pred) and _varies(true) else 0.0,
    }


def _varies(classes: Tensor) -> bool:
    return bool((classes != classes[0]).any())


def forecast_metrics(y_pred: Tensor, y_true: Tensor, classes: int, names: Sequence[str]) -> dict[str, float]:
    """Metrics of all targets: their plain mean under the bare name, and one each where there are several.

    Args:
        y_pred: Forecasts, (n, H).
        y_true: Truth, (n, H).
        classes: Number of classes; 0 for numbers.
        names: Names of the targets.
    """
    each = [
        classification_metrics(p, t, classes) if classes else regression_metrics(p, t)
        for p, t in zip(y_pred.T, y_true.T, strict=True)
    ]
    metrics = {key: float(torch.tensor([one[key] for one in each]).mean()) for key in each[0]}
    if len(each) > 1:
        metrics |= {f"{key}_{name}": one[key] for name, one in zip(names, each, strict=True) for key in one}
    return metrics


def epoch_metrics(stage: str, columns: Mapping[str, Tensor], classes: int, names: Sequence[str]) -> dict[str, float]:
    """Loss and metrics of the forecasts of an epoch, by the names under which they are logged.

    Args:
        stage: `train`, `val` or `test`.
        columns: `loss`, (n,), `y_pred` and `y_true`, (n, H).
        classes: Number of classes; 0 for numbers.
        names: Names of the targets.
    """
    metrics = {"loss": float(columns["loss"].double().mean())}
    metrics |= forecast_metrics(columns["y_pred"], columns["y_true"], classes, names)
    return {f"{stage}_{name}": value for name, value in metrics.items()}


def metric_names(stage: str, classes: int, names: Sequence[str]) -> set[str]:
    """What `epoch_metrics` calls its metrics.

    Args:
        stage: `train`, `val` or `test`.
        classes: Number of classes; 0 for numbers.
        names: Names of the targets.

    Example:
        >>> sorted(metric_names("val", 2, ["up"]))
        ['val_accuracy', 'val_balanced_accuracy', 'val_f1', 'val_loss', 'val_mcc']
    """
    values = torch.arange(2.0)[:, None].expand(2, len(names))
    return set(epoch_metrics(stage, {"loss": values[:, 0], "y_pred": values, "y_true": values}, classes, names))
