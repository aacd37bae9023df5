"""Labels that are forecast as their distance to the last value of a feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.features import feature
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.targets import ForwardReturn, ForwardValue, RealizedVolatility, Target
from cnn_lstm.errors import ConfigError
from tests.markets import TableSource, market

LOG, PLAIN = "log_realised_volatility_5", "parkinson_volatility_5"
FEATURES = ["log_return_1", LOG, PLAIN, "close_location", "close"]


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})


def data_of(*targets: Target, **arguments: Any) -> MarketDataModule:
    values = {"features": FEATURES, "window": 6, **arguments}
    return MarketDataModule(TableSource(market(400, gaps=False)), targets=list(targets), **values)


def test_labels_are_scaled_by_their_distance_to_the_last_value_of_the_anchor() -> None:
    targets = RealizedVolatility(5, log=True, anchor=LOG), RealizedVolatility(5, anchor=PLAIN), ForwardReturn()
    data = data_of(*targets)
    data.setup()
    assert data.statistics.y_anchor.tolist() == [1, 2, -1]
    rows = torch.from_numpy(data.parts.train)
    labels, values = data.panel.labels[rows].double(), data.panel.values[rows].double()
    moves = torch.stack([labels[:, 0] - values[:, 1], labels[:, 1] - values[:, 2], labels[:, 2]], dim=1)
    free = torch.stack([torch.zeros(()), torch.zeros(()), moves[:, 2].mean()]).double()  # an anchor is the location
    torch.testing.assert_close(data.statistics.y_loc.double(), free, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(data.statistics.y_scale.double(), moves.std(dim=0, correction=0), rtol=1e-5, atol=1e-8)
    assert data.statistics.x_anchored.tolist() == [0] * 5, "the feature itself stays a level"


def test_an_anchor_of_the_targets_own_horizon_is_its_last_value() -> None:
    data = data_of(RealizedVolatility(5, log=True, anchor=LOG))
    data.setup()
    rows = torch.from_numpy(data.windows)
    torch.testing.assert_close(data.panel.values[rows, 1], data.panel.present[rows, 0], rtol=1e-6, atol=1e-6)


def test_a_level_keeps_the_anchor_of_its_column() -> None:
    data = data_of(ForwardValue("close"), RealizedVolatility(5, log=True, anchor=LOG), anchor=["close"])
    data.setup()
    assert data.statistics.y_anchor.tolist() == [4, 1]
    assert data.statistics.x_anchored.tolist() == [0, 0, 0, 0, 1]


@feature(warmup=1, kind="volatility")
def own_volatility(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].pct_change().abs()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (RealizedVolatility(5, log=True, anchor="log_realised_volatility_22"), r"E225.*_22' is not a feature.*list it"),
        (
            RealizedVolatility(5, log=True, anchor=PLAIN),
            r"E224.*parkinson_volatility_5' is a volatility, the target a log",
        ),
        (RealizedVolatility(5, anchor=LOG), r"E224.*is a log_volatility, the target a volatility"),
        (RealizedVolatility(5, anchor="close_location"), r"E224.*'close_location' is a value"),
        (
            RealizedVolatility(5, log=True, anchor=f"{__name__}.own_volatility"),
            r"E224.*is a volatility, the target a log",
        ),
    ],
    ids=["absent", "log target", "log feature", "another quantity", "own function"],
)
def test_an_anchor_that_is_absent_or_has_another_unit_is_refused_in_a_line(target: Target, message: str) -> None:
    data = data_of(target, features=[*FEATURES, f"{__name__}.own_volatility"])
    with pytest.raises(ConfigError, match=message) as caught:
        data.setup()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 400


@pytest.mark.parametrize("anchor", [f"{__name__}.own_volatility", "close"], ids=["declared", "column"])
def test_an_own_volatility_and_a_column_may_be_the_anchor(anchor: str) -> None:
    data = data_of(
        RealizedVolatility(5, anchor=anchor), features=["log_return_1", f"{__name__}.own_volatility", "close"]
    )
    data.setup()
    assert data.statistics.y_anchor.tolist() == [data.recipe.features.index(anchor)]


def test_recipes_go_through_a_checkpoint_and_those_without_anchors_are_as_they_were() -> None:
    recipe = data_of(RealizedVolatility(5, log=True, anchor=LOG)).recipe
    again = Recipe.from_plain(recipe.to_plain())
    assert again == recipe
    assert again.build_targets()[0].anchor == LOG
    plain = RealizedVolatility(5, log=True).spec()
    assert plain["init_args"] == {"horizon": 5, "delay": 0, "log": True, "column": "close"}
    assert Recipe.from_plain({**recipe.to_plain(), "targets": [plain]}).build_targets()[0].anchor == ""


def test_labels_themselves_do_not_know_the_anchor() -> None:
    bars = market(100, ["AAA"], gaps=False)
    one, other = (RealizedVolatility(5, log=True, anchor=anchor).future(bars) for anchor in (LOG, None))
    np.testing.assert_array_equal(one, other)
