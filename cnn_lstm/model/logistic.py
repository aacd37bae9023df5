"""Logistic regression of classes on the window: the linear path of `Classes`, and a baseline.

Shapes: n windows, T window length, F features, K inputs of a line, H targets, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from operator import itemgetter

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cnn_lstm.model.line import LEAST_PROBABILITY, Line, Pairs, input_maps

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # C of the logistic regression, times n
ITERATIONS = 100
TOLERANCE = 1e-3


def fit_logistic(train: Pairs, validation: Pairs, classes: int, refit: bool = False) -> Line:
    """Multinomial logistic regressions of all targets; inputs and strength by the log loss on the validation rows.

    Args:
        train: Standardised windows and class numbers to fit on, in chunks, of which all are held in memory.
        validation: The same, to choose on.
        classes: Number of classes, C.
        refit: Whether the chosen line is fitted again on both.
    """
    fitted, held_out = ([torch.cat(tensors) for tensors in zip(*part, strict=True)] for part in (train, validation))
    both = [torch.cat(tensors) for tensors in zip(fitted, held_out, strict=True)]
    lines = []
    for k in range(fitted[1].shape[1]):
        one, other, joint = ((windows, labels[:, k]) for windows, labels in (fitted, held_out, both))
        _, line = min(_lines(one, (other[0], other[1].long()), classes), key=itemgetter(0))
        lines.append(_refitted(line, joint, classes, len(one[0])) if refit else line)
    return Line.joined(lines)


def _refitted(line: Line, both: tuple[Tensor, Tensor], classes: int, rows: int) -> Line:
    """A line with the inputs and the strength per row of another one, fitted on other rows."""
    windows, labels = both
    of_inputs = input_maps(*windows.shape[1:])[line.inputs[0]].float()
    model = LogisticRegression(C=line.penalties[0] * rows / len(labels), max_iter=ITERATIONS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as on the path
        model.fit(torch.einsum("it,ntf->nif", of_inputs, windows).flatten(1).numpy(), labels.numpy())
    slope, bias = _all_classes(model, classes)
    of_rows = torch.einsum("it,ifc->tfc", of_inputs, slope.view(len(of_inputs), -1, classes))
    return Line(of_rows, bias, line.inputs, [float(model.C)])


def _lines(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], classes: int) -> Iterator[tuple[float, Line]]:
    """Log loss on held-out windows, and line, for all inputs and strengths of one target."""
    length, features = train[0].shape[1:]
    for name, rows in input_maps(length, features).items():
        inputs, held = (torch.einsum("it,ntf->nif", rows.float(), part[0]).flatten(1) for part in (train, held_out))
        for loss, strength, slope, bias in _logistic_path((inputs, train[1]), (held, held_out[1]), classes):
            of_rows = torch.einsum("it,ifc->tfc", rows.float(), slope.view(len(rows), features, classes))
            yield loss, Line(of_rows, bias, [name], [strength])


def _logistic_path(
    train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], classes: int
) -> Iterator[tuple[float, float, Tensor, Tensor]]:
    """Log loss on held-out inputs, C, coefficients (K, C) and intercepts (C,), from the strongest penalty on.

    Each fit starts at the one before.
    """
    inputs, labels = train
    model = LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE, warm_start=True)
    for strength in STRENGTHS:
        model.C = strength / len(labels)
        with warnings.catch_warnings():
            # the validation loss chooses among the fits, converged or not
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs.numpy(), labels.numpy())
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
