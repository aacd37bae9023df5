"""The set-up of many symbols, compared with the plain way: one mask per symbol, and every check on every row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from cnn_lstm.data import panel_checks
from cnn_lstm.data.checks import KEYS, TABLE_CHECKS
from cnn_lstm.data.column_targets import LabelColumn
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.description import description
from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES, resolve_features
from cnn_lstm.data.features import Feature, compute_features, evaluate_feature, feature
from cnn_lstm.data.odd_bars import ODD_CHECKS
from cnn_lstm.data.panel_checks import label_correlations
from cnn_lstm.data.prices import Checks, check_prices, data_fingerprint
from cnn_lstm.data.several_cores import shared_out
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.strides import Strides
from cnn_lstm.data.targets import (
    DECAY,
    MEMORY,
    Direction,
    ForwardReturn,
    ForwardValue,
    RealizedVolatility,
    Target,
    ewma_volatility,
)
from cnn_lstm.data.windows import build_panel
from cnn_lstm.errors import ConfigError, DefectsError
from tests.markets import TableSource, days, walk

NAMES = ["log_return_1", "close_to_sma_10", "excess_return", "market_volatility_5", "return_rank_5", "close"]
GAP = 10.0


def ragged(seed: int, symbols: int = 7, rows: int = 90) -> pd.DataFrame:
    """Random walks of unequal lengths, with holes in their calendars, in a random order of symbols."""
    random = np.random.default_rng(seed)
    parts = []
    for number in random.permutation(symbols):
        length = int(random.integers(12, rows))
        table = walk(length, f"S{number}", seed=seed * 100 + int(number), start=str(days(1 + number)[-1])[:10])
        parts.append(table[random.random(length) > 0.05])
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(KEYS, kind="stable", ignore_index=True)


# -- the price table ---------------------------------------------------------------------------------------------------


def planted(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One defect, or several, in random rows."""
    random = np.random.default_rng(seed)
    plants: list[Callable[[pd.DataFrame, int], object]] = [
        lambda t, row: t.__setitem__("close", t["close"].where(t.index != row, t["close"] * 2)),
        lambda t, row: t.__setitem__("close", t["close"].where(t.index < row, t["close"] / 5)),
        lambda t, row: t.__setitem__("open", t["open"].where(t.index != row, t["open"] * 1.5)),
        lambda t, row: t.__setitem__("high", t["high"].where(t.index != row, t["high"] * 6)),
        lambda t, row: t.__setitem__("low", t["low"].where(t.index != row, t["low"] * 1.1)),
        lambda t, row: t.__setitem__("volume", t["volume"].where(t.index != row, t["volume"] * 5e4)),
        lambda t, row: t.__setitem__("volume", t["volume"].where(t["symbol"] != t["symbol"][row], 0.0)),
        lambda t, row: t.__setitem__("volume", t["volume"].where(t.index != row, -1.0)),
        lambda t, row: t.__setitem__("close", t["close"].where(t.index != row)),
        lambda t, row: t.__setitem__("close", t["close"].where(t.index != row, np.inf)),
        lambda t, row: t.__setitem__("extra", np.where(t.index == row, np.inf, t["close"] ** 2)),
        lambda t, row: t.__setitem__("twin", t["close"]),
        lambda t, row: t.__setitem__("low", -t["low"]),
        lambda t, row: t.__setitem__(
            "timestamp", t["timestamp"].where(t.index != row, pd.Timestamp("1890-01-02", tz="UTC"))
        ),
        lambda t, row: t.__setitem__("timestamp", t["timestamp"] + pd.to_timedelta(40 * (t.index > row), unit="D")),
        lambda t, row: t.__setitem__(
            "timestamp",
            t["timestamp"].where(
                t["symbol"] != t["symbol"][row],
                pd.Timestamp("2012-01-02", tz="UTC") + 7 * (t["timestamp"] - t["timestamp"].min()),
            ),
        ),
    ]
    table = table.copy()
    for number in random.choice(len(plants), size=int(random.integers(1, 4)), replace=False):
        plants[number](table, int(random.integers(1, len(table))))
    return table


def every_check(table: pd.DataFrame, checks: Checks) -> list[str]:
    """All defects of rows, as all checks find them in the whole table."""
    return [str(defect) for check in (*TABLE_CHECKS, *ODD_CHECKS) for defect in check(table, checks)]


@pytest.mark.parametrize("seed", range(40))
def test_the_screened_checks_find_what_all_checks_find_in_all_rows(seed: int) -> None:
    table = in_order(planted(ragged(seed), seed)).drop_duplicates(KEYS, ignore_index=True).astype({"symbol": "str"})
    checks = Checks(fill_max_gap=100 * (seed % 2))
    expected = every_check(table, checks)
    try:
        found = [str(defect) for defect in check_prices(table, checks).warnings]
    except DefectsError as error:
        found = [str(defect) for defect in error.defects]
        expected = [line for line in expected if line in found or "E3" in line]
    assert [line for line in found if "is missing" not in line and "was missing" not in line] == expected


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_the_rows_gives_the_same_table_and_fingerprint(seed: int) -> None:
    table = ragged(seed)
    plain = in_order(table).astype({"symbol": "str"})
    shuffled = table.sample(frac=1.0, random_state=seed)
    for given in (table, shuffled, plain, plain.sort_values(["timestamp", "symbol"])):
        pd.testing.assert_frame_equal(check_prices(given, Checks()).table, plain)
        assert data_fingerprint(given) == data_fingerprint(plain)


def test_doubles_are_dropped_and_conflicts_refused_in_any_order() -> None:
    table = in_order(ragged(3)).astype({"symbol": "str"})
    twice = pd.concat([table, table.iloc[[5, 40]]])
    checked = check_prices(twice, Checks())
    pd.testing.assert_frame_equal(checked.table, table)
    assert sum("identical rows" in defect.what for defect in checked.warnings) >= 1
    with pytest.raises(DefectsError, match="conflicting rows"):
        check_prices(pd.concat([table, table.iloc[[5]].assign(close=1e3)]), Checks())


# -- the panel ---------------------------------------------------------------------------------------------------------


def plain_features(table: pd.DataFrame, names: list[str]) -> NDArray[np.float64]:
    """Features symbol by symbol through masks, without blocks, which short tables do not have."""
    columns = []
    with np.errstate(all="ignore"):
        for item in resolve_features(names, table.columns):
            column = evaluate_feature(item, table).copy() if item.cross_sectional else np.full(len(table), np.nan)
            for symbol in table["symbol"].unique():
                mask = (table["symbol"] == symbol).to_numpy()
                if not item.cross_sectional:
                    column[mask] = evaluate_feature(item, table[mask].reset_index(drop=True))
                column = np.where(mask & (np.cumsum(mask) <= item.warmup), np.nan, column)
            columns.append(np.where(np.isfinite(column), column, np.nan))
    return np.stack(columns, axis=1)


def plain_targets(
    table: pd.DataFrame, targets: list[Target], segment: NDArray[np.int32]
) -> dict[str, NDArray[np.float32]]:
    """What is known of each target, symbol by symbol through masks."""
    names = {"labels": "future", "present": "present", "volatility": "volatility", "bar_return": "bar_return"}
    known = {name: np.full((len(table), len(targets)), np.nan, dtype=np.float32) for name in names}
    for symbol in table["symbol"].unique():
        mask = (table["symbol"] == symbol).to_numpy()
        bars = table[mask].reset_index(drop=True)
        for column, target in enumerate(targets):
            for name, method in names.items():
                known[name][mask, column] = getattr(target, method)(bars)
    for column, target in enumerate(targets):
        for name, ahead in (("labels", target.reach), ("bar_return", target.delay + 1)):
            same = [row + ahead < len(segment) and segment[row + ahead] == segment[row] for row in range(len(segment))]
            known[name][~np.array(same), column] = np.nan
    known["labels"][~np.isfinite(known["labels"])] = np.nan
    return known


@pytest.mark.parametrize("seed", range(6))
def test_a_panel_is_bit_for_bit_what_one_mask_per_symbol_gives(seed: int) -> None:
    table = in_order(ragged(seed)).astype({"symbol": "str"}).assign(label=lambda t: np.sign(t["close"] - t["open"]))
    table["label"] = table["label"].where(np.random.default_rng(seed).random(len(table)) > 0.2)
    targets: list[Target] = [
        ForwardReturn(2),
        RealizedVolatility(3),
        ForwardValue("close"),
        LabelColumn("label"),
        Direction(),
    ]
    panel = build_panel(table, resolve_features(NAMES, table.columns), targets, GAP)
    values = plain_features(table, NAMES).astype(np.float32)
    np.testing.assert_array_equal(panel.values.numpy(), values)
    found = compute_features(table, resolve_features(NAMES, table.columns)).to_numpy()
    np.testing.assert_array_equal(found.astype(np.float32), values)
    for name, column in plain_targets(table, targets, panel.segment).items():
        np.testing.assert_array_equal(getattr(panel, name).numpy(), column, err_msg=name)
    assert [panel.symbols[code] for code in panel.symbol] == table["symbol"].tolist()


def test_features_of_a_table_whose_symbols_do_not_lie_together_are_the_same() -> None:
    table = in_order(ragged(1))
    mixed = table.sort_values(["timestamp", "symbol"], kind="stable")
    found = compute_features(mixed.reset_index(drop=True), resolve_features(NAMES, table.columns)).set_axis(mixed.index)
    expected = compute_features(table, resolve_features(NAMES, table.columns))
    crossed = [name for name in NAMES if name in ("excess_return", "market_volatility_5", "return_rank_5")]
    pd.testing.assert_frame_equal(
        found.sort_index().drop(columns=crossed), expected.drop(columns=crossed), check_exact=True
    )


# -- what is asked of a panel ------------------------------------------------------------------------------------------


def staggered(symbols: int) -> pd.DataFrame:
    """Random walks that begin one after another and end together."""
    return pd.concat([walk(240, f"S{k}", k).iloc[20 * k :] for k in range(symbols)], ignore_index=True)


def data_of(table: pd.DataFrame, **settings: object) -> MarketDataModule:
    arguments: dict[str, object] = {"features": ["log_return_1", "close"], "window": 5, "targets": [ForwardReturn(1)]}
    data = MarketDataModule(source=TableSource(table), **(arguments | settings))  # type: ignore[arg-type]  # settings of any type
    data.setup()
    return data


def test_symbols_without_a_window_in_a_part_are_named_as_one_mask_per_symbol_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    starts = ["2010-01-04", "2010-03-01", "2010-09-01", "2010-01-04"]
    table = pd.concat([walk(rows, f"S{k}", k, starts[k]) for k, rows in enumerate((220, 150, 60, 80))])
    split = DateSplit(validation="2010-07-01", test="2010-09-15")
    with caplog.at_level(logging.WARNING):
        data = data_of(table, split=split, checks=Checks(on_short="skip"))
    expected = [
        f"no window in the {name} part — {symbol}"
        for code, symbol in enumerate(data.panel.symbols)
        for name, rows in data.parts.by_name.items()
        if not (data.panel.symbol[rows] == code).any()
    ]
    found = [record.getMessage() for record in caplog.records if "no window in the" in record.getMessage()]
    assert len(expected) == len(found) >= 3
    assert all(line.startswith(begin) for line, begin in zip(found, expected, strict=True))


def test_correlations_with_labels_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_checks, "CHUNK", 37)
    data = data_of(
        staggered(3),
        features=["log_return_1", "open"],
        targets=[ForwardReturn(1), ForwardValue("close")],
    )
    rows = data.fit_rows
    for k, target in enumerate(data.targets):
        found = label_correlations(data.panel, rows, data.targets)[target.name].numpy()
        base = data.panel.present[rows, k].double().numpy() if target.level else np.zeros(len(rows))
        label = data.panel.labels[rows, k].double().numpy() - base
        for place in range(2):
            values = data.panel.values[rows, place].double().numpy() - base
            np.testing.assert_allclose(found[place], np.corrcoef(values, label)[0, 1], rtol=1e-9)


def test_a_feature_that_never_changes_correlates_with_nothing() -> None:
    data = data_of(walk(200).assign(still=1.0), features=["log_return_1", "still"])
    assert label_correlations(data.panel, data.fit_rows, data.targets)["return_1"][1] == 0


def test_scales_of_symbols_are_those_of_their_own_rows() -> None:
    data = data_of(staggered(4), per_symbol=True)
    edges = data.parts.boundaries
    split = DateSplit(str(edges.validation)[:10], str(edges.test)[:10])
    for k, symbol in enumerate(data.panel.symbols):
        alone = data_of(staggered(4), symbols=[symbol], per_symbol=True, split=split)
        torch.testing.assert_close(data.statistics.x_loc[k], alone.statistics.x_loc[0], rtol=0, atol=0)
        torch.testing.assert_close(data.statistics.y_scale[k], alone.statistics.y_scale[0], rtol=0, atol=0)


def test_the_description_counts_what_masks_count() -> None:
    data = data_of(staggered(3))
    lines = [line.split() for line in description(data).splitlines()[2:5]]
    for code, line in enumerate(lines):
        rows = np.flatnonzero(data.panel.symbol == code)
        assert line[:3] == [f"S{code}", str(len(rows)), str(np.isin(data.windows, rows).sum())]


@pytest.mark.parametrize("seed", range(5))
def test_strides_number_the_rows_of_each_symbol(seed: int) -> None:
    symbol = np.random.default_rng(seed).integers(0, 5, 60).astype(np.int32)
    strides = Strides(symbol, 7)
    expected = np.empty(len(symbol), dtype=np.int64)
    for code in np.unique(symbol):
        expected[symbol == code] = np.arange((symbol == code).sum()) % 7
    assert strides._position.tolist() == expected.tolist()


# -- the volatility of one bar -----------------------------------------------------------------------------------------


def plain_volatility(changes: NDArray[np.float64]) -> list[float]:
    """`ewma_volatility` written out, row by row and lag by lag."""
    found = []
    for row in range(len(changes)):
        total = weights = 0.0
        for lag in range(min(MEMORY, row + 1)):
            if np.isfinite(changes[row - lag]):
                total += DECAY**lag * changes[row - lag] ** 2
                weights += DECAY**lag
        found.append(float(np.sqrt(total / weights)) if weights else np.nan)
    return found


@pytest.mark.parametrize("rows", [0, 1, 2, 59, 60, 61, 200, 256, 257, 400])
@pytest.mark.parametrize("missing", ["none", "first", "some", "all"])
def test_the_volatility_of_one_bar_has_the_bits_of_the_sum_written_out(rows: int, missing: str) -> None:
    random = np.random.default_rng(rows)
    changes = random.normal(size=rows)
    everywhere = np.ones(rows, dtype=bool)
    holes = {"none": ~everywhere, "first": np.arange(rows) < 1, "some": random.random(rows) < 0.3, "all": everywhere}
    changes[holes[missing]] = np.nan
    np.testing.assert_array_equal(ewma_volatility(changes), plain_volatility(changes))


# -- several cores -----------------------------------------------------------------------------------------------------


@feature(inputs=("close",))
def failing_close(bars: pd.DataFrame) -> pd.Series:
    """Fails for one symbol."""
    if bars["symbol"].iloc[0] == "S2":
        raise ValueError("no close today")
    return bars["close"]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_lstm.data.several_cores.LEAST_VALUES", 100)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)


def test_features_on_two_cores_have_the_same_bits(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    table = staggered(5)
    features = resolve_features([*DEFAULT_FEATURES, "market_return_1"], list(table.columns))
    found = compute_features(table, features)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    pd.testing.assert_frame_equal(found, compute_features(table, features), check_exact=True)


def test_a_feature_that_fails_on_two_cores_says_why(two_cores: None) -> None:
    item = Feature("failing_close", failing_close, 0, ("close",), "own")
    with pytest.raises(ConfigError, match=r"failing_close.*no close today"):
        compute_features(staggered(5), [item, item])


@pytest.mark.parametrize("sizes", [[1], [5, 1, 1], [1] * 30, [100, 1, 100]])
def test_shares_are_whole_symbols_and_all_of_them(two_cores: None, sizes: list[int]) -> None:
    edges = np.cumsum([0, *sizes]).tolist()
    symbols = [slice(first, stop) for first, stop in pairwise(edges)]
    parts = shared_out(symbols, 1000)
    assert [part.start for part in parts] == [0, *[part.stop for part in parts[:-1]]]
    assert parts[-1].stop == edges[-1]
    assert {part.start for part in parts} <= set(edges)
    assert len(parts) > 1 or len(sizes) == 1
