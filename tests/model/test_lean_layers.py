"""The layers that spare a CPU work: the same gradients as the plain ones, and dropout with the same law."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.model.layers import Dropout, SelfAttention
from cnn_lstm.model.network import CNNLSTM

NETWORKS: dict[str, dict[str, Any]] = {
    "default": {},
    "reference": {
        "channels": [16, 32],
        "lstm_hidden": 16,
        "lstm_layers": 2,
        "bidirectional": True,
        "attention_heads": 8,
        "pooling": "attention",
    },
    "mean": {"norm": "layer", "activation": "gelu", "pooling": "mean", "attention_heads": 2},
    "one head": {"channels": [], "kernel_sizes": [], "lstm_hidden": 24, "attention_heads": 1, "bidirectional": True},
}


def pattern(x: Tensor) -> Tensor:
    """A mask of dropout that says the same of every query of an attention: 0 or 1 / 0.9."""
    numbers = torch.arange(math.prod(x.shape[:2]) * x.shape[-1]).view(*x.shape[:2], *[1] * (x.ndim - 3), x.shape[-1])
    kept = (numbers * 7919 % 10 != 0).to(x.dtype) / 0.9
    return kept if x.ndim == 4 else kept.expand(x.shape)


def plain_attention(self: SelfAttention, x: Tensor, last: bool = False) -> Tensor:
    """All steps look, as in the textbook."""
    size, (batch, time, width) = x.shape[-1] // self.heads, x.shape
    query, key, value = (
        part.view(batch, time, self.heads, size).transpose(1, 2) for part in self.project(x).split(width, dim=-1)
    )
    scores = torch.softmax(query @ key.mT / math.sqrt(size), dim=-1)
    mixed = (self.dropout(scores) @ value).transpose(1, 2).reshape(batch, time, width)
    out: Tensor = self.norm(x + self.out(mixed))
    return out


def gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    network.zero_grad()
    network(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_plain_layers(
    name: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = CNNLSTM(n_features=5, **NETWORKS[name]).to(dtype).train()
    network.lstm.dropout = 0.0  # its masks are PyTorch's own
    x = torch.randn(7, 30, 5, dtype=dtype)
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x * pattern(x))
    found = gradients(network, x)
    monkeypatch.setattr(SelfAttention, "forward", plain_attention)
    expected = gradients(network, x)
    assert len(found) == len(expected) > 5
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).abs().max()) <= tolerance * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("training", [True, False])
def test_the_last_step_alone_sees_what_it_sees_among_all(training: bool) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(12, 3).double().train(training)
    x = torch.randn(4, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(attention(x, last=True), attention(x)[:, -1:], atol=1e-13, rtol=0)


# -- the law of dropout --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_share_and_scale(rate: float, dtype: torch.dtype) -> None:
    """Both as of PyTorch's dropout, at each of the four places of a random number."""
    torch.manual_seed(1)
    n = 400_000
    y = Dropout(rate).train()(torch.ones(n, dtype=dtype))
    assert y.dtype == dtype
    error = math.sqrt(rate * (1 - rate) / (n / 4))
    for place in range(4):
        assert float((y[place::4] == 0).double().mean()) == pytest.approx(rate, abs=4 * error)
    kept = F.dropout(torch.ones(n, dtype=dtype), rate).max()
    torch.testing.assert_close(y.max(), kept, rtol=2**-16 / (1 - rate) if dtype != torch.bfloat16 else 0.01, atol=0)


def test_values_are_dropped_independently() -> None:
    torch.manual_seed(2)
    dropped = (Dropout(0.3).train()(torch.ones(1000, 997)) == 0).double()
    for shift in (1, 2, 3, 4, 997):
        flat = dropped.flatten()
        correlation = torch.corrcoef(torch.stack([flat[:-shift], flat[shift:]]))[0, 1]
        assert abs(float(correlation)) < 4 / math.sqrt(flat.numel())


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (5, 7, 11), (2, 3, 4, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    y = Dropout(0.5).train()(torch.ones(shape))
    assert y.shape == shape
    assert set(y.unique().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (1.0, 0.0), (1e-9, 1.0)])
def test_rates_that_drop_nothing_or_all(rate: float, expected: float) -> None:
    torch.manual_seed(0)
    assert bool((Dropout(rate).train()(torch.ones(1000)) == expected).all())


def test_a_gradient_flows_where_a_value_was_kept() -> None:
    x = torch.randn(1000, requires_grad=True)
    y = Dropout(0.4).train()(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, y)


def test_masks_follow_the_seed() -> None:
    part, x = Dropout(0.5).train(), torch.ones(1000)
    torch.manual_seed(3)
    first, second = part(x), part(x)
    torch.manual_seed(3)
    assert torch.equal(part(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(part.eval()(x), x)


def test_attention_weights_are_dropped_in_training_alone() -> None:
    """With one key after another alike, what is seen is the mean of the kept values."""
    torch.manual_seed(4)
    attention = SelfAttention(1, 1, dropout=0.25)
    with torch.no_grad():
        attention.project.weight.copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        attention.project.bias.zero_()
        attention.out, attention.norm = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    x = torch.ones(2000, 8, 1)
    for last in (True, False):
        seen = attention.train()(x, last=last).detach() - 1
        shares = seen.unique() * 0.75 * 8  # how many of the eight weights were kept
        torch.testing.assert_close(shares, torch.arange(len(shares)) + 8.0 - (len(shares) - 1), atol=1e-3, rtol=0)
        assert float(seen.mean()) == pytest.approx(1.0, abs=0.02)
        torch.testing.assert_close(attention.eval()(x, last=last), x[:, -1:] * 2 if last else x * 2)
