"""Building blocks of the network.

Shapes: B batch, T window length, F features, C channels, D embedding, A attention heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.errors import require
from cnn_lstm.model.scales import like, of_windows, take_rows

HALF = 2  # bytes of a number in half precision
DRAWS = 4  # 16-bit numbers in a random number of 64 bits
LEVELS = 1 << 16  # values of a 16-bit number
Padding = Literal["causal", "same"]
Norm = Literal["batch", "layer", "none"]
Activation = Literal["relu", "gelu", "silu", "elu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


class Standardize(nn.Module):
    """Scales features by statistics of the training rows, which travel with the weights.

    Features marked as anchored are first taken relative to the window's last value, so that a level outside the
    training range stays an ordinary input. Where symbols have a location and scale of their own, the last feature says
    which symbol a window is of, by its code.

    Args:
        n_features: Number of features, F.

    Attributes:
        loc: Location of each feature, (F,); with scales per symbol (S + 1, F), see `of_windows`.
        scale: Scale of each feature, of the same shape; an infinite one mutes it.
        anchored: 1 where a feature is anchored, (F,); it changes by `take` or with a checkpoint, not in place.
        codes: Codes of the symbols with a scale of their own, (S,); S is 0 without any.
    """

    loc: Tensor
    scale: Tensor
    anchored: Tensor
    codes: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("anchored", torch.zeros(n_features))
        self._anchors = False  # whether any feature is anchored; a GPU need not be asked
        self._set_codes(torch.zeros(0))

    def take(self, loc: Tensor, scale: Tensor, anchored: Tensor, codes: Tensor) -> None:
        """Uses other statistics from now on; see the attributes.

        Raises:
            ConfigError: If codes are given and half precision would round them.
        """
        what, fix = "data.per_symbol with a model in half precision", "use 32-true, 16-mixed or bf16-mixed"
        require(not len(codes) or self.loc.dtype.itemsize > HALF, what, "trainer.precision", fix)
        for name, values in (("loc", loc), ("scale", scale), ("anchored", anchored)):
            setattr(self, name, like(self.loc, values))
        self._anchors = bool(self.anchored.any())
        self._set_codes(codes)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled windows, (B, T, F), from raw ones, (B, T, F)."""
        loc, scale = self.loc, self.scale
        if len(self.codes):
            loc, scale = (of_windows(table, self.codes, x).unsqueeze(-2) for table in (loc, scale))
        relative = x - self.anchored * x[:, -1:] if self._anchors else x
        return (relative - loc) / scale

    def _set_codes(self, codes: Tensor) -> None:
        # a checkpoint without scales per symbol is as it was before there were any
        self.register_buffer("codes", like(self.loc, codes), persistent=len(codes) > 0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Takes the symbols of what is loaded."""
        self._set_codes(state_dict.get(f"{prefix}codes", self.codes[:0]))
        take_rows(self, state_dict, prefix, ("loc", "scale"))
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._anchors = bool(self.anchored.any())


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each time step.

    Args:
        channels: Number of channels, C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised channels, (B, C, T)."""
        normed: Tensor = self.norm(x.transpose(1, 2))
        return normed.transpose(1, 2)


class Dropout(nn.Dropout):
    """`nn.Dropout` with a mask that costs a CPU less: one random number of 64 bits decides on four values.

    The share of dropped values is the next multiple of 2 ** -16, and what is kept is scaled by exactly that share. On
    other devices it is `nn.Dropout`, whose kernel is fused there.

    Args:
        p: Probability of dropping a value.

    Example:
        >>> Dropout(0.5).eval()(torch.ones(2))
        tensor([1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Values of the same shape, each of them 0 or scaled in training."""
        dropped = round(self.p * LEVELS)
        if not (self.training and 0 < dropped < LEVELS and input.device.type == "cpu"):
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // DRAWS), dtype=torch.int64).random_(-(1 << 63), None)
        levels = draws.view(torch.int16)[: input.numel()].view(input.shape)  # from -LEVELS / 2 on
        return input * (levels >= dropped - LEVELS // 2).to(input.dtype) * (LEVELS / (LEVELS - dropped))


class ConvBlock(nn.Module):
    """Convolution over time, norm, activation, dropout, and a residual where the shapes allow.

    Args:
        n_in: Input channels.
        n_out: Output channels.
        kernel_size: Rows that the convolution sees.
        dilation: Distance between those rows.
        padding: `causal` sees rows up to its own, `same` also later rows of the window.
        norm: Batch norm, layer norm over channels, or none.
        activation: Name of the activation.
        dropout: Probability of dropping a value.
        residual: Adds the input where n_in equals n_out.
    """

    def __init__(  # noqa: PLR0913 - a block is what these nine say
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        dilation: int = 1,
        padding: Padding = "causal",
        norm: Norm = "batch",
        activation: Activation = "relu",
        dropout: float = 0.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        reach = (kernel_size - 1) * dilation
        self.pad = (reach, 0) if padding == "causal" else (reach // 2, reach - reach // 2)
        self.conv = nn.Conv1d(n_in, n_out, kernel_size, dilation=dilation)
        norms = {"batch": nn.BatchNorm1d, "layer": ChannelNorm, "none": nn.Identity}
        self.norm = norms[norm](n_out)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout)
        self.residual = residual and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, n_in, T) to (B, n_out, T)."""
        y: Tensor = self.dropout(self.activation(self.norm(self.conv(F.pad(x, self.pad)))))
        return y + x if self.residual else y


class SelfAttention(nn.Module):
    """Multi-head self-attention over time with a residual and a layer norm.

    Args:
        size: Width of a time step, D.
        heads: Number of heads; divides the width.
        dropout: Probability of dropping an attention weight.

    Source:
        Vaswani et al. (2017), Attention Is All You Need.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, last: bool = False) -> Tensor:
        """Maps (B, T, D) to (B, T, D).

        Args:
            x: Time steps.
            last: Only the last time step looks at the others: (B, 1, D), for a fraction of the time.
        """
        if not last:
            return self._looked(x, *self._split(x))
        size, weight, bias = x.shape[-1], self.project.weight, self.project.bias
        query = self._heads(F.linear(x[:, -1:], weight[:size], bias[:size]), 1)
        others = self._heads(F.linear(x, weight[size:], bias[size:]), 2)
        return self._looked(x[:, -1:], *query, *others)

    def weights(self, x: Tensor) -> Tensor:
        """Share of each time step that each time step looks at, (B, A, T, T); a row sums to 1."""
        query, key, _ = self._split(x)
        return _shares(query, key)

    def _looked(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The steps that look, (B, Q, D), with what they see; Q is 1 or T."""
        drops = self.dropout.training and self.dropout.p > 0
        if drops and x.device.type == "cpu":  # no fused kernel drops weights there
            mixed = self.dropout(_shares(query, key)) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout.p if drops else 0.0)
        y: Tensor = self.norm(x + self.out(mixed.transpose(1, 2).reshape(x.shape)))
        return y

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self._heads(self.project(x), 3)
        return query, key, value

    def _heads(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Projections (B, T, parts x D) as so many tensors (B, A, T, D / A)."""
        batch, time, size = projected.shape
        shape = batch, time, parts, self.heads, size // (parts * self.heads)
        return projected.view(shape).permute(2, 0, 3, 1, 4).unbind(0)


def _shares(query: Tensor, key: Tensor) -> Tensor:
    """Share of each key, (B, A, T, D / A), for each query, (B, A, Q, D / A): (B, A, Q, T)."""
    return torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, dim=-1)


class AttentionPooling(nn.Module):
    """Weighted mean over time; the weights are learnt from the time steps themselves.

    Args:
        size: Width of a time step, D.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, D)."""
        weights = torch.softmax(self.score(x), dim=1)  # (B, T, 1)
        return (weights * x).sum(dim=1)


class LastStep(nn.Module):
    """The last time step; an attention before it need not compute the others."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, D)."""
        return x[:, -1]


class MeanStep(nn.Module):
    """The mean over time."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, D)."""
        return x.mean(dim=1)


def initialize(module: nn.Module) -> None:
    """He for convolutions, Xavier for linear and LSTM input weights, orthogonal recurrence, forget bias 1.

    Source:
        He et al. (2015); Glorot and Bengio (2010); Saxe et al. (2014); Jozefowicz et al. (2015).
    """
    if any(parameter.is_meta for parameter in module.parameters()):  # shapes alone; torch's compiler would be imported
        return
    for part in module.modules():
        if isinstance(part, nn.Conv1d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LSTM):
            _initialize_lstm(part)


def _initialize_lstm(lstm: nn.LSTM) -> None:
    for name, parameter in lstm.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                parameter.data[lstm.hidden_size : 2 * lstm.hidden_size] = 1.0  # gates: input, forget, cell, output
            continue
        init = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
        for gate in parameter.data.chunk(4):
            init(gate)
