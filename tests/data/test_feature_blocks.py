"""Features in blocks: every value is a function of a bounded past, and hardly another one than of the whole past."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data import features as feature_list
from cnn_lstm.data.feature_catalogue import available_features, resolve_features
from cnn_lstm.data.features import Feature, compute_features, latest_values, most_history, needed_history
from tests.markets import market

BLOCK, ROWS = 64, 1100
NAMES = [offer.default for offer in available_features()]


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
        tails, seen, wanted = {}, {}, {}
        for symbol, bars in table[table["timestamp"] <= now - pd.tseries.offsets.BDay(back)].groupby("symbol"):
            needed = needed_history(features, len(bars) - 1)
            assert needed <= longest
            tails[symbol], seen[symbol] = bars.tail(needed).reset_index(drop=True), len(bars)
            wanted[symbol] = in_blocks.loc[bars.index[-1]].to_numpy()
        found = latest_values(tails, seen, features)
        for symbol, values in wanted.items():
            differing = [name for name, one, other in zip(NAMES, found[symbol], values, strict=True) if one != other]
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
        row = bars.tail(needed).reset_index(drop=True)
        found = latest_values({"AAA": row}, {"AAA": len(bars)}, [item])["AAA"][0]
        assert found == in_blocks.loc[bars.index[-1], item.name]


def test_a_function_of_the_users_own_takes_all_rows() -> None:
    own = Feature("my.own", lambda bars: bars["close"], 0, ("close",), "own")
    assert most_history([own]) is None
    assert needed_history([own], 99) == 100
