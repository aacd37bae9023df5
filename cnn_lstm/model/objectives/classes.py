"""Classes, such as the direction of a return.

Shapes: B batch, H targets, K = C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn_lstm.errors import require
from cnn_lstm.model.objectives.base import Objective


class Classes(Objective):
    """Probability of each class, by cross-entropy.

    With weights the logits learn log(w_k P(k)) instead of log(P(k)), up to a constant. The loss is of those logits; the
    forecast takes the weights out again, so that `p0`, `p1`, ... are probabilities, weighted or not.

    Args:
        classes: Number of classes; two more cuts in `Direction` than one give one more class.
        weighted: Weighs each class in the loss by the inverse of its share of the training labels.

    Source:
        Elkan (2001), The Foundations of Cost-Sensitive Learning, theorem 2: a change of the base rates.

    Example:
        >>> import torch
        >>> columns = Classes(2).forecast(torch.tensor([[[0.0, 1.0]]]), torch.zeros(1, 1), torch.ones(1))
        >>> {name: round(float(values), 3) for name, values in columns.items()}
        {'y_pred': 1.0, 'p0': 0.269, 'p1': 0.731}
        >>> rare = Classes(2, weighted=True)
        >>> rare.learn_classes(torch.tensor([[90.0, 10.0]]))
        >>> columns = rare.forecast(torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.ones(1))
        >>> {name: round(float(values), 3) for name, values in columns.items()}
        {'y_pred': 0.0, 'p0': 0.9, 'p1': 0.1}
    """

    weights: Tensor

    def __init__(self, classes: int = 2, weighted: bool = False) -> None:
        super().__init__()
        require(classes >= 2, f"classes={classes}", "model.objective", "give at least 2")
        self.classes = self.n_outputs = classes
        self.weighted = weighted
        # shaped (C,) until the training labels are known, then (H, C)
        self.register_buffer("weights", torch.ones(classes))

    def learn_classes(self, counts: Tensor) -> None:
        """Sets the class weights from counts (H, C): mean 1 over the training labels."""
        weights = counts.sum(dim=1, keepdim=True) / (self.classes * counts.clamp(min=1))
        self.weights = weights.to(self.weights.device) if self.weighted else torch.ones_like(weights)

    @property
    def locations(self) -> range:
        """The logits of all classes."""
        return range(self.n_outputs)

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, over batch and targets."""
        losses = F.cross_entropy(raw.transpose(1, 2), z.long(), reduction="none")  # (B, H)
        weights = self.weights.expand(raw.shape[1], -1)  # (H, C)
        picked = weights.gather(1, z.long().T).T  # (B, H)
        return (losses * picked).sum() / picked.sum()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Most probable class as `y_pred`, and a column `p0`, `p1`, ... for each class, without the weights."""
        logits = raw - self.weights.log()
        probabilities = logits.softmax(dim=-1)
        columns = {f"p{k}": probabilities[..., k] for k in range(self.classes)}
        return {"y_pred": logits.argmax(dim=-1).to(raw.dtype), **columns}

    def start(self, residual: Tensor) -> Tensor:
        """Raw outputs, (H, K), under which the forecast is the line's, whose logits know no weights."""
        return self.weights.log().expand(residual.shape[1], -1)
