"""A recipe finds its features once per set-up, and goes through a checkpoint unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from cnn_lstm.data import recipe as recipes
from cnn_lstm.data.checks import Checks
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.feature_catalogue import resolve_features
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.evaluation.audit.run_audit import short_form
from cnn_lstm.evaluation.audit.stages import Base, Pipeline
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.rl.market_data import read_market_data
from tests.fits import small_network
from tests.markets import TableSource, market

FEATURES = ("log_return_1", "close_to_sma_20")
RECIPE = Recipe(FEATURES, (ForwardReturn(2).spec(),), 6, (), Checks())


class Resolutions:
    """How often features were looked up by their names."""

    count = 0

    def taken(self) -> int:
        """The number since it was last asked for."""
        count, self.count = self.count, 0
        return count


@pytest.fixture
def resolutions(monkeypatch: pytest.MonkeyPatch) -> Resolutions:
    counted, resolve = Resolutions(), resolve_features

    def counting(*given: Any) -> Any:
        counted.count += 1
        return resolve(*given)

    monkeypatch.setattr(recipes, "resolve_features", counting)
    return counted


def set_up(prices: pd.DataFrame) -> MarketDataModule:
    data = MarketDataModule(TableSource(prices), features=list(FEATURES), targets=[ForwardReturn(2)], window=6)
    data.setup()
    return data


def untrained(data: MarketDataModule) -> Predictor:
    torch.manual_seed(0)
    forecaster = Forecaster(small_network(n_features=data.n_features), n_targets=1)
    forecaster.learn_statistics(data.statistics)
    forecaster.contract = Contract.from_plain(data.contract())
    return Predictor(forecaster)


def test_a_data_module_looks_its_features_up_once(resolutions: Resolutions) -> None:
    data = set_up(market(220))
    data.setup("test")
    assert resolutions.taken() == 1


def test_an_audit_of_a_data_module_looks_nothing_up(resolutions: Resolutions) -> None:
    data = set_up(market(220))
    resolutions.taken()
    Base(Pipeline(data), data.prices)
    short_form(data)
    assert resolutions.taken() == 0


def test_a_predictor_looks_its_features_up_once_per_table(resolutions: Resolutions) -> None:
    prices = market(220)
    predictor = untrained(set_up(prices))
    resolutions.taken()
    predictor.predict(prices, start="2010-06-01")
    assert resolutions.taken() == 1
    predictor.encode(prices)
    assert resolutions.taken() == 1


def test_a_stream_looks_its_features_up_once(resolutions: Resolutions) -> None:
    prices = market(220)
    predictor = untrained(set_up(prices))
    last = prices["timestamp"].max()
    resolutions.taken()
    stream = predictor.stream(prices[prices["timestamp"] < last])
    stream.update(prices[prices["timestamp"] == last])
    assert resolutions.taken() == 1
    predictor.stream()
    assert resolutions.taken() == 1


def test_market_data_of_agents_looks_its_features_up_once(resolutions: Resolutions) -> None:
    read_market_data(market(220), RECIPE)
    assert resolutions.taken() == 1


def test_a_bound_recipe_says_what_it_needs() -> None:
    bound = RECIPE.bind(["symbol", "timestamp", "close"], RECIPE.build_targets())
    assert [feature.name for feature in bound.features] == list(FEATURES)
    assert bound.needed_columns == ["close"]
    assert bound.needed_rows == max(feature.warmup for feature in bound.features) + 6
    assert bound.reach == ForwardReturn(2).reach


def test_a_missing_bar_column_is_a_defect_of_the_table() -> None:
    prices = market(60).drop(columns="close")
    bound = RECIPE.bind_to(prices, RECIPE.build_targets())
    with pytest.raises(DataError, match=r"E303.*no column close"):
        bound.check(prices)


def test_an_unknown_feature_is_refused_when_it_is_bound() -> None:
    with pytest.raises(ConfigError, match=r"E225.*unknown feature 'rsii_14'.*rsi_14"):
        replace(RECIPE, features=("rsii_14",)).bind([], [])


def test_what_is_not_a_table_is_refused() -> None:
    with pytest.raises(DataError, match=r"E338.*prices are str"):
        RECIPE.read("prices.csv")  # what a user gives by mistake


def test_other_checks_keep_the_features_that_were_found() -> None:
    bound = RECIPE.bind(["close"], RECIPE.build_targets())
    other = bound.with_checks(Checks(allow_jumps=True))
    assert other.recipe == replace(RECIPE, checks=Checks(allow_jumps=True))
    assert other.features is bound.features


# -- in a checkpoint ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_before_still_loads() -> None:
    before = {
        "features": ["log_return_1", "close_to_sma_20"],
        "targets": [ForwardReturn(2).spec()],
        "window": 6,
        "anchor": [],
        "checks": {
            "strict": True,
            "fill_max_gap": 0,
            "allow_jumps": False,
            "allow_ohlc": False,
            "max_gap_days": 10.0,
            "on_short": "error",
        },
    }
    recipe = Recipe.from_plain(before)
    assert recipe == replace(RECIPE, checks=Checks(refuse_unsorted=True, max_gap_days=10))
    assert recipe.to_plain() == before, "recipes of both times compare equal"


def test_the_name_in_yaml_is_read_too() -> None:
    assert Checks.from_plain({"refuse_unsorted": True}) == Checks(refuse_unsorted=True)
