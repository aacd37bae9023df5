"""Monte Carlo dropout: dropout is random, nothing else is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnn_lstm.model.dropout import dropout_samples, only_dropout
from cnn_lstm.model.layers import ConvBlock
from tests.fits import small_network


def windows(batch: int = 6) -> Tensor:
    return torch.randn(batch, 6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "part",
    [nn.Dropout(0.5), nn.Dropout1d(0.5), nn.AlphaDropout(0.5), nn.LSTM(8, 8, num_layers=2, dropout=0.5)],
    ids=lambda part: type(part).__name__,
)
def test_part_is_random(part: nn.Module) -> None:
    x = torch.ones(4, 8, 8)
    part.eval()
    with only_dropout(part):
        first, second = part(x), part(x)
    first, second = (value[0] if isinstance(value, tuple) else value for value in (first, second))
    assert not torch.equal(first, second)


def test_attention_of_torch_is_random() -> None:
    part, x = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True).eval(), torch.randn(4, 8, 8)
    with only_dropout(part):
        assert not torch.equal(part(x, x, x)[0], part(x, x, x)[0])


@pytest.mark.parametrize("rate", ["conv_dropout", "lstm_dropout", "attention_dropout"])
def test_each_rate_of_the_network_is_random(rate: str) -> None:
    rates = {"conv_dropout": 0.0, "lstm_dropout": 0.0, "attention_dropout": 0.0, rate: 0.5}
    network = small_network(**rates).eval()
    draws = dropout_samples(network, network, windows(), samples=5, seed=0)
    assert bool((draws.std(dim=0) > 0).any(dim=-1).all())


def test_dropout_between_lstm_layers_is_random() -> None:
    network = small_network(conv_dropout=0.0, attention_dropout=0.0, lstm_layers=2, lstm_dropout=0.5).eval()
    network.dropout.p = 0.0
    draws = dropout_samples(network, network, windows(), samples=2, seed=0)
    assert not torch.equal(draws[0], draws[1])


def test_without_rates_nothing_is_random() -> None:
    network = small_network(conv_dropout=0.0, lstm_dropout=0.0, attention_dropout=0.0, lstm_layers=2).train()
    expected = network.eval()(windows())
    draws = dropout_samples(network, network, windows(), samples=3, seed=0)
    assert draws.shape == (3, 6, 4)
    for draw in draws:
        torch.testing.assert_close(draw, expected)


def test_batch_norm_stays_frozen() -> None:
    network = small_network().train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    dropout_samples(network, network, 100 * windows(), samples=3, seed=0)
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_other_windows_of_the_batch_do_not_matter() -> None:
    network, x = small_network().train(), windows()
    moved = torch.cat([x[:1], 50 * torch.randn(5, 6, 3)])
    first = dropout_samples(network, network, x, samples=4, seed=3)
    second = dropout_samples(network, network, moved, samples=4, seed=3)
    assert torch.equal(first[:, 0], second[:, 0])


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_restored(fails: bool) -> None:
    network = small_network().train()
    network.convolutions.eval()
    modes = [part.training for part in network.modules()]
    try:
        with only_dropout(network):
            block = network.convolutions[0]
            assert isinstance(block, ConvBlock)
            assert block.dropout.training
            assert not block.norm.training
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [part.training for part in network.modules()] == modes
    assert len(set(modes)) == 2


def test_seed_reproduces_and_the_global_state_is_left_alone() -> None:
    network, x = small_network(), windows()
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = dropout_samples(network, network, x, samples=3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(dropout_samples(network, network, x, samples=3, seed=1), first)
    assert not torch.equal(dropout_samples(network, network, x, samples=3, seed=2), first)


@pytest.mark.parametrize("layers", [1, 2])
def test_masks_belong_to_the_window(layers: int) -> None:
    """Whatever batch a window is in, and wherever: its draws are the same to the bit."""
    network, x = small_network(lstm_layers=layers, lstm_dropout=0.4), windows(11)
    whole = dropout_samples(network, network, x, samples=5, seed=2)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    assert torch.equal(dropout_samples(network, network, x[order], samples=5, seed=2), whole[:, order])
    for k in range(11):
        assert torch.equal(dropout_samples(network, network, x[k : k + 1], samples=5, seed=2), whole[:, k : k + 1])


def test_windows_do_not_share_masks() -> None:
    """Errors of the mean of a few passes average out over many rows."""
    part, x = nn.Dropout(0.5), 1 + 1e-6 * torch.randn(200, 1, 1, generator=torch.Generator().manual_seed(0))
    draws = dropout_samples(lambda batch: part(batch)[:, 0], part, x, samples=4, seed=0)  # 0 or 2, each
    assert abs(float(draws.mean()) - 1) < 0.15
    assert len({tuple((column > 0).tolist()) for column in draws[..., 0].T}) == 16


def test_many_passes_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_lstm.model.dropout.MOST_COPIES", 4)
    draws = dropout_samples(small_network(), small_network(), windows(2), samples=10, seed=0)
    assert draws.shape == (10, 2, 4)


def test_no_window() -> None:
    network = small_network().eval()
    assert dropout_samples(network, network, windows()[:0], samples=3, seed=0).shape == (3, 0, 4)
