"""Whatever happens after t changes no bit of any feature, scaled value, window or forecast at or before t.

The whole pipeline is run: checks, features, panel, windows, statistics, network, predictions table. The future is
changed in four ways: moved, blanked, removed, and removed of another symbol only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.features import DEFAULT_FEATURES, available_features, feature, resolve_features
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.data.windows import build_panel, complete_windows
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from tests.markets import PRICES, TableSource, market

BARS = [*PRICES, "volume"]
ROWS = 900
PAST_COLUMNS = ["y_pred", "y_last", "y_mean", "volatility", "scale"]
WINDOW = 10
OFFERED = tuple(offer.default for offer in available_features())
# what is not clean is filled from the past, so that blanked rows pass the checks
TOLERANT = Checks(allow_jumps=True, allow_ohlc=True, fill_max_gap=100_000)
Change = Callable[[pd.DataFrame, "pd.Series[bool]"], pd.DataFrame]


def moved(table: pd.DataFrame, later: pd.Series[bool]) -> pd.DataFrame:
    """Other prices and volumes."""
    random, changed = np.random.default_rng(9), table.copy()
    factor = np.exp(random.normal(0, 1, int(later.sum())))
    changed.loc[later, PRICES] = changed.loc[later, PRICES].mul(factor, axis=0)
    changed.loc[later, "volume"] = np.round(np.exp(random.normal(10, 2, int(later.sum()))))
    return changed


def blanked(table: pd.DataFrame, later: pd.Series[bool]) -> pd.DataFrame:
    changed = table.copy()
    changed.loc[later, BARS] = np.nan
    return changed


def removed(table: pd.DataFrame, later: pd.Series[bool]) -> pd.DataFrame:
    return table[~later].reset_index(drop=True)


def removed_elsewhere(table: pd.DataFrame, later: pd.Series[bool]) -> pd.DataFrame:
    return removed(table, later & (table["symbol"] == "BBB"))


def moved_elsewhere(table: pd.DataFrame, later: pd.Series[bool]) -> pd.DataFrame:
    return moved(table, later & (table["symbol"] == "CCC"))


def tenfold(table: pd.DataFrame, later: pd.Series[bool]) -> pd.DataFrame:
    changed = table.copy()
    changed.loc[later, BARS] *= 10
    return changed


CHANGES: list[Change] = [moved, blanked, removed, removed_elsewhere, moved_elsewhere]


@dataclass(frozen=True)
class Stages:
    """Everything that the pipeline knows of a table, keyed by symbol and time."""

    features: pd.DataFrame
    scaled: pd.DataFrame
    known: pd.DataFrame
    windows: pd.DataFrame
    forecasts: pd.DataFrame
    embeddings: pd.DataFrame


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
        forecaster.contract = self.data.contract()
        forecaster.learn_statistics(self.data.statistics)
        self.predictor = Predictor(forecaster)

    def stages(self, table: pd.DataFrame) -> Stages:
        predictor = self.predictor
        checked = predictor.recipe.check(table, predictor.targets).table
        panel = predictor.recipe.panel(checked, predictor.targets)
        key = pd.MultiIndex.from_arrays([checked["symbol"], checked["timestamp"]], names=["symbol", "as_of"])
        with torch.inference_mode():
            scaled = predictor.forecaster.network.standardize(panel.values[:, None, :])[:, 0]
        windows = complete_windows(panel, WINDOW)
        return Stages(
            features=pd.DataFrame(panel.values.numpy(), index=key),
            scaled=pd.DataFrame(scaled.numpy(), index=key),
            known=pd.DataFrame(panel.present.numpy(), index=key),
            windows=pd.DataFrame({"complete": 1.0}, index=key[windows]),
            # a table whose history ends before the first complete window has no forecast
            forecasts=self._forecasts(table) if len(windows) else pd.DataFrame(index=key[:0]),
            embeddings=self._embeddings(table) if len(windows) else pd.DataFrame(index=key[:0]),
        )

    def _forecasts(self, table: pd.DataFrame) -> pd.DataFrame:
        plain = self.predictor.predict(table)
        wide = plain.pivot(index=["symbol", "as_of"], columns="target", values=PAST_COLUMNS)
        wide.columns = ["_".join(name) for name in wide.columns]
        return wide

    def _embeddings(self, table: pd.DataFrame) -> pd.DataFrame:
        return self.predictor.encode(table).set_index(["symbol", "as_of"])


def differences(before: Stages, after: Stages, cut: pd.Timestamp, dropped: pd.Index | None = None) -> list[str]:
    """`stage column @ symbol, time` of each column that differs at or before the cut; first row of each."""
    found = []
    for stage in (part.name for part in fields(Stages)):
        one, other = (_past(getattr(stages, stage), cut) for stages in (before, after))
        if dropped is not None:
            one = one[~one.index.isin(dropped)]
        if not one.index.equals(other.index):
            found.append(f"{stage}: other rows")
            continue
        if one.empty:
            continue
        left, right = (np.ascontiguousarray(frame.to_numpy(dtype=np.float64)).view(np.int64) for frame in (one, other))
        for column in np.flatnonzero((left != right).any(axis=0)):
            row = int((left != right)[:, column].argmax())
            found.append(f"{stage} {one.columns[column]} @ {one.index[row]}")
    return found


def _past(frame: pd.DataFrame, cut: pd.Timestamp) -> pd.DataFrame:
    return frame[frame.index.get_level_values("as_of") <= cut].sort_index()


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
    later = table["timestamp"] > cut
    changed = change(table, later)
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
    first = before.windows.index.get_level_values("as_of").min()
    for cut in [cut for cut in cuts_of(pipeline) if cut >= first and (table["timestamp"] > cut).any()]:
        if (table.loc[table["timestamp"] > cut, "symbol"] == "BBB").any():
            assert_deaf_to_the_future(pipeline, before, table, cut, change)


def test_every_single_later_row_may_change(default: tuple[Pipeline, Stages], table: pd.DataFrame) -> None:
    """One changed row at t leaves everything before it alone, and does reach the features at t."""
    pipeline, before = default
    for row in (ROWS // 2, len(table) - 2, len(table) // 2 + 7):
        changed = table.copy()
        changed.loc[row, PRICES] *= 1.5
        symbol, when = table.loc[row, ["symbol", "timestamp"]]
        after = pipeline.stages(changed)
        assert differences(before, after, when - pd.Timedelta(days=1)) == []
        told = differences(before, after, when)
        assert any(line.startswith("features") and symbol in line for line in told)


@pytest.mark.parametrize("names", [DEFAULT_FEATURES, tuple(OFFERED)], ids=["default", "offered"])
def test_without_cross_sectional_features_other_symbols_do_not_matter_at_all(
    table: pd.DataFrame, names: tuple[str, ...]
) -> None:
    own = [item.name for item in resolve_features(names, table.columns) if not item.cross_sectional]
    pipeline = Pipeline(table, tuple(own))
    before = pipeline.stages(table)
    alone = pipeline.stages(table[table["symbol"] != "BBB"])
    index = before.features.index
    dropped = index[index.get_level_values("symbol") == "BBB"]
    assert differences(before, alone, table["timestamp"].max(), dropped) == []


def test_all_families_of_features_were_tried() -> None:
    assert len(OFFERED) >= 100
    assert any(offer.cross_sectional for offer in available_features())
    assert set(DEFAULT_FEATURES) - set(OFFERED) <= {"log_return_5", "log_return_20", "close_to_sma_50"}


# -- the test of the test ------------------------------------------------------------------------------------


@feature(warmup=0)
def next_return(bars: pd.DataFrame) -> pd.Series:
    """Knows tomorrow."""
    return bars["close"].shift(-1) / bars["close"] - 1


@feature(warmup=0)
def scaled_by_everything(bars: pd.DataFrame) -> pd.Series:
    """A z-score over the whole history."""
    return (bars["close"] - bars["close"].mean()) / bars["close"].std()


@feature(warmup=0)
def centred(bars: pd.DataFrame) -> pd.Series:
    """A centred moving average."""
    return bars["close"] / bars["close"].rolling(5, center=True).mean()


@feature(warmup=0)
def rebased(bars: pd.DataFrame) -> pd.Series:
    """The price in units of the last one."""
    return bars["close"] / bars["close"].iloc[-1]


@feature(warmup=0)
def filled_backwards(bars: pd.DataFrame) -> pd.Series:
    """Every third value, the others from later."""
    return bars["close"].where(np.arange(len(bars)) % 3 == 0).bfill()


@feature(warmup=0, cross_sectional=True)
def last_of_others(table: pd.DataFrame) -> pd.Series:
    """The mean of all symbols on the last day."""
    return table["close"] / table["close"][table["timestamp"] == table["timestamp"].max()].mean()


@pytest.mark.parametrize(
    "leak",
    [next_return, scaled_by_everything, centred, rebased, filled_backwards, last_of_others],
    ids=lambda leak: leak.__name__,
)
def test_a_planted_leak_is_found(table: pd.DataFrame, leak: Callable[..., Any]) -> None:
    ordered = table.sort_values(["symbol", "timestamp"], ignore_index=True)
    features = resolve_features(["a.leak"], table.columns, lambda path: leak)

    def values(prices: pd.DataFrame) -> pd.DataFrame:
        panel = build_panel(prices, features, [ForwardReturn()], 10)
        key = pd.MultiIndex.from_frame(prices[["symbol", "timestamp"]], names=["symbol", "as_of"])
        return pd.DataFrame(panel.values.numpy(), index=key)

    before = values(ordered)
    for change in (moved, removed):
        found = []
        for cut in ordered["timestamp"].iloc[300:303]:
            after = values(change(ordered, ordered["timestamp"] > cut))
            one, other = (_past(frame, cut).to_numpy().view(np.int32) for frame in (before, after))
            found.append(bool((one != other).any()))
        assert any(found), change.__name__


def test_statistics_of_training_do_not_see_the_future(default: tuple[Pipeline, Stages], table: pd.DataFrame) -> None:
    """A refit on a table with other validation and test rows keeps its statistics."""
    pipeline, _ = default
    edges = pipeline.data.parts.boundaries
    later = table["timestamp"] >= pd.Timestamp(edges.validation, tz="UTC")
    for change in (moved, moved_elsewhere, tenfold):
        again = Pipeline(change(table, later), DEFAULT_FEATURES)
        assert again.data.parts.train.tolist() == pipeline.data.parts.train.tolist()
        for part in fields(again.data.statistics):
            one, other = (getattr(data.statistics, part.name) for data in (pipeline.data, again.data))
            assert one.numpy().tobytes() == other.numpy().tobytes(), part.name
