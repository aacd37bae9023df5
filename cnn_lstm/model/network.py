"""The network: windows in, embedding out; plain `nn.Module`s with primitive arguments.

Shapes: B batch, T window length, F features, D embedding, A attention heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cnn_lstm.errors import ConfigError, require
from cnn_lstm.model import layers
from cnn_lstm.specs import Serializable, require_attributes

Pooling = Literal["last", "mean", "attention"]
POOLINGS: dict[str, type[nn.Module]] = {"last": layers.LastStep, "mean": layers.MeanStep}

MOST_LAYERS = 100


class Backbone(nn.Module, Serializable, ABC):
    """Anything that maps windows of raw features to embeddings.

    Attributes:
        n_features: Number of features that it expects, F.
        embedding_dim: Width of the embedding, D.
        standardize: Scales the raw features; filled from the training rows.
    """

    n_features: int
    embedding_dim: int
    standardize: layers.Standardize

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, (B, D), of windows, (B, T, F)."""


def require_backbone(network: nn.Module) -> None:
    """Refuses a network that lacks what a forecaster asks of it.

    Args:
        network: One of the user's own, it may be.

    Raises:
        ConfigError: E282, naming what is missing.

    Example:
        >>> require_backbone(nn.Linear(2, 2))
        Traceback (most recent call last):
        cnn_lstm.errors.ConfigError: error[E282]: Linear has no n_features, embedding_dim, standardize — \
model.network — set them in its constructor, see docs/model.md
    """
    wanted = {"n_features": int, "embedding_dim": int, "standardize": layers.Standardize}
    require_attributes(network, wanted, "model.network", "set them in its constructor, see docs/model.md")


def require_embeddings(network: Backbone, windows: Tensor) -> None:
    """Tries a network out on a few windows; weights, modes and random numbers stay as they are.

    Args:
        network: The network.
        windows: Raw windows, (B, T, F).

    Raises:
        ConfigError: E282, if it fails, or its embeddings are not (B, D).
    """
    name, wanted = type(network).__name__, (len(windows), network.embedding_dim)
    modes = [(part, part.training) for part in network.modules()]
    fix = "correct its forward or its embedding_dim, see docs/model.md"
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = network.eval()(windows)
    except Exception as error:  # anything that a class of the user's own may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{name} fails on windows {tuple(windows.shape)}: {reason}", "model.network", fix,
                          code=282) from error  # fmt: skip
    finally:
        for part, mode in modes:
            part.training = mode
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    require(shape == wanted, f"{name} gives {shape}, its embedding_dim says {wanted}", "model.network", fix, code=282)


class CNNLSTM(Backbone):
    """Convolutions over time, an LSTM, self-attention and pooling.

    Args:
        n_features: Number of features, F.
        channels: Output channels of each convolution block; empty for none.
        kernel_sizes: Rows that each convolution sees; as many as channels.
        dilations: Distance between those rows; 1 everywhere by default.
        padding: `causal` or `same`.
        norm: `batch`, `layer` or `none`, after each convolution.
        activation: `relu`, `gelu`, `silu`, `elu` or `tanh`.
        residual: Adds a block's input to its output where the shapes allow.
        conv_dropout: Dropout after each convolution block.
        lstm_hidden: Units of the LSTM in each direction.
        lstm_layers: Stacked LSTM layers.
        bidirectional: Reads the window both ways; it never leaves the window.
        lstm_dropout: Dropout between the LSTM layers and after the last.
        attention_heads: Heads of the self-attention; 0 leaves it out.
        attention_dropout: Dropout of attention weights.
        pooling: `last`, `mean` or `attention` over time.

    Raises:
        ConfigError: If an argument is out of its range, naming it.

    Example:
        >>> import torch
        >>> network = CNNLSTM(n_features=3, channels=[8], kernel_sizes=[3], lstm_hidden=4, attention_heads=2)
        >>> network(torch.zeros(2, 10, 3)).shape, network.embedding_dim
        (torch.Size([2, 4]), 4)
    """

    def __init__(  # noqa: PLR0913 - each argument is a key of the YAML and of the sweep's search space
        self,
        n_features: int,
        channels: Sequence[int] = (32, 64),
        kernel_sizes: Sequence[int] = (3, 3),
        dilations: Sequence[int] | None = None,
        padding: layers.Padding = "causal",
        norm: layers.Norm = "batch",
        activation: layers.Activation = "relu",
        residual: bool = True,
        conv_dropout: float = 0.1,
        lstm_hidden: int = 64,
        lstm_layers: int = 1,
        bidirectional: bool = False,
        lstm_dropout: float = 0.1,
        attention_heads: int = 4,
        attention_dropout: float = 0.1,
        pooling: Pooling = "last",
    ) -> None:
        super().__init__()
        dilations = [1] * len(channels) if dilations is None else dilations
        what = f"{len(channels)} channels, {len(kernel_sizes)} kernel sizes, {len(dilations)} dilations"
        fix = "give one kernel size and one dilation for each channel count"
        _require(len(channels) == len(kernel_sizes) == len(dilations), what, fix)
        counts = {"n_features": n_features, "lstm_hidden": lstm_hidden, "lstm_layers": lstm_layers}
        lists = {"channels": channels, "kernel_sizes": kernel_sizes, "dilations": dilations}
        counts |= {f"{name}[{i}]": value for name, values in lists.items() for i, value in enumerate(values)}
        for name, count in counts.items():
            _require(count >= 1, f"{name}={count}", "give at least 1")
        # the layers are built one by one, so that an absurd number would neither end nor fail
        _require(lstm_layers <= MOST_LAYERS, f"lstm_layers={lstm_layers}", f"give at most {MOST_LAYERS}")
        rates = {"conv_dropout": conv_dropout, "lstm_dropout": lstm_dropout, "attention_dropout": attention_dropout}
        for name, rate in rates.items():
            _require(0 <= rate < 1, f"{name}={rate}", "a dropout lies in [0, 1)")
        choices = {"padding": layers.Padding, "norm": layers.Norm, "activation": layers.Activation, "pooling": Pooling}
        for (name, choice), value in zip(choices.items(), (padding, norm, activation, pooling), strict=True):
            _require(value in get_args(choice), f"{name}={value!r}", f"one of {', '.join(get_args(choice))}")
        width = lstm_hidden * (2 if bidirectional else 1)
        divides = attention_heads >= 0 and width % (attention_heads or 1) == 0
        fix = f"give 0 or a divisor of the LSTM's output width {width}"
        _require(divides, f"attention_heads={attention_heads}", fix)

        self.n_features, self.embedding_dim = n_features, width
        self.standardize = layers.Standardize(n_features)
        sizes = [n_features, *channels]
        shapes = zip(sizes, channels, kernel_sizes, dilations, strict=False)
        blocks = (layers.ConvBlock(*shape, padding, norm, activation, conv_dropout, residual) for shape in shapes)
        self.convolutions = nn.Sequential(*blocks)
        between = lstm_dropout if lstm_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            sizes[-1], lstm_hidden, lstm_layers, batch_first=True, dropout=between, bidirectional=bidirectional
        )
        self.dropout = layers.Dropout(lstm_dropout)
        self.attention = layers.SelfAttention(width, attention_heads, attention_dropout) if attention_heads else None
        self.pooling = layers.AttentionPooling(width) if pooling == "attention" else POOLINGS[pooling]()
        layers.initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, (B, D), of windows of raw features, (B, T, F).

        Raises:
            ValueError: If the windows have another number of features.
        """
        steps = self._steps(x)
        if self.attention is not None:
            steps = self.attention(steps, last=isinstance(self.pooling, layers.LastStep))
        embedding: Tensor = self.pooling(steps)
        return embedding

    def attention_weights(self, x: Tensor) -> Tensor:
        """Share of each bar that each bar looks at, (B, A, T, T), for windows (B, T, F).

        Raises:
            ValueError: If the network has no attention.
        """
        if self.attention is None:
            raise ValueError("attention_heads=0: this network has no attention weights")
        return self.attention.weights(self._steps(x))

    def _steps(self, x: Tensor) -> Tensor:
        """LSTM outputs, (B, T, D)."""
        if x.ndim != 3 or x.shape[-1] != self.n_features:
            raise ValueError(f"expected windows (B, T, {self.n_features}), got {tuple(x.shape)}")
        convolved = self.convolutions(self.standardize(x).transpose(1, 2))  # (B, C, T)
        steps, _ = self.lstm(convolved.transpose(1, 2))
        dropped: Tensor = self.dropout(steps)
        return dropped


def _require(holds: bool, what: str, fix: str) -> None:
    require(holds, what, "model.network", fix)
