"""The linear path of a forecast: the best line through the training windows, in closed form, next to the network.

Ridge regression for numbers, logistic regression for classes.

Shapes: B batch, n windows, T window length, F features, H targets, L outputs per target (1 for numbers, the classes
otherwise).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnn_lstm.model.line import Line, Pairs, Repeatable
from cnn_lstm.model.objectives import Objective
from cnn_lstm.model.ridge import fit_ridge
from cnn_lstm.model.training_data import Part

log = logging.getLogger(__name__)
Mode = Literal["off", "fixed", "fine_tuned"]
MAX_WINDOWS = 50_000
MAX_LOGISTIC_WINDOWS = 20_000  # scikit-learn holds all of them at once


class LinearPath(nn.Module):
    """A line that is added to the network's outputs; it forecasts zeros until it is learnt or loaded.

    Args:
        n_targets: Number of targets, H.
        n_outputs: Outputs of the line for each target, L.
        mode: `fine_tuned` lets training go on with the coefficients.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_targets: int, n_outputs: int = 1, mode: Mode = "fixed") -> None:
        super().__init__()
        self.shape, self.mode = (n_targets, n_outputs), mode
        self._set(torch.zeros(0), torch.zeros(0))

    @property
    def learnt(self) -> bool:
        """Whether it has coefficients."""
        return self.weight.numel() > 0

    def take(self, line: Line) -> None:
        """Uses a line from now on."""
        self._set(line.weight, line.bias)

    def learn(
        self, pairs: Callable[[Part, int], Pairs], objective: Objective, head: nn.Linear, final: bool = False
    ) -> None:
        """Takes the best line, unless it is off; a head that is not trained yet starts as that line alone.

        Args:
            pairs: Gives at most so many standardised windows and labels of a part, in chunks.
            objective: Meaning of the head's outputs.
            head: What turns embeddings, (B, D), into outputs, (B, H K).
            final: Whether the line is fitted on the validation rows too, once they have chosen its inputs and penalty.
        """
        if self.mode == "off":
            return
        classes = objective.classes
        most = MAX_LOGISTIC_WINDOWS if classes else MAX_WINDOWS
        validation = Repeatable(partial(pairs, "validation", most))
        line = fit_line(pairs("train", most), validation, classes, final)
        if not self.learnt:
            residual = torch.zeros(1, self.shape[0])
            if not classes:
                residual = torch.cat([labels.float() - line(windows) for windows, labels in pairs("train", most)])
            nn.init.zeros_(head.weight)
            with torch.no_grad():
                head.bias.copy_(objective.start(residual).flatten())
        self.take(line)
        log.info("the linear path reads %s", ", ".join(line.inputs))

    def forward(self, windows: Tensor) -> Tensor:
        """Standardised forecasts, (B, H, L), of standardised windows, (B, T, F)."""
        if not self.learnt:
            return windows.new_zeros(windows.shape[0], *self.shape)  # `len` would fix the batch of an export
        return torch.addmm(self.bias, windows.flatten(1), self.weight.flatten(0, 1)).view(-1, *self.shape)

    def _set(self, weight: Tensor, bias: Tensor) -> None:
        for name, values in (("weight", weight), ("bias", bias)):
            if self.mode == "fine_tuned":
                self.register_parameter(name, nn.Parameter(values.clone()))
            elif values.numel():
                self.register_buffer(name, values.clone())
            else:  # a forecaster without a line has a checkpoint without a line
                self.register_buffer(name, values, persistent=False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Takes the size of what is loaded; a checkpoint of before there was a line has none."""
        saved = (state_dict.get(f"{prefix}{name}", torch.zeros(0)) for name in ("weight", "bias"))
        self._set(*(values.to(self.weight.device) for values in saved))


def line_columns(line: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Forecast columns of the line alone, each (B, H): `y_linear`, for classes `linear_p0`, `linear_p1`, ... too.

    Args:
        line: Standardised forecasts or logits, (B, H, L).
        loc: What standardisation subtracted, (B, H).
        scale: What it divided by, (H,) or (B, H).
    """
    if line.shape[-1] == 1:
        return {"y_linear": line[..., 0] * scale + loc}
    probabilities = line.softmax(dim=-1)
    columns = {f"linear_p{k}": probabilities[..., k] for k in range(line.shape[-1])}
    return {"y_linear": line.argmax(dim=-1).to(line.dtype), **columns}


def fit_line(train: Pairs, validation: Pairs, classes: int = 0, refit: bool = False) -> Line:
    """The best line: logistic regression for classes, ridge regression for numbers.

    Args:
        train: Standardised windows and labels to fit on, in chunks.
        validation: The same, to choose on; it may be read twice.
        classes: Number of classes; 0 for numbers.
        refit: Whether the chosen line is fitted again on both.
    """
    if classes:
        from cnn_lstm.model.logistic import fit_logistic

        return fit_logistic(train, validation, classes, refit)
    return fit_ridge(train, validation, refit)
