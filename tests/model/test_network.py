"""Each argument of the network acts, each promise of its docstrings holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.layers import AttentionPooling, ConvBlock, SelfAttention, Standardize
from cnn_lstm.model.network import CNNLSTM

BASE: dict[str, Any] = {
    "n_features": 4,
    "channels": [4, 6],
    "kernel_sizes": [3, 3],
    "conv_dropout": 0.0,
    "lstm_hidden": 8,
    "lstm_dropout": 0.0,
    "attention_heads": 2,
    "attention_dropout": 0.0,
}


def build(**changes: Any) -> CNNLSTM:
    torch.manual_seed(0)
    return CNNLSTM(**{**BASE, **changes})


def windows(batch: int = 5, length: int = 12, features: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(batch, length, features, generator=torch.Generator().manual_seed(seed))


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def influence(function: nn.Module, x: Tensor, step: int) -> list[int]:
    """Input steps (last axis) whose change changes output step `step`."""
    base = function(x)[..., step]
    found = []
    for k in range(x.shape[-1]):
        moved = x.clone()
        moved[..., k] += 3.0
        if not torch.equal(function(moved)[..., step], base):
            found.append(k)
    return found


# -- every argument acts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"n_features": 5}, 4 * 3),
        ({"channels": [4, 7]}, 4 * 3 + 3 + 4 * 8),
        ({"kernel_sizes": [3, 5]}, 4 * 6 * 2),
        ({"norm": "none"}, -2 * (4 + 6)),
        ({"norm": "layer"}, 0),
        ({"channels": [], "kernel_sizes": []}, -(4 * 4 * 3 + 4 + 8) - (4 * 6 * 3 + 6 + 12) - 2 * 4 * 8),
        ({"lstm_layers": 2}, 4 * 8 * (8 + 8 + 2)),
        ({"attention_heads": 0}, -(3 * (64 + 8) + 64 + 8 + 16)),
        ({"pooling": "attention"}, 9),
    ],
)
def test_argument_changes_the_number_of_parameters(changes: dict[str, Any], difference: int) -> None:
    assert count(build(**changes)) - count(build()) == difference


@pytest.mark.parametrize(
    "changes",
    [
        {"dilations": [1, 2]},
        {"padding": "same"},
        {"activation": "gelu"},
        {"residual": False},
        {"attention_heads": 4},
        {"pooling": "mean"},
    ],
)
def test_argument_changes_the_output_at_equal_weights(changes: dict[str, Any]) -> None:
    base, changed = build().eval(), build(**changes).eval()
    changed.load_state_dict(base.state_dict())
    assert not torch.allclose(changed(windows()), base(windows()), atol=1e-4)


@pytest.mark.parametrize(("bidirectional", "width"), [(False, 8), (True, 16)])
def test_width_of_the_embedding(bidirectional: bool, width: int) -> None:
    network = build(bidirectional=bidirectional)
    assert network.embedding_dim == width
    assert network(windows()).shape == (5, width)


def test_lstm_hidden_is_the_width() -> None:
    assert build(lstm_hidden=12)(windows()).shape == (5, 12)


def test_bidirectional_first_step_sees_the_last_one() -> None:
    network = build(bidirectional=True, attention_heads=0, channels=[], kernel_sizes=[]).eval()
    x = windows()
    moved = x.clone()
    moved[:, -1] += 1
    steps, changed = network.lstm(x)[0], network.lstm(moved)[0]
    assert torch.equal(steps[:, 0, :8], changed[:, 0, :8])
    assert not torch.equal(steps[:, 0, 8:], changed[:, 0, 8:])


# -- convolutions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("kernel_sizes", [[3, 3], [2, 4]])
def test_causal_convolutions_never_see_a_later_step(norm: str, kernel_sizes: list[int]) -> None:
    network = build(norm=norm, kernel_sizes=kernel_sizes, activation="tanh", padding="causal").eval()
    x = windows(1).transpose(1, 2)
    reach = sum(kernel_sizes) - 2
    assert influence(network.convolutions, x, 6) == list(range(6 - reach, 7))


def test_same_convolutions_see_both_sides() -> None:
    network = build(padding="same", activation="tanh", norm="none").eval()
    assert influence(network.convolutions, windows(1).transpose(1, 2), 6) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("padding", ["causal", "same"])
@pytest.mark.parametrize(
    ("kernel_sizes", "dilations", "field"),
    [([3, 3], [1, 1], 5), ([3, 3], [1, 2], 7), ([3, 3], [2, 4], 13), ([2, 1], [5, 1], 6)],
)
def test_dilation_widens_the_receptive_field(
    padding: str, kernel_sizes: list[int], dilations: list[int], field: int
) -> None:
    network = build(
        kernel_sizes=kernel_sizes, dilations=dilations, padding=padding, activation="tanh", norm="none"
    ).eval()
    seen = influence(network.convolutions, windows(1, length=40).transpose(1, 2), 20)
    assert max(seen) - min(seen) + 1 == field
    assert max(seen) == (20 if padding == "causal" else 20 + (field - 1) - (field - 1) // 2)


def test_first_steps_see_zeros_before_the_window() -> None:
    block = ConvBlock(1, 1, 3, norm="none", activation="tanh", residual=False)
    nn.init.ones_(block.conv.weight)
    nn.init.zeros_(block.conv.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(block(torch.tensor([[[0.1, 0.2, 0.3]]])), torch.tensor([[[0.1, 0.3, 0.6]]]).tanh())


@pytest.mark.parametrize("residual", [True, False])
def test_residual_only_where_shapes_allow(residual: bool) -> None:
    network = build(channels=[4, 6, 6], kernel_sizes=[3, 3, 3], norm="none", residual=residual).eval()
    for block, equal in zip(network.convolutions, [True, False, True], strict=True):
        assert isinstance(block, ConvBlock)
        nn.init.zeros_(block.conv.weight)  # the block's own path gives relu(0) = 0
        x = torch.randn(2, block.conv.in_channels, 9)
        expected = x if residual and equal else torch.zeros(2, block.conv.out_channels, 9)
        assert torch.equal(block(x), expected)


@pytest.mark.parametrize(
    ("name", "function"),
    [("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu), ("elu", F.elu), ("tanh", torch.tanh)],
)
def test_activation_kinds(name: Any, function: Any) -> None:
    block = ConvBlock(2, 3, 1, activation=name, norm="none", residual=False)
    x = torch.randn(4, 2, 7)
    assert torch.equal(block(x), function(block.conv(x)))


def test_batch_norm_centres_each_channel_over_the_batch() -> None:
    y = ConvBlock(2, 3, 1, norm="batch").train().norm(5 + 2 * torch.randn(16, 3, 20))
    torch.testing.assert_close(y.mean(dim=(0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(dim=(0, 2), correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_layer_norm_centres_each_step_over_the_channels() -> None:
    x = 5 + 2 * torch.randn(4, 8, 6)
    y = ConvBlock(2, 8, 1, norm="layer").norm(x)
    torch.testing.assert_close(y, (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt())


def test_no_norm_is_the_identity() -> None:
    x = torch.randn(4, 8, 6)
    assert torch.equal(ConvBlock(2, 8, 1, norm="none").norm(x), x)


# -- pooling -------------------------------------------------------------------------------------------------------


def test_pooling_last_and_mean() -> None:
    steps = torch.randn(3, 7, 8)
    assert torch.equal(build(pooling="last").pooling(steps), steps[:, -1])
    assert torch.equal(build(pooling="mean").pooling(steps), steps.mean(dim=1))


def test_pooling_attention_is_a_weighted_mean() -> None:
    pooling, steps = build(pooling="attention").pooling, torch.randn(3, 7, 8)
    assert isinstance(pooling, AttentionPooling)
    scores = steps @ pooling.score.weight[0] + pooling.score.bias
    shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(pooling(steps), torch.einsum("bt,btd->bd", shares, steps))


# -- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"conv_dropout": 0.3}, {"lstm_dropout": 0.3}, {"attention_dropout": 0.3}])
def test_dropout_acts_in_training_only(changes: dict[str, Any]) -> None:
    network, x = build(norm="none", **changes), windows()
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_rates_of_zero_drop_nothing_in_training() -> None:
    network, x = build(norm="none", lstm_layers=2).train(), windows()
    assert torch.equal(network(x), network(x))
    assert torch.equal(network(x), network.eval()(x))


def test_lstm_dropout_acts_between_layers_and_after_the_last() -> None:
    two, x = build(norm="none", lstm_layers=2, lstm_dropout=0.3).train(), windows()
    two.dropout.p = 0.0
    assert not torch.equal(two(x), two(x))
    assert build(lstm_layers=1, lstm_dropout=0.3).dropout.p == 0.3


@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_conv_dropout_drops_its_share(rate: float) -> None:
    network = build(norm="none", activation="tanh", residual=False, conv_dropout=rate).train()
    dropped = network.convolutions[0](torch.randn(64, 4, 50)) == 0
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_attention_dropout_drops_its_share(rate: float) -> None:
    attention = SelfAttention(1, 1, rate).train()
    with torch.no_grad():
        attention.project.weight.copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        attention.project.bias.zero_()
        attention.norm = nn.Identity()  # type: ignore[assignment]
        attention.out = nn.Identity()  # type: ignore[assignment]
        dropped = attention(torch.ones(400, 1, 1)) == 1  # the single weight was dropped: only the residual is left
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=0.08)


# -- shapes and arguments ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 7, 90])
def test_any_window_length(batch: int, length: int) -> None:
    assert build().eval()(windows(batch, length)).shape == (batch, 8)


@pytest.mark.parametrize("shape", [(5, 12, 3), (5, 12, 5), (12, 4), (4,), (1, 5, 12, 4)])
def test_windows_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    network = build()
    for function in (network, network.attention_weights):
        with pytest.raises(ValueError, match=r"\(B, T, 4\)") as caught:
            function(torch.zeros(shape))
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_features": 0}, "n_features=0"),
        ({"lstm_hidden": 0}, "lstm_hidden=0"),
        ({"lstm_layers": 0}, "lstm_layers=0"),
        ({"channels": [4, 0]}, "channels[1]=0"),
        ({"kernel_sizes": [-3, 3]}, "kernel_sizes[0]=-3"),
        ({"dilations": [1, 0]}, "dilations[1]=0"),
        ({"conv_dropout": 1.0}, "conv_dropout=1.0"),
        ({"lstm_dropout": -0.1}, "lstm_dropout=-0.1"),
        ({"attention_dropout": float("nan")}, "attention_dropout=nan"),
        ({"attention_heads": 3}, "attention_heads=3"),
        ({"attention_heads": -1}, "attention_heads=-1"),
        ({"channels": [4]}, "1 channels, 2 kernel sizes"),
        ({"kernel_sizes": [3]}, "2 channels, 1 kernel sizes, 2 dilations"),
        ({"dilations": [1]}, "2 channels, 2 kernel sizes, 1 dilations"),
    ],
)
def test_invalid_argument_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**changes)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("argument", ["padding", "norm", "activation", "pooling"])
def test_unknown_choice_is_named(argument: str) -> None:
    """Plain Python is not checked by the command line's parser; a misspelt `causal` must not look ahead."""
    with pytest.raises(ConfigError, match=argument) as caught:
        build(**{argument: "casual"})
    assert caught.value.exit_code == 2


def test_sixteen_divides_what_eight_heads_need() -> None:
    assert build(bidirectional=True, attention_heads=16).attention_weights(windows()).shape == (5, 16, 12, 12)


# -- attention weights ---------------------------------------------------------------------------------------------


def test_attention_weights_are_shares() -> None:
    weights = build().eval().attention_weights(windows())
    assert weights.shape == (5, 2, 12, 12)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(5, 2, 12))


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_attention_weights_are_those_of_the_forward_pass(pooling: str) -> None:
    network, x = build(pooling=pooling).eval(), windows()
    seen: dict[str, Tensor] = {}
    attention = network.attention
    assert attention is not None
    attention.register_forward_hook(lambda _, inputs, output: seen.update(steps=inputs[0], output=output))
    network(x)
    steps = seen["steps"]
    value = (steps @ attention.project.weight[16:].T + attention.project.bias[16:]).view(5, 12, 2, 4)
    mixed = torch.einsum("bats,bsad->btad", network.attention_weights(x), value).reshape(5, 12, 8)
    expected = attention.norm(steps + attention.out(mixed))
    torch.testing.assert_close(seen["output"], expected[:, -1:] if pooling == "last" else expected)


def test_no_heads_no_weights() -> None:
    with pytest.raises(ValueError, match="attention_heads=0"):
        build(attention_heads=0).attention_weights(windows())


# -- initialisation ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide() -> CNNLSTM:
    return build(
        channels=[64, 64], kernel_sizes=[3, 3], lstm_hidden=32, lstm_layers=2, bidirectional=True, pooling="attention"
    )


def test_convolutions_start_as_he_says(wide: CNNLSTM) -> None:
    conv = wide.convolutions[1].conv
    assert isinstance(conv, nn.Conv1d)
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 * 3)), rel=0.05)
    assert float(conv.bias.detach().abs().max()) == 0.0  # type: ignore[union-attr]


def test_linear_layers_start_as_xavier_says(wide: CNNLSTM) -> None:
    assert wide.attention is not None
    for linear in (wide.attention.project, wide.attention.out):
        bound = math.sqrt(6 / sum(linear.weight.shape))
        assert 0.95 * bound < float(linear.weight.detach().abs().max()) <= bound
        assert float(linear.bias.detach().abs().max()) == 0.0


def test_lstm_gates_start_orthogonal_and_xavier(wide: CNNLSTM) -> None:
    for name, parameter in wide.lstm.named_parameters():
        for gate in parameter.detach().chunk(4):
            if name.startswith("weight_hh"):
                torch.testing.assert_close(gate.T @ gate, torch.eye(32), atol=1e-5, rtol=0)
            elif name.startswith("weight_ih"):
                bound = math.sqrt(6 / sum(gate.shape))
                assert 0.9 * bound < float(gate.abs().max()) <= bound


def test_forget_bias_starts_at_one(wide: CNNLSTM) -> None:
    for suffix in ("l0", "l1", "l0_reverse", "l1_reverse"):
        total = wide.lstm.get_parameter(f"bias_ih_{suffix}") + wide.lstm.get_parameter(f"bias_hh_{suffix}")
        expected = torch.zeros(4, 32)
        expected[1] = 1.0  # torch orders the gates input, forget, cell, output
        assert torch.equal(total.detach().view(4, 32), expected)


# -- standardisation -----------------------------------------------------------------------------------------------


def filled(loc: list[float], scale: list[float], anchored: list[float]) -> Standardize:
    layer = Standardize(len(loc))
    layer.take(torch.tensor(loc), torch.tensor(scale), torch.tensor(anchored), torch.zeros(0))
    return layer


def test_standardize_subtracts_and_divides() -> None:
    x = windows(features=2)
    expected = (x - torch.tensor([1.0, -2.0])) / torch.tensor([3.0, 0.5])
    assert torch.equal(filled([1.0, -2.0], [3.0, 0.5], [0.0, 0.0])(x), expected)
    assert torch.equal(Standardize(2)(x), x)


def test_anchored_feature_ignores_the_level() -> None:
    layer = filled([0.0, 0.0], [2.0, 2.0], [1.0, 0.0])
    x = windows(features=2).mul(8).round()  # whole numbers: the sums below are exact
    moved = x + torch.tensor([4096.0, 0.0])
    assert torch.equal(layer(moved), layer(x))
    assert torch.equal(layer(x)[:, -1, 0], torch.zeros(5))
    assert not torch.equal(layer(x + torch.tensor([0.0, 4096.0])), layer(x))


def test_infinite_scale_mutes() -> None:
    network, x = build().eval(), windows()
    network.standardize.scale[2] = torch.inf
    moved = x.clone()
    moved[..., 2] = 1e6 * torch.randn(5, 12)
    assert torch.equal(network(moved), network(x))
    assert not torch.equal(network.standardize(x)[..., 1], torch.zeros(5, 12))


# -- the whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_rows_of_a_batch_are_independent_in_evaluation(norm: str) -> None:
    network, x = build(norm=norm).eval(), windows()
    moved = x.clone()
    moved[1:] = 100 * torch.randn(4, 12, 4)
    assert torch.equal(network(moved)[0], network(x)[0])
    torch.testing.assert_close(network(x[:1])[0], network(x)[0])


def test_evaluation_repeats_itself() -> None:
    network, x = build(conv_dropout=0.5, lstm_dropout=0.5, attention_dropout=0.5).eval(), windows()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert torch.equal(network(x), network(x))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_nothing_is_double() -> None:
    network = build(pooling="attention", norm="batch")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}
    assert network(windows()).dtype == torch.float32


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_every_parameter_has_a_finite_gradient(pooling: str, norm: str) -> None:
    network = build(pooling=pooling, norm=norm, lstm_layers=2, bidirectional=True)
    network(windows(32)).square().mul(torch.randn(16)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        if parameter.ndim > 1:
            assert float(parameter.grad.abs().max()) > 0, name


def test_state_travels() -> None:
    network, x = build(pooling="attention"), windows()
    network.standardize.loc.normal_()
    network.train()(x)  # moves the running statistics
    torch.manual_seed(5)
    other = CNNLSTM(**{**BASE, "pooling": "attention"})
    assert not torch.equal(other.eval()(x), network.eval()(x))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))
