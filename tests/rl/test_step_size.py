"""The learning-rate factor compared with parameter groups of a smaller learning rate, step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from cnn_lstm.rl.step_size import scale_steps

FACTOR = 0.1
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda p, lr: SGD(p, lr=lr, momentum=0.9),
    "Adam": lambda p, lr: Adam(p, lr=lr, eps=1e-5),
    "Adam-fused": lambda p, lr: Adam(p, lr=lr, fused=True),
    "AdamW": lambda p, lr: AdamW(p, lr=lr, weight_decay=0.1),
    "RMSprop": lambda p, lr: RMSprop(p, lr=lr, alpha=0.99, eps=1e-5),
    "RMSpropTFLike": lambda p, lr: RMSpropTFLike(p, lr=lr),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 3, dtype=torch.float64, generator=random)
        optimizer.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_those_of_a_smaller_learning_rate(name: str) -> None:
    build, one, oracle = OPTIMIZERS[name], network(), network()
    scale_steps(one[0].parameters(), FACTOR)
    groups: list[dict[str, Any]] = [
        {"params": list(oracle[0].parameters()), "lr": FACTOR * 0.01},
        {"params": list(oracle[2].parameters())},
    ]

    train(one, build(one.parameters(), lr=0.01), 20)
    train(oracle, build(groups, lr=0.01), 20)

    for actual, expected in zip(one.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_parameters_without_a_factor_are_not_changed() -> None:
    one, other, alone = network(), network(), network()
    scale_steps(one.parameters(), FACTOR)

    train(one, Adam(one.parameters(), lr=0.01), 1)
    train(other, Adam(other.parameters(), lr=0.01), 1)
    with torch.no_grad():
        for parameter in copy.deepcopy(one).parameters():
            parameter.add_(1)

    start = alone.state_dict()
    for name, parameter in other.named_parameters():
        step = (parameter - start[name]).abs()
        assert step.max().item() == pytest.approx(0.01, rel=1e-3)
        shortened = one.state_dict()[name] - start[name]
        torch.testing.assert_close(shortened, FACTOR * (parameter.detach() - start[name]))


def test_a_parameter_without_a_gradient_does_not_move() -> None:
    one = network()
    scale_steps(one.parameters(), FACTOR)
    before = copy.deepcopy(one.state_dict())

    Adam(one.parameters(), lr=0.01).step()

    assert all(torch.equal(values, before[name]) for name, values in one.state_dict().items())
