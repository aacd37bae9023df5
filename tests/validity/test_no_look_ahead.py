"""Whatever happens after t changes no bit of any feature, scaled value, window or forecast at or before t.

The whole pipeline is run: checks, features, panel, windows, statistics, network, predictions table. The future is
changed in four ways: moved, blanked, removed, and removed of another symbol only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES, available_features, resolve_features
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.evaluation.audit import stages
from cnn_lstm.evaluation.audit.perturbations import blanked, moved, removed
from cnn_lstm.evaluation.audit.stages import Stages
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from tests.markets import PRICES, TableSource, market

BARS = [*PRICES, "volume"]
ROWS = 900
WINDOW = 10
OFFERED = tuple(offer.default for offer in available_features())
# what is not clean is filled from the past, so that blanked rows pass the checks
TOLERANT = Checks(allow_jumps=True, allow_ohlc=True, fill_max_gap=100_000)
Mask = NDArray[np.bool_]
Change = Callable[[pd.DataFrame, Mask], pd.DataFrame]


def removed_elsewhere(table: pd.DataFrame, later: Mask) -> pd.DataFrame:
    return removed(table, later & (table["symbol"] == "BBB").to_numpy())


def moved_elsewhere(table: pd.DataFrame, later: Mask) -> pd.DataFrame:
    return moved(table, later & (table["symbol"] == "CCC").to_numpy())


def tenfold(table: pd.DataFrame, later: Mask) -> pd.DataFrame:
    changed = table.copy()
    changed.loc[later, BARS] *= 10
    return changed


CHANGES: list[Change] = [moved, blanked, removed, removed_elsewhere, moved_elsewhere]


class Pipeline:
    """A data module with a network of random weights, both fixed; tables go through as in a live process."""

    def __init__(self, table: pd.DataFrame, features: tuple[str, ...], anchor: tuple[str, ...] = ()) -> None:
        self.data = MarketDataModule(
            TableSource(table),
            features=list(features),
            targets=[ForwardReturn(2), RealizedVolatility(5)],
            window=WINDOW,
            anchor=list(anchor),
            checks=TOLERANT,
            split=FractionSplit(0.6, 0.2),
        )
        self.data.setup()
        torch.manual_seed(0)
        network = CNNLSTM(len(features), channels=[4], kernel_sizes=[3], lstm_hidden=4, attention_heads=2)
        forecaster = Forecaster(network, n_targets=2)
        forecaster.contract = Contract.from_plain(self.data.contract())
        forecaster.learn_statistics(self.data.statistics)
        self.way = stages.Pipeline(self.data, Predictor(forecaster))

    def stages(self, table: pd.DataFrame) -> Stages:
        panel = self.way.panel(table)
        # a table whose history ends before the first complete window has no forecast
        return self.way.known(panel) | self.way.forecast(panel, self.way.windows(panel, panel.symbols))


def differences(before: Stages, after: Stages, cut: pd.Timestamp, without: str = "") -> list[str]:
    """First row of each column of each stage that differs at or before the cut."""
    last = cut.tz_localize(None).to_datetime64()
    symbols = {symbol for symbol in before["features"].symbol if symbol != without}
    findings = []
    for name, stage in after.items():
        findings += before[name].until(last).of(symbols).other_bits(stage.until(last).of(symbols), "moved")
    return [str(finding) for finding in findings]


def cuts_of(pipeline: Pipeline) -> list[pd.Timestamp]:
    """Borders of the split, the days around the gap and each symbol's first and last day, and some in between."""
    panel, edges = pipeline.data.panel, pipeline.data.parts.boundaries
    time = pd.Series(pd.DatetimeIndex(panel.time, tz="UTC"))
    starts = np.flatnonzero(np.diff(panel.segment)) + 1
    ends = [time[start - 1] for start in starts]
    borders = [pd.Timestamp(edge, tz="UTC") for edge in (edges.validation, edges.test)]
    random = np.random.default_rng(1).choice(len(time) // 3, 4, replace=False) + len(time) // 6
    return sorted({*ends, *borders, *time[random]})


@pytest.fixture(scope="module", autouse=True)
def _no_chatter() -> Any:
    logger = logging.getLogger("cnn_lstm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return market(ROWS, seed=2)


@pytest.fixture(scope="module")
def default(table: pd.DataFrame) -> tuple[Pipeline, Stages]:
    pipeline = Pipeline(table, DEFAULT_FEATURES)
    return pipeline, pipeline.stages(table)


@pytest.fixture(scope="module")
def offered(table: pd.DataFrame) -> tuple[Pipeline, Stages]:
    pipeline = Pipeline(table, (*OFFERED, "close"), anchor=("close",))
    return pipeline, pipeline.stages(table)


def assert_deaf_to_the_future(
    pipeline: Pipeline, before: Stages, table: pd.DataFrame, cut: pd.Timestamp, change: Change
) -> None:
    changed = change(table, (table["timestamp"] > cut).to_numpy())
    if changed.equals(table):
        return  # a symbol that has no later row
    assert differences(before, pipeline.stages(changed), cut) == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_default_features_are_deaf_to_the_future(
    default: tuple[Pipeline, Stages], table: pd.DataFrame, change: Change
) -> None:
    pipeline, before = default
    cuts = [cut for cut in cuts_of(pipeline) if (table["timestamp"] > cut).any()]
    assert len(cuts) >= 6
    for cut in cuts[:: 2 if change in (moved, removed) else 5]:
        assert_deaf_to_the_future(pipeline, before, table, cut, change)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_offered_feature_is_deaf_to_the_future(
    offered: tuple[Pipeline, Stages], table: pd.DataFrame, change: Change
) -> None:
    pipeline, before = offered
    edges = pipeline.data.parts.boundaries
    assert_deaf_to_the_future(pipeline, before, table, pd.Timestamp(edges.validation, tz="UTC"), change)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_offered_feature_is_deaf_to_the_future_at_many_cuts(
    offered: tuple[Pipeline, Stages], table: pd.DataFrame, change: Change
) -> None:
    pipeline, before = offered
    windows = before["windows"]
    first = pd.Timestamp(windows.time[windows.values[:, 0] == 1].min(), tz="UTC")
    for cut in [cut for cut in cuts_of(pipeline) if cut >= first and (table["timestamp"] > cut).any()]:
        if (table.loc[table["timestamp"] > cut, "symbol"] == "BBB").any():
            assert_deaf_to_the_future(pipeline, before, table, cut, change)


def test_every_single_later_row_may_change(default: tuple[Pipeline, Stages], table: pd.DataFrame) -> None:
    """One changed row at t leaves everything before it alone, and does reach the features at t."""
    pipeline, before = default
    for row in (ROWS // 2, len(table) - 2, len(table) // 2 + 7):
        changed = table.copy()
        changed.loc[row, PRICES] *= 1.5
        symbol, when = str(table["symbol"][row]), pd.Timestamp(table["timestamp"][row])
        after = pipeline.stages(changed)
        assert differences(before, after, when - pd.Timedelta(days=1)) == []
        seen = differences(before, after, when)
        assert any(line.startswith("features") and symbol in line for line in seen)


@pytest.mark.parametrize("names", [DEFAULT_FEATURES, tuple(OFFERED)], ids=["default", "offered"])
def test_without_cross_sectional_features_other_symbols_do_not_matter_at_all(
    table: pd.DataFrame, names: tuple[str, ...]
) -> None:
    own = [item.name for item in resolve_features(names, table.columns) if not item.cross_sectional]
    pipeline = Pipeline(table, tuple(own))
    before = pipeline.stages(table)
    alone = pipeline.stages(table[table["symbol"] != "BBB"])
    assert differences(before, alone, table["timestamp"].max(), without="BBB") == []


def test_all_families_of_features_were_tried() -> None:
    assert len(OFFERED) >= 100
    assert any(offer.cross_sectional for offer in available_features())
    assert set(DEFAULT_FEATURES) - set(OFFERED) <= {"log_return_5", "log_return_20", "close_to_sma_50"}


def test_statistics_of_training_do_not_see_the_future(default: tuple[Pipeline, Stages], table: pd.DataFrame) -> None:
    """A refit on a table with other validation and test rows keeps its statistics."""
    pipeline, _ = default
    edges = pipeline.data.parts.boundaries
    later = (table["timestamp"] >= pd.Timestamp(edges.validation, tz="UTC")).to_numpy()
    for change in (moved, moved_elsewhere, tenfold):
        again = Pipeline(change(table, later), DEFAULT_FEATURES)
        assert again.data.parts.train.tolist() == pipeline.data.parts.train.tolist()
        for part in fields(again.data.statistics):
            one, other = (getattr(data.statistics, part.name) for data in (pipeline.data, again.data))
            assert one.numpy().tobytes() == other.numpy().tobytes(), part.name
