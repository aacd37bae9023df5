"""Every offered feature: causal to the bit, free of scale, the same wherever history starts."""

from __future__ import annotations

import pickle
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from cnn_lstm.data.feature_catalogue import (
    DEFAULT_FEATURES,
    available_features,
    default_importer,
    required_columns,
    resolve_features,
)
from cnn_lstm.data.features import Feature, compute_features, feature
from cnn_lstm.data.indicators.numerics import FLOOR, FLOOR_ROWS
from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PRICES = ["open", "high", "low", "close"]
COLUMNS = ["symbol", "timestamp", *PRICES, "volume"]
ROWS = 800
NAMES = [offer.default for offer in available_features()]
# parameters away from the defaults, where a warm-up could be wrong
VARIANTS = [
    "rsi_2",
    "close_to_ema_50",
    "macd_hist_5_8_20",
    "macd_signal_26_12_9",
    "adx_5",
    "atr_30",
    "trix_5",
    "stoch_d_5_5_4",
    "ad_oscillator_10_3",
    "ewma_volatility_10",
    "momentum_21_63",
    "log_return_20",
    "autocorrelation_20_5",
    "volatility_regime_5_30",
    "keltner_position_10_1",
    "log_realised_volatility_1",
    "log_realised_volatility_100",
    "log_garman_klass_volatility_1",
    "market_log_volatility_1",
    "excess_log_volatility_80",
]
Table = pd.DataFrame


def make_bars(symbol: str, rows: int, seed: int, start: str = "2015-01-05") -> Table:
    """Random walk of business days with consistent bars."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, rows)))
    opened = np.r_[50.0, close[:-1]] * np.exp(rng.normal(0, 0.006, rows))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.007, rows)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.007, rows)))
    days = pd.bdate_range(start, periods=rows, tz="UTC")
    bars = Table({"symbol": symbol, "timestamp": days, "open": opened, "high": high, "low": low, "close": close})
    return bars.assign(volume=np.exp(rng.normal(13, 0.5, rows)))


def make_table(seed: int = 0) -> Table:
    """Three symbols; the calendars overlap but differ."""
    parts = [
        make_bars("AAA", ROWS, seed),
        make_bars("BBB", ROWS - 60, seed + 1, "2015-03-02"),
        make_bars("CCC", ROWS, seed + 2).drop(index=range(300, 320)),
    ]
    return pd.concat(parts, ignore_index=True)


def one(symbol: str, table: Table) -> npt.NDArray[np.bool_]:
    return (table["symbol"] == symbol).to_numpy()


def values_of(table: Table, name: str) -> npt.NDArray[np.float64]:
    return compute_features(table, resolve_features([name], table.columns))[name].to_numpy()


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table()


@pytest.fixture(scope="module")
def offered() -> list[Feature]:
    return resolve_features([*NAMES, *VARIANTS], COLUMNS)


# --- the future must not reach the past ---


def redraw(table: Table, future: npt.NDArray[np.bool_]) -> Table:
    rng = np.random.default_rng(9)
    changed = table.copy()
    changed.loc[future, PRICES] *= rng.lognormal(0, 1, (int(future.sum()), 1))
    changed.loc[future, "volume"] *= rng.lognormal(0, 1, int(future.sum()))
    return changed


def blank(table: Table, future: npt.NDArray[np.bool_]) -> Table:
    changed = table.copy()
    changed.loc[future, [*PRICES, "volume"]] = np.nan
    return changed


def blank_one_cell(table: Table, future: npt.NDArray[np.bool_]) -> Table:
    changed = table.copy()
    changed.loc[np.flatnonzero(future)[:1], "close"] = np.nan
    return changed


def remove(table: Table, future: npt.NDArray[np.bool_]) -> Table:
    return table[~future].reset_index(drop=True)


CHANGES = [redraw, blank, blank_one_cell, remove]


def leaks(
    features: Sequence[Feature], table: Table, future: npt.NDArray[np.bool_], change: Callable[..., Table]
) -> list[str]:
    """Names of the features of which any bit outside `future` differs after the change."""
    before = compute_features(table, features).to_numpy()[~future]
    changed = change(table, future)
    after = compute_features(changed, features).to_numpy()
    after = after if len(changed) < len(table) else after[~future]
    same = [(before[:, i].tobytes() == after[:, i].tobytes()) for i in range(len(features))]
    return [item.name for item, equal in zip(features, same, strict=True) if not equal]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("share", [0.4, 0.65, 0.999])
def test_the_future_does_not_change_a_bit_of_the_past(
    offered: list[Feature], table: Table, change: Callable[..., Table], share: float
) -> None:
    cut = table["timestamp"].sort_values().iloc[int(share * len(table)) - 1]
    assert leaks(offered, table, (table["timestamp"] > cut).to_numpy(), change) == []


@pytest.mark.parametrize("change", CHANGES)
def test_the_future_behind_a_gap_does_not_change_the_past(
    offered: list[Feature], table: Table, change: Callable[..., Table]
) -> None:
    gappy = table.copy()
    gappy.loc[350:352, PRICES] = np.nan
    cut = gappy["timestamp"][352]
    assert leaks(offered, gappy, (gappy["timestamp"] > cut).to_numpy(), change) == []


@pytest.mark.parametrize("change", CHANGES)
def test_other_symbols_are_not_read(offered: list[Feature], table: Table, change: Callable[..., Table]) -> None:
    own = [item for item in offered if not item.cross_sectional]
    assert leaks(own, table, ~one("BBB", table), change) == []


@pytest.mark.parametrize("change", CHANGES)
def test_the_cross_section_does_not_read_the_future_of_others(
    offered: list[Feature], table: Table, change: Callable[..., Table]
) -> None:
    crossed = [item for item in offered if item.cross_sectional]
    assert crossed
    cut = table["timestamp"][600]
    before = compute_features(table, crossed)
    changed = change(table, ~one("BBB", table) & (table["timestamp"] > cut).to_numpy())
    after = compute_features(changed, crossed)
    past, past_after = table["timestamp"] <= cut, changed["timestamp"] <= cut
    assert before[past].to_numpy().tobytes() == after[past_after].to_numpy().tobytes()


def test_the_cross_section_reads_others() -> None:
    table = make_table()
    past = one("AAA", table)
    for name in (offer.default for offer in available_features() if offer.cross_sectional):
        assert not np.array_equal(values_of(table, name)[past], values_of(table[past], name), equal_nan=True), name


PLANTED: dict[str, Callable[[Table], object]] = {
    "plant.shifted": lambda bars: bars["close"].shift(-1),
    "plant.centred": lambda bars: bars["close"].rolling(5, center=True).mean(),
    "plant.scaled": lambda bars: bars["close"] / bars["close"].abs().max(),
    "plant.filled": lambda bars: bars["close"].bfill(),
    "plant.standardised": lambda bars: (bars["close"] - bars["close"].mean()) / bars["close"].std(),
    "plant.last": lambda bars: bars["close"] / bars["close"].iloc[-1],
}


def test_planted_leaks_are_found(table: Table) -> None:
    """The test of the test: each planted function must be caught by some change, an honest one by none."""
    planted = {**PLANTED, "plant.honest": lambda bars: bars["close"].ffill().diff()}
    features = resolve_features(list(planted), COLUMNS, planted.__getitem__)
    gappy = table.copy()
    gappy.loc[400, "close"] = np.nan
    future = (gappy["timestamp"] > gappy["timestamp"][400]).to_numpy()
    found = {name for change in CHANGES for name in leaks(features, gappy, future, change)}
    assert found == set(PLANTED)


# --- scale, start-up, finiteness ---


def assert_close(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], names: list[str], rtol: float
) -> None:
    close = np.all(np.isclose(first, second, rtol=rtol, atol=1e-9, equal_nan=True), axis=0)
    assert [name for name, good in zip(names, np.asarray(close), strict=True) if not good] == []


@pytest.mark.parametrize(("price", "volume"), [(0.01, 1.0), (7.0, 1.0), (1.0, 1e-5), (1.0, 7.0), (1e-4, 1e-3)])
def test_features_do_not_depend_on_the_unit_of_price_or_volume(
    offered: list[Feature], table: Table, price: float, volume: float
) -> None:
    scaled = table.copy()
    scaled.loc[one("AAA", table), PRICES] *= price
    scaled.loc[one("AAA", table), "volume"] *= volume
    before, after = compute_features(table, offered), compute_features(scaled, offered)
    assert_close(before.to_numpy(), after.to_numpy(), list(before.columns), rtol=1e-5)


@pytest.mark.parametrize("dropped", [1, 7, 50, 200])
def test_values_behind_the_warmup_do_not_depend_on_the_start(
    offered: list[Feature], table: Table, dropped: int
) -> None:
    own = one("CCC", table)
    shorter = table.drop(index=np.flatnonzero(own)[:dropped].tolist()).reset_index(drop=True)
    before = compute_features(table, offered)[own].iloc[dropped:]
    assert_same_start(before, compute_features(shorter, offered)[one("CCC", shorter)], offered)


def assert_same_start(before: Table, after: Table, features: list[Feature]) -> None:
    assert len(before) == len(after)
    for item in features:
        one, other = (part[item.name].to_numpy()[item.warmup :, None] for part in (before, after))
        assert_close(one, other, [item.name], rtol=1e-6)


def test_the_warmup_is_empty_and_the_row_behind_it_is_not(offered: list[Feature], table: Table) -> None:
    columns = compute_features(table, offered)
    assert list(columns.columns) == [item.name for item in offered]
    assert columns.index.equals(table.index)
    assert (columns.dtypes == np.float64).all()
    for symbol in ("AAA", "CCC"):
        of_symbol = columns[one(symbol, table)]
        for item in offered:
            present = of_symbol[item.name].notna().to_numpy()
            assert not present[: item.warmup].any(), item.name
            assert present[item.warmup :].all(), item.name


def test_no_feature_is_constant_or_a_copy_at_its_default(table: Table) -> None:
    columns = compute_features(table, resolve_features(NAMES, COLUMNS))[one("AAA", table)]
    rare = {name for name in NAMES if name.startswith(("cdl_", "hour_", "minute_"))}
    spread = columns.drop(columns=list(rare)).std()
    assert list(spread[~(spread > 0)].index) == []
    common = columns.drop(columns=list(rare)).dropna()
    assert len({common[name].to_numpy().tobytes() for name in common}) == common.shape[1]


def test_patterns_are_signs_and_occur() -> None:
    table = make_bars("AAA", 5000, 3)
    for name in (
        "cdl_doji",
        "cdl_engulfing",
        "cdl_harami",
        "cdl_hammer",
        "cdl_shooting_star",
        "cdl_long_line",
    ):
        values = values_of(table, name)[14:]
        assert set(np.unique(values)) <= {-1.0, 0.0, 1.0}, name
        assert np.any(values), name


def test_standing_prices_and_absent_volume_never_give_infinity(offered: list[Feature], table: Table) -> None:
    odd = table.copy()
    odd.loc[400:520, PRICES] = odd["close"][400]
    odd.loc[560:640, "volume"] = 0.0
    odd.loc[one("BBB", odd), "volume"] = 0.0
    columns = compute_features(odd, offered)
    assert not np.isinf(columns.to_numpy()).any()
    # nobody is poisoned for ever: the last row of a symbol that trades has all its values
    assert list(columns.columns[columns[one("AAA", odd)].iloc[-1].isna()]) == []


def test_standing_prices_are_free_of_scale_too(table: Table) -> None:
    names = [offer.default for offer in available_features() if offer.family not in {"patterns"}]
    features = resolve_features(names, COLUMNS)
    odd = table.copy()
    odd.loc[400:520, PRICES] = odd["close"][400]
    scaled = odd.assign(**{name: odd[name] * 0.3 for name in PRICES})
    first, second = compute_features(odd, features).to_numpy(), compute_features(scaled, features).to_numpy()
    assert_close(first, second, names, rtol=1e-5)


def test_standing_prices_do_not_make_the_start_matter(offered: list[Feature]) -> None:
    odd = make_bars("AAA", 1000, 4)
    odd.loc[600:720, PRICES] = odd["close"][600]
    after = compute_features(odd.iloc[50:].reset_index(drop=True), offered)
    assert_same_start(compute_features(odd, offered).iloc[50:], after, offered)


def test_values_come_back_behind_a_missing_row(offered: list[Feature], table: Table) -> None:
    gappy = table.copy()
    gappy.loc[100, [*PRICES, "volume"]] = np.nan
    columns = compute_features(gappy, offered)
    assert list(columns.columns[columns[one("AAA", gappy)].iloc[-1].isna()]) == []


def test_the_smallest_parameters_work(table: Table) -> None:
    for offer in available_features():
        refused = []
        for value in (1, 2, 3, 4):
            name = "_".join([offer.name, *[str(value)] * offer.pattern.count("{")])
            try:
                feature_list = resolve_features([name], COLUMNS)
            except ConfigError:
                refused.append(value)
            else:
                compute_features(table, feature_list)
        assert len(refused) < 4, offer.name


# --- values next to an independent computation ---


@pytest.fixture(scope="module")
def bars() -> Table:
    return make_bars("AAA", 600, 11)


def wilder(values: npt.NDArray[np.float64], period: int) -> npt.NDArray[np.float64]:
    smooth = np.full(len(values), np.nan)
    smooth[period] = values[1 : period + 1].mean()
    for row in range(period + 1, len(values)):
        smooth[row] = smooth[row - 1] + (values[row] - smooth[row - 1]) / period
    return smooth


def by_window(function: Callable[[slice], float], period: int, rows: int) -> npt.NDArray[np.float64]:
    values = [function(slice(row - period + 1, row + 1)) for row in range(period - 1, rows)]
    return np.concatenate([np.full(period - 1, np.nan), values])


def oracle_rsi(b: Table) -> npt.NDArray[np.float64]:
    change = np.r_[np.nan, np.diff(b["close"])]
    gain, loss = wilder(np.maximum(change, 0), 14), wilder(np.maximum(-change, 0), 14)
    return 100 - 100 / (1 + gain / loss)


def oracle_atr(b: Table) -> npt.NDArray[np.float64]:
    high, low, close = (b[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close"))
    before = np.r_[np.nan, close[:-1]]
    spread = np.max([high - low, np.abs(high - before), np.abs(low - before)], axis=0)
    return np.asarray(wilder(spread, 14) / close)


def oracle_bollinger(b: Table) -> npt.NDArray[np.float64]:
    c = b["close"].to_numpy()

    def place(w: slice) -> float:
        lower, upper = c[w].mean() - 2 * c[w].std(), c[w].mean() + 2 * c[w].std()
        return float((c[w][-1] - lower) / (upper - lower))

    return by_window(place, 20, len(c))


def oracle_parkinson(b: Table) -> npt.NDArray[np.float64]:
    squares = np.log(b["high"].to_numpy() / b["low"].to_numpy()) ** 2
    return by_window(lambda w: float(np.sqrt(squares[w].sum() / (20 * 4 * np.log(2)))), 20, len(b))


def oracle_garman_klass(b: Table) -> npt.NDArray[np.float64]:
    h, low, o, c = (np.log(b[name].to_numpy()) for name in ("high", "low", "open", "close"))
    daily = 0.5 * (h - low) ** 2 - (2 * np.log(2) - 1) * (c - o) ** 2
    return by_window(lambda w: float(np.sqrt(daily[w].mean())), 20, len(b))


def oracle_obv(b: Table) -> npt.NDArray[np.float64]:
    close, volume = b["close"].to_numpy(), b["volume"].to_numpy()
    level = np.r_[0.0, np.cumsum(np.sign(np.diff(close)) * volume[1:])]
    return by_window(lambda w: float((level[w.stop - 1] - level[w.start - 1]) / volume[w].sum()), 20, len(b))


def oracle_realised(b: Table) -> npt.NDArray[np.float64]:
    returns = np.r_[np.nan, np.diff(np.log(b["close"]))]
    return by_window(lambda w: float(returns[w].std(ddof=1)), 20, len(b))


def oracle_log_realised(b: Table) -> npt.NDArray[np.float64]:
    """Of one bar, so that the floor acts."""
    moves = np.abs(np.r_[np.nan, np.diff(np.log(b["close"]))])
    floor = by_window(lambda w: 0.1 * float(np.sqrt(np.mean(moves[w] ** 2))), 63, len(b))
    return np.asarray(np.log(np.maximum(moves, floor)))


def oracle_log_parkinson(b: Table) -> npt.NDArray[np.float64]:
    squares = np.log(b["high"].to_numpy() / b["low"].to_numpy()) ** 2 / (4 * np.log(2))
    return by_window(lambda w: float(np.log(squares[w].mean()) / 2), 5, len(b))


def oracle_log_garman_klass(b: Table) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(oracle_garman_klass(b)))


def oracle_abs_return(b: Table) -> npt.NDArray[np.float64]:
    close = b["close"].to_numpy()
    return np.asarray(np.r_[np.full(5, np.nan), np.abs(np.log(close[5:] / close[:-5]))])


def oracle_macd_hist(b: Table) -> npt.NDArray[np.float64]:
    def average(values: npt.NDArray[np.float64], span: int) -> npt.NDArray[np.float64]:
        return pd.Series(values).ewm(span=span, adjust=False).mean().to_numpy()

    close = b["close"].to_numpy()
    line = average(close, 12) - average(close, 26)
    return np.asarray((line - average(line, 9)) / close)


def oracle_mfi(b: Table) -> npt.NDArray[np.float64]:
    price = ((b["high"] + b["low"] + b["close"]) / 3).to_numpy()
    flow, rise = price * b["volume"].to_numpy(), np.r_[0.0, np.diff(price)] > 0
    return by_window(lambda w: float(100 * (flow[w] * rise[w]).sum() / flow[w].sum()), 14, len(b))


def oracle_skewness(b: Table) -> npt.NDArray[np.float64]:
    returns = np.r_[np.nan, np.diff(np.log(b["close"]))]
    return by_window(
        lambda w: float(((returns[w] - returns[w].mean()) ** 3).mean() / returns[w].std() ** 3), 60, len(b)
    )


def oracle_momentum(b: Table) -> npt.NDArray[np.float64]:
    close = np.log(b["close"].to_numpy())
    return np.concatenate([np.full(252, np.nan), close[252 - 21 : -21] - close[:-252]])


def oracle_drawdown(b: Table) -> npt.NDArray[np.float64]:
    c = b["close"].to_numpy()
    return by_window(lambda w: float(c[w][-1] / c[w].max() - 1), 252, len(c))


def oracle_bars_since_high(b: Table) -> npt.NDArray[np.float64]:
    c = b["close"].to_numpy()
    return by_window(lambda w: float((252 - np.argmax(c[w])) / 252), 253, len(c))


ORACLES = {
    "rsi_14": oracle_rsi,
    "atr_14": oracle_atr,
    "bollinger_b_20": oracle_bollinger,
    "parkinson_volatility_20": oracle_parkinson,
    "garman_klass_volatility": oracle_garman_klass,
    "obv_change_20": oracle_obv,
    "realised_volatility_20": oracle_realised,
    "log_realised_volatility_1": oracle_log_realised,
    "log_parkinson_volatility_5": oracle_log_parkinson,
    "log_garman_klass_volatility_20": oracle_log_garman_klass,
    "abs_return_5": oracle_abs_return,
    "macd_hist": oracle_macd_hist,
    "mfi_14": oracle_mfi,
    "skewness_60": oracle_skewness,
    "momentum_252_21": oracle_momentum,
    "drawdown_252": oracle_drawdown,
    "bars_since_high_252": oracle_bars_since_high,
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_feature_is_what_its_name_says(name: str, bars: Table) -> None:
    ours, theirs = values_of(bars, name), ORACLES[name](bars)
    present = np.isfinite(ours)
    assert present.sum() > 300
    np.testing.assert_allclose(ours[present], theirs[present], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("period", [5, 22, 100])
def test_log_volatility_is_what_the_volatility_target_was_last(bars: Table, period: int) -> None:
    feature_values = values_of(bars, f"log_realised_volatility_{period}")
    label = RealizedVolatility(horizon=period, log=True).present(bars)
    after = max(period, FLOOR_ROWS)
    np.testing.assert_allclose(feature_values[after:], label[after:], rtol=1e-12)


def test_the_har_value_is_the_mean_of_day_week_and_month(bars: Table) -> None:
    parts = [values_of(bars, f"log_realised_volatility_{period}") for period in (1, 5, 22)]
    np.testing.assert_allclose(values_of(bars, "har_log_volatility"), np.mean(parts, axis=0), rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_row_without_a_move_has_the_floor_as_its_log_volatility(bars: Table, scale: float) -> None:
    calm = bars.assign(close=bars["close"] * scale)
    calm.loc[200:202, "close"] = calm["close"][199]
    values = values_of(calm, "log_realised_volatility_1")
    recent = np.diff(np.log(calm["close"].to_numpy()))[201 - FLOOR_ROWS : 201]
    assert values[201] == pytest.approx(np.log(FLOOR) + np.log(np.mean(recent**2)) / 2)
    assert np.isfinite(values[FLOOR_ROWS:]).all()
    assert (
        values[FLOOR_ROWS:] >= values_of(calm, "log_realised_volatility_63")[FLOOR_ROWS:] + np.log(FLOOR) - 1e-9
    ).all()


def test_a_quarter_without_a_move_has_no_log_volatility_and_does_not_empty_the_market(table: Table) -> None:
    still = table.copy()
    own = np.flatnonzero(one("AAA", still))
    still.loc[own[200:300], PRICES] = 50.0
    assert np.isnan(values_of(still, "log_realised_volatility_1")[own[270:300]]).all()
    market = values_of(still, "market_log_volatility_1")
    single = pd.Series(values_of(still, "log_realised_volatility_1"))
    others = single[~one("AAA", still)].groupby(still["timestamp"]).mean()
    np.testing.assert_allclose(market[own[270:300]], others.loc[still["timestamp"][own[270:300]]], rtol=1e-12)


def test_market_volatilities_are_means_of_those_of_the_symbols(table: Table) -> None:
    for name, single in (
        ("market_log_volatility_5", "log_realised_volatility_5"),
        ("market_abs_return_3", "abs_return_3"),
    ):
        single_values = pd.Series(values_of(table, single))
        mean = single_values.groupby(table["timestamp"]).transform("mean")
        known = np.isfinite(values_of(table, name))
        assert known.mean() > 0.8
        np.testing.assert_allclose(values_of(table, name)[known], mean[known], rtol=1e-12, err_msg=name)
    own, excess = (values_of(table, name) for name in ("log_realised_volatility_5", "excess_log_volatility_5"))
    np.testing.assert_allclose(excess + values_of(table, "market_log_volatility_5"), own, rtol=1e-9)


def test_calendar_features_read_the_timestamp() -> None:
    stamps = pd.to_datetime(["2024-01-01 00:00", "2024-01-31 06:00", "2024-07-15 12:00"], utc=True)
    table = Table({"symbol": "A", "timestamp": stamps, "close": [1.0, 2.0, 3.0]})
    got = {name: values_of(table, name).round(6).tolist() for name in ("day_of_month", "turn_of_month", "hour_sin")}
    assert got == {"day_of_month": [0, 1, 0.466667], "turn_of_month": [1, 1, 0], "hour_sin": [0, 1, 0]}
    assert values_of(table, "month_cos").round(6).tolist() == [1, 1, -1]
    assert values_of(table, "days_since_bar").tolist()[1:] == [30.25, 166.25]


def test_the_cross_section_uses_the_symbols_that_are_there() -> None:
    days = pd.date_range("2024-01-01", periods=3, tz="UTC")
    a = Table({"symbol": "A", "timestamp": days, "close": [1.0, 2.0, 4.0]})
    b = Table({"symbol": "B", "timestamp": days[[0, 2]], "close": [1.0, 1.0]})
    table = pd.concat([a, b], ignore_index=True)
    two = float(np.log(2))
    expected = {
        "excess_return_1": [np.nan, 0.0, two / 2, np.nan, -two / 2],
        "market_return_1": [np.nan, two, two / 2, np.nan, two / 2],
        "market_abs_return_1": [np.nan, two, two / 2, np.nan, two / 2],
        "market_volatility_2": [np.nan, np.nan, two, np.nan, np.nan],
        "return_rank_1": [np.nan, 0.5, 0.75, np.nan, 0.25],
        "market_breadth_1": [np.nan, 1.0, 0.5, np.nan, 0.5],
        "return_dispersion_1": [np.nan, 0.0, two / 2, np.nan, two / 2],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(values_of(table, name), values, err_msg=name, atol=1e-15)


# --- the doors ---


def test_there_are_many_names_and_a_short_default() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 100
    assert 10 <= len(DEFAULT_FEATURES) <= 14
    assert max(item.warmup for item in resolve_features(DEFAULT_FEATURES, COLUMNS)) <= 275
    assert all(offer.meaning.endswith(".") for offer in available_features())


def test_left_out_parameters_take_the_default(table: Table) -> None:
    for short, full in (
        ("rsi", "rsi_14"),
        ("macd_hist_12", "macd_hist_12_26_9"),
        ("log_return", "log_return_1"),
    ):
        assert np.array_equal(values_of(table, short), values_of(table, full), equal_nan=True)
    assert not np.array_equal(values_of(table, "rsi_7")[300:], values_of(table, "rsi_14")[300:], equal_nan=True)
    np.testing.assert_allclose(
        values_of(table, "log_return_5")[5:ROWS], np.log(table["close"]).diff(5)[5:ROWS], atol=1e-12
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["rsii_14"], "did you mean 'rsi_14'"),
        (["log_retrun_5"], "did you mean 'log_return_5'"),
        (["volum"], "did you mean 'volume'"),
        (["rsi_14_3"], "at most 1"),
        (["day_of_week_sin_3"], "at most 0"),
        (["rsi_0"], "must be at least 2"),
        (["log_return_0"], "must be at least 1"),
        (["rsi_14", "close", "rsi_14"], "given twice: 'rsi_14'"),
        (["symbol"], "unknown feature 'symbol'"),
        ([""], "not a feature name"),
        (["no_such_package_of_mine.spread"], "cannot import feature"),
        (["math.no_such_function"], "cannot import feature"),
        (["math.pi"], "is not a function"),
    ],
)
def test_wrong_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r"E225") as caught:
        resolve_features(names, COLUMNS)
    assert message in str(caught.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'mfi_14' needs the column 'high', 'low', 'volume'"):
        resolve_features(["mfi_14"], ["symbol", "timestamp", "close"])


def test_columns_pass_through(table: Table) -> None:
    wide = table.assign(load=np.arange(len(table)), note="text")
    features = resolve_features(["load", "close", "month_sin"], wide.columns)
    assert required_columns(features) == ("load", "close")
    columns = compute_features(wide, features)
    assert np.array_equal(columns["load"], wide["load"])
    with pytest.raises(ConfigError, match="'note' is not numeric"):
        values_of(wide, "note")


@feature(inputs=("high", "low"), warmup=lambda period: period - 1)
def own_range(bars: Table, period: int = 5) -> pd.Series:
    return (bars["high"] / bars["low"] - 1).rolling(period).mean()


@pytest.fixture
def own_module() -> Iterator[types.ModuleType]:
    module = types.ModuleType("own_features_of_a_test")
    module.spread_20 = lambda bars: bars["close"] - bars["open"]  # type: ignore[attr-defined]
    module.declared = own_range  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_own_functions_by_import_path(own_module: types.ModuleType, table: Table) -> None:
    names = [f"{own_module.__name__}.spread_20", f"{own_module.__name__}.declared"]
    plain, declared = resolve_features(names, COLUMNS)
    assert (plain.warmup, plain.inputs, plain.family) == (0, ("close",), "own")
    assert (declared.warmup, declared.inputs) == (4, ("high", "low"))
    columns = compute_features(table, [plain, declared])
    assert np.array_equal(columns[names[0]], table["close"] - table["open"])
    assert columns[names[1]].isna().groupby(table["symbol"]).sum().tolist() == [4, 4, 4]


def test_the_importer_may_refuse() -> None:
    def refuse(path: str) -> Callable[..., object]:
        raise ConfigError(f"{path!r} is not allowed", code=226)

    with pytest.raises(ConfigError, match=r"'os\.system' is not allowed"):
        resolve_features(["os.system"], COLUMNS, refuse)
    assert resolve_features(["rsi"], COLUMNS, refuse)
    assert default_importer("math.sqrt")(4.0) == 2.0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda bars: bars["close"].iloc[1:], "values for"),
        (lambda bars: 1.0, "returned 1 value for"),
        (lambda bars: bars["timestamp"], "not numeric"),
        (lambda bars: bars["symbol"], "not numeric"),
        (lambda bars: bars["closing"], "KeyError: 'closing'"),
        (lambda bars: bars[["open", "close"]].to_numpy(), "failed"),
    ],
)
def test_wrong_results_of_a_users_function_are_refused(
    function: Callable[..., object], message: str, table: Table
) -> None:
    features = resolve_features(["mine.odd"], COLUMNS, lambda path: function)
    with pytest.raises(ConfigError, match=r"mine\.odd") as caught:
        compute_features(table, features)
    assert message in str(caught.value)


def test_infinity_becomes_missing_and_bars_are_the_functions_own(table: Table) -> None:
    def spoils(bars: Table) -> pd.Series:
        bars["close"] = 0.0
        return 1 / bars["close"]

    names = ["mine.spoils", "close"]
    columns = compute_features(table, resolve_features(names, COLUMNS, lambda path: spoils))
    assert columns["mine.spoils"].isna().all()
    assert np.array_equal(columns["close"], table["close"])


def test_features_can_be_sent_to_another_process(offered: list[Feature], table: Table) -> None:
    there = pickle.loads(pickle.dumps(offered))
    first, second = compute_features(table[:400], offered), compute_features(table[:400], there)
    assert first.equals(second)


def test_an_empty_table_gives_no_rows(offered: list[Feature], table: Table) -> None:
    assert compute_features(table[:0], offered).shape == (0, len(offered))
    assert compute_features(table[:1], offered).shape == (1, len(offered))


def test_the_page_of_features_is_up_to_date() -> None:
    page: str = runpy.run_path(str(ROOT / "tools" / "feature_table.py"))["page"]()
    message = "run: python tools/feature_table.py"
    assert (ROOT / "docs" / "features.md").read_text(encoding="utf-8") == page, message
