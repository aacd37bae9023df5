"""The plain module does what Qlib's `GeneralPTNN` asks of one."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.regressor import CNNLSTMRegressor

# what stands in a workflow file under `pt_model_uri` and `pt_model_kwargs`
PATH = "cnn_lstm.model.regressor.CNNLSTMRegressor"
ARGUMENTS = {"d_feat": 3, "channels": [4], "kernel_sizes": [3], "lstm_hidden": 8, "attention_heads": 2}


def built(path: str, **arguments: Any) -> nn.Module:
    """As Qlib's `init_instance_by_config` does."""
    module, _, name = path.rpartition(".")
    found: nn.Module = getattr(importlib.import_module(module), name)(**arguments)
    return found


def batches(count: int, seed: int) -> list[Tensor]:
    """As Qlib's loader gives them: windows with the label as last column, some labels missing."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        data = torch.randn(32, 10, 4, generator=random, dtype=torch.float64)
        data[:, -1, -1] = data[:, -1, 0] - 0.5 * data[:, -2, 1]
        data[:2, -1, -1] = torch.nan
        found.append(data)
    return found


def loss_of(model: nn.Module, data: Tensor) -> Tensor:
    """Qlib 0.9.7, `GeneralPTNN.loss_fn`."""
    feature, label = data[:, :, :-1], data[:, -1, -1]
    pred, mask = model(feature.float()), ~torch.isnan(label)
    return torch.mean((pred[mask] - label[mask].view(-1, 1)) ** 2)


def test_it_is_built_by_path_and_trained_as_qlib_trains() -> None:
    torch.manual_seed(0)
    model = built(PATH, **ARGUMENTS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    unseen = batches(4, seed=1)
    before = sum(float(loss_of(model.eval(), data).detach()) for data in unseen)
    model.train()
    for data in batches(60, seed=0):
        loss = loss_of(model, data)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 3.0)
        optimizer.step()
    kept = copy.deepcopy(model.state_dict())
    after = sum(float(loss_of(model.eval(), data).detach()) for data in unseen)
    assert after < 0.5 * before
    again = built(PATH, **ARGUMENTS)
    again.load_state_dict(kept)
    with torch.no_grad():
        windows = unseen[0][:, :, :-1].float()
        assert torch.equal(again.eval()(windows), model(windows))


def test_it_gives_one_number_a_window() -> None:
    assert CNNLSTMRegressor(**ARGUMENTS)(torch.zeros(5, 7, 3)).shape == (5, 1)  # type: ignore[arg-type]
    assert CNNLSTMRegressor().network.n_features == 6


def test_a_wrong_argument_is_told_by_its_name() -> None:
    with pytest.raises(ConfigError, match="lstm_hidden=0"):
        CNNLSTMRegressor(d_feat=3, lstm_hidden=0)
