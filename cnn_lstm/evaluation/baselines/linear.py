"""Linear models on the window as baselines: ridge regression for numbers, logistic regression for classes.

They are the lines that a forecaster's linear path starts from, fitted by the same functions.

Shapes: n windows, T window length, F features, H targets, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns, class_columns
from cnn_lstm.model.line import Line, Repeatable
from cnn_lstm.model.linear import MAX_LOGISTIC_WINDOWS, MAX_WINDOWS
from cnn_lstm.model.logistic import fit_logistic
from cnn_lstm.model.ridge import fit_ridge


@dataclass(frozen=True)
class Ridge:
    """Ridge regressions of all targets on the standardised window.

    Attributes:
        inputs: What the baseline is fitted on.
        line: Standardised targets of standardised windows.
    """

    inputs: BaselineInputs
    line: Line

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `y_ridge`."""
        loc, scale = _location(self.inputs, rows)
        values = (_of_windows(self.inputs, self.line, rows).double() * scale + loc).numpy()
        return [{"y_ridge": values[:, k]} for k in range(values.shape[1])]


def ridge_baseline(inputs: BaselineInputs) -> Ridge:
    """Fits all targets on at most 50,000 training windows, evenly spaced; see `fit_ridge`.

    An anchored target is fitted as its change from the last value.
    """
    train, validation = (
        Repeatable(partial(_pairs, inputs, rows))
        for rows in (inputs.train(MAX_WINDOWS), inputs.validation(MAX_WINDOWS))
    )
    return Ridge(inputs, fit_ridge(train, validation))


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regressions on the standardised window, one per target.

    Attributes:
        inputs: What the baseline is fitted on.
        line: Logits of standardised windows.
    """

    inputs: BaselineInputs
    line: Line

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `logistic_p0`.. and `y_logistic`."""
        logits = _of_windows(self.inputs, self.line, rows).unflatten(1, (len(self.inputs.targets), -1))
        return [class_columns("logistic", part.softmax(dim=1).double().numpy()) for part in logits.unbind(dim=1)]


def logistic_baseline(inputs: BaselineInputs) -> Logistic:
    """Fits all targets on at most 20,000 training windows, evenly spaced; see `fit_logistic`."""
    most = MAX_LOGISTIC_WINDOWS
    train, validation = (_pairs(inputs, rows) for rows in (inputs.train(most), inputs.validation(most)))
    return Logistic(inputs, fit_logistic(train, validation, inputs.targets[0].classes))


def _of_windows(inputs: BaselineInputs, line: Line, rows: Rows) -> Tensor:
    """What a line forecasts of rows (n,): (n, H L)."""
    return torch.cat([line.bias.new_zeros(0, len(line.bias)), *(line(part) for part in inputs.window_chunks(rows))])


def _pairs(inputs: BaselineInputs, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """Standardised windows and labels of rows (n,), in chunks."""
    loc, scale = _location(inputs, rows)
    labels = (inputs.panel.labels[torch.from_numpy(rows)].double() - loc) / scale
    start = 0
    for windows in inputs.window_chunks(rows):
        yield windows, labels[start : start + len(windows)]
        start += len(windows)


def _location(inputs: BaselineInputs, rows: Rows) -> tuple[Tensor, Tensor]:
    """What is subtracted from each label, (n, H), and what the difference is divided by, (H,) or (n, H)."""
    statistics = inputs.statistics
    last = torch.zeros(len(rows), len(statistics.y_anchor), dtype=torch.float64)
    for k, feature in enumerate(statistics.y_anchor.tolist()):
        if feature >= 0:
            last[:, k] = inputs.panel.values[torch.from_numpy(rows), feature].double()
    loc, scale = (inputs.of_symbols(table, rows).double() for table in (statistics.y_loc, statistics.y_scale))
    return last + loc, torch.where(scale.isinf(), 1.0, scale)
