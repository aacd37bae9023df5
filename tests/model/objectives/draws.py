"""Raw outputs, targets and the objectives that every test of a kind is run on."""

from __future__ import annotations

import torch
from torch import Tensor

from cnn_lstm.model.objectives import (
    Classes,
    Gaussian,
    Mixture,
    Objective,
    Point,
    Qlike,
    Quantiles,
    SkewStudentT,
    StudentT,
)

B, H = 40, 3
LOC = torch.randn(B, H, generator=torch.Generator().manual_seed(3))
SCALE = torch.tensor([0.5, 2.0, 10.0])


def draw(outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Raw outputs (B, H, K) and standardised targets (B, H)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, H, outputs, generator=generator), torch.randn(B, H, generator=generator)


def draw_classes(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Raw outputs (B, H, K) and classes (B, H)."""
    raw, _ = draw(classes, seed)
    return raw, torch.randint(classes, (B, H), generator=torch.Generator().manual_seed(seed)).float()


def sized(objective: Objective, kinds: str = "log_volatility") -> Objective:
    """The objective, prepared for H targets, of volatilities where it needs them."""
    objective.prepare(H)
    if isinstance(objective, Qlike):
        objective.learn_kinds([kinds] * H)
    return objective


NUMBERS: list[Objective] = [
    Point("huber", 0.7),
    Point("mae"),
    Gaussian(),
    Quantiles((0.1, 0.5, 0.9)),
    StudentT(),
    SkewStudentT(),
    Mixture(3),
    Mixture(2, "crps"),
    sized(Qlike()),
]
ALL: list[Objective] = [*NUMBERS, Classes(3, weighted=True)]


def name_of(objective: Objective) -> str:
    """Class and first argument, as the name of a test."""
    return " ".join([type(objective).__name__, *map(str, objective.spec()["init_args"].values())])
