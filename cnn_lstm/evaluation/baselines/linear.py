"""Linear models on the flattened window: ridge regression for numbers, logistic regression for classes.

Shapes: n windows, K = T * F inputs, H targets, P penalties, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cnn_lstm.data.targets import Floats
from cnn_lstm.data.windows import Rows
from cnn_lstm.evaluation.baselines.baseline_inputs import LEAST_PROBABILITY, BaselineInputs, Columns, class_columns

MAX_WINDOWS = 50_000
MAX_LOGISTIC_WINDOWS = 20_000
PENALTIES = 10.0 ** np.arange(-4, 3.5, 0.5)  # per window; the penalty of the sum of squares is n times as large
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # C of the logistic regression, times n
ITERATIONS = 100
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Ridge:
    """Ridge regressions of all targets on the standardised window.

    Attributes:
        inputs: What the baseline is fitted on.
        weights: Coefficients, (K, H) float32, of standardised targets.
        intercept: Their intercepts, (H,).
        penalties: Chosen penalty of each target, (H,): sum of squared errors + penalty * sum of squared weights.
    """

    inputs: BaselineInputs
    weights: Tensor
    intercept: Tensor
    penalties: Floats

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `y_ridge`."""
        parts = [chunk @ self.weights + self.intercept for chunk in _flat_chunks(self.inputs, rows)]
        standard = torch.cat(parts) if parts else torch.zeros(0, len(self.intercept))
        loc, scale = _location(self.inputs, rows)
        values = (standard.double() * scale + loc).numpy()
        return [{"y_ridge": values[:, k]} for k in range(values.shape[1])]


def fit_ridge(inputs: BaselineInputs) -> Ridge:
    """Fits all targets and penalties by one eigendecomposition; the windows are never in memory together.

    Uses at most 50,000 training windows, evenly spaced, and for each target the penalty with the lowest mean squared
    error on the validation rows. An anchored target is fitted as its change from the last value.

    Source:
        Hoerl, Kennard (1970), Ridge Regression; the path of penalties as in Hastie, Tibshirani, Friedman (2009), 3.4.
    """
    # Not scikit-learn's Ridge: it holds all windows at once (50,000 of 2,048 inputs: 0.4 GB, and a centred copy) and
    # solves again for each penalty. The Gram matrix is summed over chunks of 32 MiB and serves all penalties.
    rows = inputs.train(MAX_WINDOWS)
    labels = _standard_labels(inputs, rows)
    gram, cross, mean = _moments(inputs, rows, labels - labels.mean(dim=0))
    penalties = torch.from_numpy(PENALTIES) * len(rows)
    roots, vectors = torch.linalg.eigh(gram)
    shrunk = (vectors.T @ cross)[:, None] / (roots.clamp(min=0)[:, None, None] + penalties[None, :, None])
    weights = torch.einsum("ij,jph->iph", vectors, shrunk)
    intercept = labels.mean(dim=0) - torch.einsum("i,iph->ph", mean, weights)
    best = _squared_errors(inputs, weights.float(), intercept.float()).argmin(dim=0)
    targets = torch.arange(len(best))
    return Ridge(inputs, weights[:, best, targets].float(), intercept[best, targets].float(), penalties[best].numpy())


def _flat_chunks(inputs: BaselineInputs, rows: Rows) -> Iterator[Tensor]:
    return (chunk.flatten(1) for chunk in inputs.window_chunks(rows))


def _moments(inputs: BaselineInputs, rows: Rows, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centred Gram matrix (K, K), products with centred labels (K, H), mean input (K,), accumulated in float64."""
    gram, cross, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
    start = 0
    for windows in _flat_chunks(inputs, rows):
        part = labels[start : start + len(windows)].float()
        gram = gram + (windows.T @ windows).double()
        cross = cross + (windows.T @ part).double()
        total = total + windows.sum(dim=0, dtype=torch.float64)
        start += len(windows)
    mean = total / len(rows)
    return gram - len(rows) * torch.outer(mean, mean), cross, mean


def _squared_errors(inputs: BaselineInputs, weights: Tensor, intercept: Tensor) -> Tensor:
    """Sum of squared errors of each penalty and target on the validation rows, (P, H)."""
    rows = inputs.validation(MAX_WINDOWS)
    labels = _standard_labels(inputs, rows)
    total, start = torch.zeros(intercept.shape, dtype=torch.float64), 0
    for windows in _flat_chunks(inputs, rows):
        forecast = (windows @ weights.flatten(1)).view(-1, *intercept.shape) + intercept
        total += (forecast.double() - labels[start : start + len(windows), None]).square().sum(dim=0)
        start += len(windows)
    return total


def _standard_labels(inputs: BaselineInputs, rows: Rows) -> Tensor:
    loc, scale = _location(inputs, rows)
    return (inputs.panel.labels[torch.from_numpy(rows)].double() - loc) / scale


def _location(inputs: BaselineInputs, rows: Rows) -> tuple[Tensor, Tensor]:
    """What is subtracted from each label, (n, H), and what the difference is divided by, (H,)."""
    statistics = inputs.statistics
    last = torch.zeros(len(rows), len(statistics.y_loc), dtype=torch.float64)
    for k, feature in enumerate(statistics.y_anchor.tolist()):
        if feature >= 0:
            last[:, k] = inputs.panel.values[torch.from_numpy(rows), feature].double()
    scale = statistics.y_scale.double()
    return last + statistics.y_loc.double(), torch.where(scale.isinf(), 1.0, scale)


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regressions on the standardised window, one per target.

    Attributes:
        inputs: What the baseline is fitted on.
        weights: For each target the coefficients, (K, C) float32.
        intercept: For each target the intercepts, (C,).
        strengths: For each target the chosen inverse penalty C.
    """

    inputs: BaselineInputs
    weights: list[Tensor]
    intercept: list[Tensor]
    strengths: list[float]

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `logistic_p0`.. and `y_logistic`."""
        parts: list[list[Tensor]] = [[torch.zeros(0, len(bias))] for bias in self.intercept]
        for windows in _flat_chunks(self.inputs, rows):
            for k, (weights, bias) in enumerate(zip(self.weights, self.intercept, strict=True)):
                parts[k].append((windows @ weights + bias).softmax(dim=1))
        return [class_columns("logistic", torch.cat(part).double().numpy()) for part in parts]


def fit_logistic(inputs: BaselineInputs) -> Logistic:
    """Fits each target on at most 20,000 training windows, evenly spaced; C by the log loss on validation rows."""
    train, validation = inputs.train(MAX_LOGISTIC_WINDOWS), inputs.validation(MAX_LOGISTIC_WINDOWS)
    windows, held_out = (torch.cat(list(_flat_chunks(inputs, rows))) for rows in (train, validation))
    weights, intercept, strengths = [], [], []
    for k, target in enumerate(inputs.targets):
        truth = torch.from_numpy(inputs.labels(validation, k)).long()
        path = _logistic_path((windows, inputs.labels(train, k)), (held_out, truth), target.classes)
        _, strength, slope, bias = min(path, key=itemgetter(0))
        weights.append(slope)
        intercept.append(bias)
        strengths.append(strength)
    return Logistic(inputs, weights, intercept, strengths)


def _logistic_path(
    train: tuple[Tensor, Floats], held_out: tuple[Tensor, Tensor], classes: int
) -> Iterator[tuple[float, float, Tensor, Tensor]]:
    """Log loss on held-out windows, C, coefficients (K, C) and intercepts (C,), from the strongest penalty on.

    Each fit starts at the one before.
    """
    windows, labels = train
    model = LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE, warm_start=True)
    for strength in STRENGTHS:
        model.C = strength / len(labels)
        with warnings.catch_warnings():
            # the validation loss chooses among the fits, converged or not
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(windows.numpy(), labels)
        slope, bias = _all_classes(model, classes)
        probability = (held_out[0] @ slope + bias).softmax(dim=1).gather(1, held_out[1][:, None])
        loss = float(-probability.clamp(min=LEAST_PROBABILITY).log().double().mean())
        yield loss, model.C, slope, bias


def _all_classes(model: LogisticRegression, classes: int) -> tuple[Tensor, Tensor]:
    """Coefficients, (K, C), and intercepts, (C,); a class without a training row is practically impossible."""
    slope, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if len(slope) == 1:  # two classes: only the log odds of the second one
        slope, bias = torch.cat([torch.zeros_like(slope), slope]), torch.cat([torch.zeros_like(bias), bias])
    seen = torch.from_numpy(model.classes_).long()
    weights, intercept = torch.zeros(classes, slope.shape[1]), torch.full((classes,), -1e4)
    weights[seen], intercept[seen] = slope, bias
    return weights.T.contiguous(), intercept
