"""DLinear: two linear layers on trend and remainder of the target's past values.

Shapes: n rows, T window length, C outputs: 1 for a number, the classes otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Target
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns, Spread, class_columns
from cnn_lstm.model.line import LEAST_PROBABILITY

MAX_WINDOWS = 50_000
KERNEL = 25
CHUNK = 1 << 15
BATCH = 1024
LEAST_STEPS = 32  # per epoch: few rows make smaller batches, not fewer steps
EPOCHS = 30
PATIENCE = 10
LEARNING_RATE = 0.003
DECAY = 0.9  # of the learning rate per epoch: a constant one leaves the noise of the batches in the weights
SEED = 20230626


@dataclass(frozen=True)
class Layers:
    """The two linear layers of one target and the scale of its history.

    Attributes:
        trend: Weights of the moving average, (T, C).
        remainder: Weights of the rest, (T, C).
        bias: Intercept, (C,).
        spread: Training mean and standard deviation of the label, or of its change from the last value for a level.
    """

    trend: Tensor
    remainder: Tensor
    bias: Tensor
    spread: Spread

    def __call__(self, history: Tensor) -> Tensor:
        """Standardised forecasts or logits, (n, C), of standardised histories, (n, T)."""
        trend = moving_average(history)
        return trend @ self.trend + (history - trend) @ self.remainder + self.bias


@dataclass(frozen=True)
class DLinear:
    """DLinear of all targets, each on the history of that target.

    Attributes:
        inputs: What the baseline is fitted on.
        layers: The layers of each target.
    """

    inputs: BaselineInputs
    layers: list[Layers]

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `y_dlinear`, and `dlinear_p0`.. for classes."""
        return [self._forecast(rows, k, target) for k, target in enumerate(self.inputs.targets)]

    def _forecast(self, rows: Rows, k: int, target: Target) -> Columns:
        layers = self.layers[k]
        parts = [torch.zeros(0, len(layers.bias))]
        for part in np.array_split(rows, -(-len(rows) // CHUNK) or 1):
            parts.append(layers(_history(self.inputs, part, k, layers.spread)))
        output = torch.cat(parts).double()
        if target.classes:
            return class_columns("dlinear", output.softmax(dim=1).numpy())
        values = layers.spread.original(output[:, 0].numpy(), rows)
        return {"y_dlinear": values + self.inputs.present(rows, k) if target.level else values}


def fit_dlinear(inputs: BaselineInputs) -> DLinear:
    """Fits each target on at most 50,000 training windows, evenly spaced.

    The input is the last T known values of the target's quantity; values not known yet count as the training mean.
    For a level, the last value is subtracted first and added back. Adam stops when the loss of the validation rows
    has not fallen for ten epochs, and the weights of the best epoch are kept. The global random state does not change.

    Source:
        Zeng, Chen, Zhang, Xu (2023), Are Transformers Effective for Time Series Forecasting?
    """
    # Lightning's test hooks run in inference mode
    with torch.inference_mode(False), torch.enable_grad():
        return DLinear(inputs, [_fit(inputs, k, target) for k, target in enumerate(inputs.targets)])


def _fit(inputs: BaselineInputs, k: int, target: Target) -> Layers:
    train, validation = _known(inputs, inputs.train(MAX_WINDOWS), k), _known(inputs, inputs.validation(MAX_WINDOWS), k)
    changes = inputs.labels(train, k) - inputs.base(train, k)
    spread = inputs.spread(changes, train)
    parts = []
    for rows in (train, validation):
        history = _history(inputs, rows, k, spread)
        average = moving_average(history)
        labels = inputs.labels(rows, k) - inputs.base(rows, k)
        numbers = torch.from_numpy(labels if target.classes else spread.standardised(labels, rows))
        truth = numbers.long() if target.classes else numbers.float()[:, None]
        parts.append((torch.cat([average, history - average], dim=1), truth))
    weights, bias = _train(parts[0], parts[1], target.classes or 1)
    trend, remainder = weights.chunk(2)
    return Layers(trend, remainder, bias, spread)


def _known(inputs: BaselineInputs, rows: Rows, k: int) -> Rows:
    """Rows whose latest value is known; a level is forecast as the change from it."""
    return rows[np.isfinite(inputs.base(rows, k))]


def _history(inputs: BaselineInputs, rows: Rows, k: int, spread: Spread) -> Tensor:
    """Standardised past values, (n, T), the latest last; 0 where not known."""
    past = torch.from_numpy(rows)[:, None] + torch.arange(1 - inputs.window, 1)
    values = inputs.panel.present[:, k].double()[past]
    symbol = inputs.panel.symbol[rows]
    mean, scale = (torch.from_numpy(part[symbol])[:, None] for part in (spread.mean, spread.scale))
    base = values[:, -1:] if inputs.targets[k].level else mean
    return ((values - base) / scale).nan_to_num(nan=0.0).float()


def moving_average(history: Tensor) -> Tensor:
    """Centred moving average of 25 values, of the largest odd number up to T for less; the ends are repeated.

    Args:
        history: Values, (n, T).

    Example:
        >>> moving_average(torch.tensor([[0.0, 3.0, 6.0]])).tolist()
        [[1.0, 3.0, 5.0]]
    """
    length = history.shape[1]
    half = (min(KERNEL, length - 1 + length % 2) - 1) // 2
    padded = F.pad(history[:, None], (half, half), mode="replicate")
    return F.avg_pool1d(padded, 2 * half + 1, stride=1)[:, 0]


def _train(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], outputs: int) -> tuple[Tensor, Tensor]:
    """Weights (2T, C) and bias (C,) of the epoch with the lowest loss on the held-out inputs and labels."""
    inputs, labels = train
    # the loss is convex: starting from the mean forecast needs no random numbers
    weights = torch.zeros(inputs.shape[1], outputs, requires_grad=True)
    if labels.is_floating_point():
        bias = torch.zeros(outputs, requires_grad=True)
    else:
        shares = torch.bincount(labels, minlength=outputs) / len(labels)
        bias = shares.clamp(min=LEAST_PROBABILITY).log().requires_grad_()
    optimizer = torch.optim.Adam([weights, bias], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, DECAY)
    batch_size = min(BATCH, -(-len(inputs) // LEAST_STEPS))
    generator = torch.Generator().manual_seed(SEED)
    best, best_loss, waited = _copy(weights, bias), float(_loss(held_out, weights, bias).detach()), 0
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs), generator=generator).split(batch_size):
            loss = _loss((inputs[batch], labels[batch]), weights, bias)
            weights.grad, bias.grad = torch.autograd.grad(loss, [weights, bias])
            optimizer.step()
        schedule.step()
        held_loss = float(_loss(held_out, weights, bias).detach())
        waited += 1
        if held_loss < best_loss:
            best, best_loss, waited = _copy(weights, bias), held_loss, 0
        if waited == PATIENCE:
            break
    return best


def _copy(weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return weights.detach().clone(), bias.detach().clone()


def _loss(part: tuple[Tensor, Tensor], weights: Tensor, bias: Tensor) -> Tensor:
    """Mean squared error of numbers, cross-entropy of classes."""
    inputs, labels = part
    output = inputs @ weights + bias
    return F.mse_loss(output, labels) if labels.is_floating_point() else F.cross_entropy(output, labels)
