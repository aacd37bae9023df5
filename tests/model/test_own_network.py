"""Networks and objectives of the user's own: what they lack is named before a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.layers import Standardize
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective
from tests.fits import FEATURES, small_checkpoint, small_data, small_network, small_trainer

F = len(FEATURES)


class Own(Backbone):
    """Means over time; it can leave out what a forecaster needs, or do something else than it says."""

    def __init__(self, n_features: int = F, without: str = "", fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        for name, value in {"n_features": n_features, "embedding_dim": 4}.items():
            if name != without:
                setattr(self, name, value)
        if without != "standardize":
            self.standardize = Standardize(n_features)
        self.linear = nn.Linear(n_features, 5 if fault == "width" else 4)
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(n_features)

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "raises":
            raise KeyError("hidden")
        steps = self.linear(self.norm(self.standardize(x).mean(dim=1)))
        dropped: Tensor = self.dropout(steps)
        return (dropped, dropped) if self.fault == "tuple" else dropped  # type: ignore[return-value]  # wrong on purpose


class Unfinished(Objective):
    """An objective without its number of outputs."""

    def loss(self, raw: Tensor, z: Tensor) -> Tensor:
        return (raw[..., 0] - z).square().mean()

    def forecast(self, raw: Tensor, loc: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"y_pred": raw[..., 0] * scale + loc}


@pytest.mark.parametrize("name", ["n_features", "embedding_dim", "standardize"])
def test_a_missing_attribute_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"Own has no {name} — model\.network — .*docs/model\.md") as caught:
        Forecaster(Own(without=name))
    assert caught.value.code == 282


def test_an_objective_without_its_outputs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Unfinished has no n_outputs — model\.objective"):
        Forecaster(small_network(), Unfinished())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("width", r"gives \(2, 5\), its embedding_dim says \(2, 4\)"),
        ("tuple", "gives tuple"),
        ("raises", r"fails on windows \(2, 6, 3\): KeyError: 'hidden'"),
    ],
)
def test_a_network_that_does_not_do_what_it_says_is_refused_before_training(
    tmp_path: Path, fault: str, reason: str
) -> None:
    trainer = small_trainer()
    with pytest.raises(ConfigError, match=reason) as caught:
        trainer.fit(Forecaster(Own(fault=fault)), datamodule=small_data(tmp_path))
    assert (caught.value.code, caught.value.where, trainer.global_step) == (282, "model.network", 0)


def test_trying_a_network_out_changes_nothing(tmp_path: Path) -> None:
    forecaster, data = Forecaster(Own()), small_data(tmp_path)
    forecaster.network.get_submodule("dropout").eval()  # a part that its author has frozen
    data.setup()
    trainer = small_trainer()
    trainer.strategy.connect(forecaster)
    forecaster.trainer = trainer
    trainer.datamodule = data  # type: ignore[attr-defined]  # set by Lightning
    before, random = forecaster.network.get_buffer("norm.running_mean").clone(), torch.get_rng_state()
    forecaster.setup("fit")
    assert torch.equal(forecaster.network.get_buffer("norm.running_mean"), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in forecaster.network.children()].count(False) == 1


def test_a_network_of_ones_own_trains_and_is_saved(tmp_path: Path) -> None:
    assert small_checkpoint(tmp_path, Forecaster(Own())).is_file()
