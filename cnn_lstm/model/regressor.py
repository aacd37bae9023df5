"""The network as a plain module of plain arguments, for frameworks that train whatever maps windows to a number."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cnn_lstm.model.network import CNNLSTM


class CNNLSTMRegressor(nn.Module):
    """One number per window, such as Qlib's `GeneralPTNN` trains by the dotted path of this class.

    The caller scales the features: nothing is learnt from the data but by gradients.

    Args:
        d_feat: Number of features, F; Qlib's name for it.
        **network: Arguments of `CNNLSTM` but `n_features`: numbers, words and lists.

    Raises:
        ConfigError: If an argument is out of its range, naming it.

    Example:
        >>> import torch
        >>> regressor = CNNLSTMRegressor(d_feat=6, channels=[8], kernel_sizes=[3], lstm_hidden=16)
        >>> regressor(torch.zeros(4, 20, 6)).shape
        torch.Size([4, 1])
    """

    def __init__(self, d_feat: int = 6, **network: Any) -> None:
        super().__init__()
        self.network = CNNLSTM(n_features=d_feat, **network)
        self.head = nn.Linear(self.network.embedding_dim, 1)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers, (B, 1), of windows, (B, T, F)."""
        number: Tensor = self.head(self.network(x))
        return number
