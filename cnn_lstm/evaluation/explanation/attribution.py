"""Integrated gradients: what each feature at each bar of a window adds to a forecast.

Shapes: B windows, T window length, F features, H targets.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.audit.stages import members
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.layers import Standardize
from cnn_lstm.model.scales import of_windows

STEPS = (16, 32, 64, 128, 256)
TRIED = 16  # windows on which the number of steps is chosen
ENOUGH = 0.005  # the attributions of these add up to their forecasts within so much of them
AT_A_TIME, TOGETHER = 512, 8  # points on the ways that are computed together, and of each window


class Attributed(NamedTuple):
    """What windows add to their forecasts, in the target's unit.

    Attributes:
        values: Attribution of each feature at each bar, (B, T, F) float64.
        forecast: The forecasts, (B,) float64.
        baseline: Those of the baseline windows, (B,) float64.
        steps: Steps from the baseline to the window.
    """

    values: Tensor
    forecast: Tensor
    baseline: Tensor
    steps: int

    @property
    def gap(self) -> float:
        """Mean distance of the sum of the attributions from forecast less baseline, as a share of their mean size."""
        missed = (self.values.sum(dim=(1, 2)) - (self.forecast - self.baseline)).abs().mean()
        size = self.values.abs().sum(dim=(1, 2)).mean()
        return float(missed / size.clamp(min=torch.finfo(torch.float64).tiny))


def require_captum() -> None:
    """Refuses to explain without captum.

    Raises:
        ConfigError: E229.
    """
    if find_spec("captum") is None:
        raise ConfigError("an explanation needs captum", "explain", 'pip install "cnn-lstm[explain]"', code=229)


def attributed(model: ForecastModel | Ensemble, windows: Tensor, target: int) -> Attributed:
    """Integrated gradients of the forecast, with as many steps as make them complete.

    The function that is explained is `point_forecast`: the linear path and the network together, in the target's unit.
    The baseline is that of `neutral_windows`. By the theorem of completeness the attributions of a window add up to its
    forecast less the forecast of its baseline, up to the error of the sum that replaces an integral. The number of
    steps is doubled until this error is below 0.5% on a few windows, or there are 256; `Attributed.gap` measures it on
    all windows. The attributions of an ensemble are the means of its members'.

    Args:
        model: In evaluation mode.
        windows: Raw windows, (B, T, F).
        target: Position of the target.

    Raises:
        ConfigError: E229, if captum is not installed.

    Source:
        Sundararajan, Taly and Yan (2017), Axiomatic Attribution for Deep Networks.
    """
    require_captum()
    steps = next((n for n in STEPS[:-1] if _attributed(model, windows[:TRIED], target, n).gap < ENOUGH), STEPS[-1])
    return _attributed(model, windows, target, steps)


def _attributed(model: ForecastModel | Ensemble, windows: Tensor, target: int, steps: int) -> Attributed:
    from captum.attr import IntegratedGradients

    forecast, standardize = partial(_point, model, target), members(model)[0].network.standardize
    gradients, parts = IntegratedGradients(forecast), list[tuple[Tensor, Tensor, Tensor]]()
    for part in windows.split(AT_A_TIME // TOGETHER):
        baseline = neutral_windows(standardize, part)
        # cuDNN differentiates an LSTM in training mode alone
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            values = gradients.attribute(part, baseline, n_steps=steps, internal_batch_size=AT_A_TIME)
        with torch.no_grad():
            parts.append((values, forecast(part), forecast(baseline)))
    values, ends, starts = (
        torch.cat([one.detach().double().cpu() for one in ones]) for ones in zip(*parts, strict=True)
    )
    return Attributed(values, ends, starts, steps)


def _point(model: ForecastModel | Ensemble, target: int, windows: Tensor) -> Tensor:
    return point_forecast(model, windows, target)


def point_forecast(model: ForecastModel | Ensemble, windows: Tensor, target: int) -> Tensor:
    """What is explained, (B,): the forecast in the target's unit; of classes their mean by the probabilities.

    A chosen class jumps and has no gradient; of two classes the mean is the probability of the second one.

    Args:
        model: The model.
        windows: Raw windows, (B, T, F).
        target: Position of the target.

    Example:
        >>> from cnn_lstm.model.network import CNNLSTM
        >>> from cnn_lstm.model.objectives import Classes
        >>> model = ForecastModel(CNNLSTM(n_features=2), Classes(3)).eval()
        >>> bool((point_forecast(model, torch.zeros(1, 9, 2), 0) - 1).abs() < 1)
        True
    """
    columns: dict[str, Tensor] = model(windows)
    classes = members(model)[0].objective.classes
    if not classes:
        return columns["y_pred"][:, target]
    return sum((k * columns[f"p{k}"][:, target] for k in range(1, classes)), torch.zeros_like(columns["p0"][:, target]))


def neutral_windows(standardize: Standardize, windows: Tensor) -> Tensor:
    """The baseline: windows whose features are at their training mean throughout, 0 after `Standardize`, (B, T, F).

    An anchored feature keeps the last value of the window, since a change from there is all that the network sees of
    it. A muted feature stays as it is, and so does the code of the symbol, which has scales of its own.

    Args:
        standardize: Of the network.
        windows: Raw windows, (B, T, F).

    Example:
        >>> layer = Standardize(1)
        >>> layer.take(torch.ones(1), torch.ones(1), torch.zeros(1), torch.zeros(0))
        >>> layer(neutral_windows(layer, torch.tensor([[[3.0], [5.0]]]))).flatten().tolist()
        [0.0, 0.0]
    """
    tables = (standardize.loc, standardize.scale)
    loc, scale = (of_windows(table, standardize.codes, windows).unsqueeze(-2) for table in tables)
    neutral = (standardize.anchored * windows[:, -1:] + loc).expand_as(windows)
    neutral = torch.where(scale.isinf(), windows, neutral).contiguous()
    neutral[:, -1] = torch.where(standardize.anchored > 0, windows[:, -1], neutral[:, -1])
    return neutral
