"""A warning where the scale of one symbol is a tenth of another's."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, Target
from tests.markets import PRICES, TableSource, market

TABLE = market(300, gaps=False)


def scaled(factor: float, symbol: str = "BBB") -> pd.DataFrame:
    """Random walks of three symbols, the prices of one of them in another unit."""
    table = TABLE.copy()
    table[PRICES] = table[PRICES].div(table.groupby("symbol")["close"].transform("std"), axis=0)
    table.loc[table["symbol"] == symbol, PRICES] *= factor
    return table


def warnings_of(caplog: pytest.LogCaptureFixture, table: pd.DataFrame, *targets: Target, **arguments: Any) -> list[str]:
    values = {"features": ["log_return_1"], "window": 6, **arguments}
    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        MarketDataModule(TableSource(table), targets=list(targets), **values).setup()
    return [record.getMessage() for record in caplog.records if "W342" in record.getMessage()]


@pytest.mark.parametrize("anchor", [[], ["close"]], ids=["level", "anchored"])
@pytest.mark.parametrize(("factor", "words"), [(0.005, "for BBB"), (200.0, "for BBB as for")])
def test_two_symbols_are_named_and_how_far_they_are_apart(
    caplog: pytest.LogCaptureFixture, factor: float, words: str, anchor: list[str]
) -> None:
    table = scaled(factor)
    (message,) = warnings_of(caplog, table, ForwardValue("close"), features=["close"], anchor=anchor)
    assert words in message
    assert "and 1 more like it" in message, "the feature as well as the target"
    assert len(message) <= 400
    ratio = float(message.split(" times")[0].split()[-1])
    assert 100 < ratio < 600


def test_the_ratio_is_that_of_standard_deviations_over_training_labels(caplog: pytest.LogCaptureFixture) -> None:
    table = scaled(0.01)
    target = ForwardValue("close", horizon=2)
    (message,) = warnings_of(caplog, table, target)
    data = MarketDataModule(TableSource(table), features=["log_return_1"], window=6, targets=[target])
    data.setup()
    rows = data.parts.train
    labels = pd.Series(data.panel.labels[rows, 0].numpy().astype(float))
    spread = labels.groupby(np.array(data.panel.symbols)[data.panel.symbol[rows]]).std(ddof=0).sort_values()
    assert f"the scale of close_2 is {spread.iloc[-1] / spread.iloc[0]:.3g} times" in message
    assert f"for {spread.index[-1]} as for {spread.index[0]} " in message.replace(" —", " ")


@pytest.mark.parametrize(
    ("table", "target", "features"),
    [
        (scaled(0.5), ForwardValue("close"), ["close"]),
        (scaled(1e-4), ForwardReturn(), ["log_return_1", "garman_klass_volatility_5", "close_location"]),
        (scaled(1e-4), Direction(), ["log_return_1"]),
        (scaled(1e-4)[lambda t: t["symbol"] == "BBB"], ForwardValue("close"), ["close"]),
    ],
    ids=["alike", "free of scale", "classes", "one symbol"],
)
def test_nothing_is_said_where_scales_are_alike(
    caplog: pytest.LogCaptureFixture, table: pd.DataFrame, target: Target, features: list[str]
) -> None:
    assert warnings_of(caplog, table, target, features=features) == []


def test_a_symbol_that_stands_still_or_hardly_trains_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    table = scaled(1.0)
    table["level"] = table["close"].where(table["symbol"] != "BBB", 1.0)
    assert warnings_of(caplog, table, ForwardReturn(), features=["level"]) == []


def test_validation_and_test_rows_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    table = scaled(1.0)
    late = table["timestamp"] > table["timestamp"].quantile(0.72)
    table["level"] = np.where(late & (table["symbol"] == "BBB"), 1e6 * table["close"], table["close"])
    assert warnings_of(caplog, table, ForwardReturn(), features=["level"]) == []
