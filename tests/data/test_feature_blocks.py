"""Features in blocks: every value is a function of a bounded past, and hardly another one than of the whole past."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from cnn_lstm.data import features as feature_list
from cnn_lstm.data.feature_catalogue import available_features, resolve_features
from cnn_lstm.data.features import Feature, compute_features, evaluate_feature, most_history, needed_history
from cnn_lstm.data.indicators.declare import FeatureInfo
from cnn_lstm.data.indicators.numerics import rolling_mean, rolling_sum
from cnn_lstm.data.latest import LatestFeatures
from cnn_lstm.data.times import microseconds
from tests.markets import market

BLOCK, ROWS = 64, 1100
NAMES = [offer.default for offer in available_features()]
COLUMNS = ["open", "high", "low", "close", "volume"]


@dataclass(frozen=True)
class Rows:
    """The last rows of one symbol."""

    time: npt.NDArray[np.int64]
    bars: npt.NDArray[np.float64]
    seen: int

    @classmethod
    def of(cls, bars: pd.DataFrame, rows: int) -> Rows:
        """The last rows of the bars of a symbol."""
        last = bars.tail(rows)
        return cls(microseconds(last["timestamp"]), last[COLUMNS].to_numpy(), len(bars))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return market(ROWS, ["AAA", "BBB"], gaps=False).sort_values(["symbol", "timestamp"], ignore_index=True)


@pytest.fixture(scope="module")
def features(table: pd.DataFrame) -> list[Feature]:
    return resolve_features(NAMES, table.columns)


@pytest.fixture(scope="module")
def unbroken(table: pd.DataFrame, features: list[Feature]) -> pd.DataFrame:
    return compute_features(table, features)


@pytest.fixture(scope="module")
def in_blocks(table: pd.DataFrame, features: list[Feature], unbroken: pd.DataFrame) -> Iterator[pd.DataFrame]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_list, "BLOCK", BLOCK)
        yield compute_features(table, features)


def test_blocks_change_nothing_that_a_network_could_see(in_blocks: pd.DataFrame, unbroken: pd.DataFrame) -> None:
    assert not in_blocks.equals(unbroken), "the blocks are short enough to be seen in the last bits"
    pd.testing.assert_frame_equal(in_blocks, unbroken, rtol=1e-9, atol=1e-11)


def test_no_more_rows_than_stated_give_each_feature_its_bits(
    table: pd.DataFrame, features: list[Feature], in_blocks: pd.DataFrame
) -> None:
    now = table["timestamp"].max()
    longest = most_history(features)
    assert longest is not None
    for back in (0, 11, 63):
        tails, wanted = {}, {}
        for symbol, bars in table[table["timestamp"] <= now - pd.tseries.offsets.BDay(back)].groupby("symbol"):
            needed = needed_history(features, len(bars) - 1)
            assert needed <= longest
            tails[str(symbol)] = Rows.of(bars, needed)
            wanted[symbol] = in_blocks.loc[bars.index[-1]].to_numpy()
        found = LatestFeatures(features, COLUMNS).values(tails)
        for one_found, values in zip(found, wanted.values(), strict=True):
            differing = [name for name, one, other in zip(NAMES, one_found, values, strict=True) if one != other]
            assert differing == []
            assert np.isfinite(values).all()


def test_the_rows_are_those_of_the_block_and_two_warm_ups(
    table: pd.DataFrame, features: list[Feature], in_blocks: pd.DataFrame
) -> None:
    item = next(item for item in features if item.name == "macd_hist_12_26_9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_list, "BLOCK", BLOCK)
        bars = table[table["symbol"] == "AAA"]
        needed = needed_history([item], len(bars) - 1)
        assert needed == len(bars) - (len(bars) - 1) // BLOCK * BLOCK + 2 * item.warmup
        found = LatestFeatures([item], COLUMNS).values({"AAA": Rows.of(bars, needed)})[0, 0]
        assert found == in_blocks.loc[bars.index[-1], item.name]


def test_a_function_of_the_users_own_takes_all_rows() -> None:
    own = Feature("my.own", lambda bars: bars["close"], 0, ("close",), "own")
    assert most_history([own]) is None
    assert needed_history([own], 99) == 100


# -- features that look at their warm-up alone -----------------------------------------------------------------------


def parameters(offer: FeatureInfo, seed: int) -> str:
    """A name of the feature with parameters of its own, long ones and short ones."""
    random = np.random.default_rng([seed, len(offer.name)])
    values = [int(random.integers(least, (6, 40, 150)[seed % 3] + least)) for least in offer.at_least]
    return "_".join([offer.name, *map(str, values)])


@pytest.mark.parametrize("seed", range(3))
def test_the_warm_up_gives_a_feature_its_bits_that_is_not_a_running_one(table: pd.DataFrame, seed: int) -> None:
    names = [parameters(offer, seed) for offer in available_features() if not (offer.running or offer.cross_sectional)]
    bars = table[table["symbol"] == "AAA"].reset_index(drop=True)
    bars.loc[700:760, COLUMNS[:4]] = 77.7  # a price that stands still, as a halted share's
    bars.loc[600:650, "volume"] = 0.0
    differing = set()
    with np.errstate(all="ignore"):
        for item in resolve_features([*names, "mean_7:volume", "log_mean_3:volume", "close"], table.columns):
            whole = evaluate_feature(item, bars)
            rows = [*range(item.warmup, item.warmup + 9), *range(max(640, item.warmup), 1100, 23)]
            for row in (row for row in rows if row < len(bars)):
                part = bars.iloc[row - item.warmup : row + 1].reset_index(drop=True)
                if evaluate_feature(item, part)[-1:].tobytes() != whole[row : row + 1].tobytes():
                    differing.add(item.name)
    assert differing == set()


def test_a_mean_of_a_value_that_stands_still_is_the_value() -> None:
    for value in (0.1, 77.7, 1e-9, 3e11):
        column = pd.Series([5.0, *[value] * 60, 5.0])
        for period in (2, 3, 7, 20, 49):
            mean = rolling_mean(column, period).to_numpy()
            assert (mean[period:61] == value).all(), (value, period)
            assert mean[61] != value


@pytest.mark.parametrize("period", [1, 2, 3, 20, 63, 64, 65, 252])
def test_sums_and_means_are_those_of_each_window(period: int) -> None:
    random = np.random.default_rng(period)
    column = pd.Series(np.exp(random.normal(size=300)))
    column[[40, 41]] = np.nan
    column[50] = np.inf
    known = column.where(np.isfinite(column))
    wanted = [math.fsum(known[row - period + 1 : row + 1]) if row >= period - 1 else np.nan for row in range(300)]
    np.testing.assert_allclose(rolling_sum(column, period), wanted, rtol=1e-14)
    np.testing.assert_allclose(rolling_mean(column, period), np.array(wanted) / period, rtol=1e-14)
    assert rolling_sum(column[:3], 4).isna().all()
    assert len(rolling_sum(column[:0], 4)) == 0


def test_what_a_symbol_is_worth_owes_nothing_to_the_symbols_around_it(table: pd.DataFrame) -> None:
    features = resolve_features([*NAMES, "symbol_code"], table.columns)
    latest = LatestFeatures([item for item in features if not item.cross_sectional], COLUMNS)
    tails = {str(name): Rows.of(bars, 1100) for name, bars in table.groupby("symbol")}
    young = Rows.of(table[table["symbol"] == "BBB"].head(30), 30)
    together = latest.values({"AAA": tails["AAA"], "AAB": young, "BBB": tails["BBB"]})
    for place, (name, tail) in enumerate([("AAA", tails["AAA"]), ("AAB", young), ("BBB", tails["BBB"])]):
        assert latest.values({name: tail}).tobytes() == together[place : place + 1].tobytes()
    assert np.isnan(together).any(axis=1).tolist() == [False, True, False]
