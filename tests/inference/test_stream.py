"""A stream gives the bits of the whole table, bar by bar, from a bounded past."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data import features as feature_list
from cnn_lstm.data.checks import Checks
from cnn_lstm.data.column_targets import LabelColumn, RealizedMeasure
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError, DataError
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.stream import Stream
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Classes, Quantiles
from tests.fits import small_network, small_trainer
from tests.markets import TableSource, market, walk

BLOCK = 64
FEATURES = ["log_return_1", "macd_hist_3_5_2", "close_to_sma_20", "stoch_k_14_3", "ad_oscillator_3_5"]
CROSSED = ["log_return_1", "close_to_ema_3", "market_return_1", "return_rank_5", "close"]
LATER = ["y_true", "target_start", "target_end", "bar_return"]
CALENDAR = ["days_since_bar", "day_of_week_sin", "rsi_3", "cdl_engulfing", "drawdown_30", "bollinger_b_10_2"]
CASES: dict[str, tuple[int, dict[str, Any], Any]] = {
    "two numbers": (150, {"targets": [ForwardReturn(horizon=2), RealizedVolatility(horizon=5)]}, None),
    "classes": (150, {"targets": [Direction(thresholds=[-0.005, 0.005], horizon=3)]}, Classes(classes=3)),
    "quantiles": (150, {}, Quantiles(levels=[0.1, 0.5, 0.9])),
    "symbols compared, a level": (
        150,
        {"features": CROSSED, "anchor": ["close"], "targets": [ForwardValue("close", horizon=3)]},
        None,
    ),
    "a calendar, a code for each symbol, old averages": (150, {"features": CALENDAR, "per_symbol": True}, None),
    "a measure in a column": (
        150,
        {"features": ["log_mean_3:rv", "mean_5:rv", "log_return_1"], "targets": [RealizedMeasure("rv", horizon=2)]},
        None,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def short_blocks() -> Iterator[None]:
    """So short that a test sees many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_list, "BLOCK", BLOCK)
        yield


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    table = market(820)
    table["rv"] = np.log(table["high"] / table["low"]) ** 2
    return table.sort_values(["symbol", "timestamp"], ignore_index=True)


def trained(folder: Path, prices: pd.DataFrame, objective: Any = None, name: str = "run", **data: Any) -> Path:
    """The checkpoint of one epoch; its test part begins long before the streamed bars end."""
    values: dict[str, Any] = {"features": FEATURES, "window": 6, "batch_size": 64, **data}
    module = MarketDataModule(source=TableSource(prices[prices["timestamp"] < "2012-01-01"]), **values)
    network = small_network(n_features=len(values["features"]) + bool(values.get("per_symbol")))
    forecaster = Forecaster(network, objective, n_targets=len(module.targets))
    trainer = small_trainer()
    trainer.fit(forecaster, datamodule=module)
    path = folder / f"{name}.ckpt"
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, prices: pd.DataFrame) -> Path:
    return trained(tmp_path_factory.mktemp("plain"), prices)


@pytest.fixture
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.from_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory, prices: pd.DataFrame) -> Predictor:
    folder = tmp_path_factory.mktemp("crossed")
    return Predictor.from_checkpoint(trained(folder, prices, features=["log_return_1", "market_return_1"]))


def first_streamed(prices: pd.DataFrame, count: int) -> pd.Timestamp:
    return pd.Timestamp(prices["timestamp"].drop_duplicates().nlargest(count).min())


def moments(prices: pd.DataFrame, since: pd.Timestamp) -> list[pd.DataFrame]:
    return [bars for _, bars in prices[prices["timestamp"] >= since].groupby("timestamp")]


def absent(bars: pd.DataFrame) -> set[str]:
    return {"AAA", "BBB", "CCC"} - set(bars["symbol"])


def fed(stream: Stream, bars: list[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat([stream.update(moment, absent(moment)) for moment in bars])
    return rows.sort_values(["target", "symbol", "as_of"], ignore_index=True)


def fed_with_a_restart(predictor: Predictor, prices: pd.DataFrame, since: pd.Timestamp, folder: Path) -> pd.DataFrame:
    """What a stream says that is saved and restored halfway."""
    bars = moments(prices, since)
    stream = predictor.stream(prices[prices["timestamp"] < since])
    first = fed(stream, bars[: len(bars) // 2])
    stream.save(folder / "state.npz")
    second = fed(predictor.stream(state=folder / "state.npz"), bars[len(bars) // 2 :])
    return pd.concat([first, second]).sort_values(["target", "symbol", "as_of"], ignore_index=True)


def whole(predictor: Predictor, prices: pd.DataFrame) -> pd.DataFrame:
    """The rows of `predict`, with the embeddings of `encode`."""
    return predictor.predict(prices).merge(predictor.encode(prices), on=["symbol", "as_of"])


def assert_same_bits(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert found.columns.tolist() == wanted.columns.tolist()
    assert len(found) == len(wanted) > 0
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype, name
        one, other = (table[name].reset_index(drop=True) for table in (found, wanted))
        if one.dtype.kind == "f":
            assert one.to_numpy().tobytes() == other.to_numpy().tobytes(), name
        else:
            pd.testing.assert_series_equal(one, other)


@pytest.mark.parametrize(
    ("count", "data", "objective"),
    [
        *(pytest.param(*case, id=name) for name, case in CASES.items()),
        pytest.param(500, {"targets": [ForwardReturn(horizon=2, delay=0)]}, None, id="500", marks=pytest.mark.slow),
    ],
)
def test_bars_of_3_symbols_have_the_bits_of_the_table_also_after_a_restart(
    prices: pd.DataFrame, tmp_path: Path, count: int, data: dict[str, Any], objective: Any
) -> None:
    predictor = Predictor.from_checkpoint(trained(tmp_path, prices, objective, **data))
    since = first_streamed(prices, count)
    found = fed_with_a_restart(predictor, prices, since, tmp_path)
    table = whole(predictor, prices)
    assert table["as_of"].nunique() > BLOCK * 3
    wanted = table[table["as_of"] >= since]
    assert_same_bits(found.drop(columns=LATER), wanted.drop(columns=LATER))
    assert found["y_true"].isna().all()


def test_an_ensemble_streams_like_a_single_model(checkpoint: Path, prices: pd.DataFrame, tmp_path: Path) -> None:
    calibration = Predictor.from_checkpoint(checkpoint).forecaster.contract.calibration
    other = trained(tmp_path, prices, name="other")
    write_ensemble([checkpoint, other], tmp_path / "both.ckpt", calibration)
    predictor = Predictor.from_checkpoint(tmp_path / "both.ckpt")
    since = first_streamed(prices, 40)
    found = fed_with_a_restart(predictor, prices, since, tmp_path)
    table = whole(predictor, prices)
    assert_same_bits(found.drop(columns=LATER), table[table["as_of"] >= since].drop(columns=LATER))


FORMS: dict[str, Any] = {
    "rows in another order": lambda bars: bars[::-1],
    "symbols as objects": lambda bars: bars.astype({"symbol": object}),
    "whole numbers": lambda bars: bars.astype({"volume": "int64"}),
    "another clock": lambda bars: bars.assign(timestamp=bars["timestamp"].dt.as_unit("ns")),
    "another column": lambda bars: bars.assign(note=np.nan, more=1.0),
    "names of yfinance": lambda bars: bars.rename(columns=str.capitalize).set_index(["Symbol", "Timestamp"]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_bars_of_any_form_say_the_same(predictor: Predictor, prices: pd.DataFrame, form: Any) -> None:
    since = first_streamed(prices, 3)
    plain, formed = (predictor.stream(prices[prices["timestamp"] < since]) for _ in range(2))
    for bars in moments(prices, since):
        given = form(bars)
        before = given.copy()
        assert_same_bits(formed.update(given), plain.update(bars))
        pd.testing.assert_frame_equal(given, before)


def test_a_state_of_more_rows_than_are_needed_goes_on(
    predictor: Predictor, prices: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions wrote it, whose sums looked further back."""
    since, path = first_streamed(prices, 70), tmp_path / "state.npz"
    history = prices[prices["timestamp"] < since]
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "_cut", lambda _, tail: tail)
        predictor.stream(history).save(path)
    found = fed(predictor.stream(state=path), moments(prices, since))
    assert_same_bits(found, fed(predictor.stream(history), moments(prices, since)))


def with_labels(prices: pd.DataFrame) -> pd.DataFrame:
    """Whether a bar closed above the one before, with many cells empty."""
    change = prices.groupby("symbol")["close"].diff()
    label = (change > 0).astype(float).where(np.random.default_rng(3).random(len(prices)) < 0.6)
    return prices.assign(rose=label.where(change.notna()))


def test_labels_in_a_column_come_late_or_not_at_all(prices: pd.DataFrame, tmp_path: Path) -> None:
    target = LabelColumn("rose", values=[0, 1], price="close")
    given = with_labels(prices)
    path = trained(tmp_path, given, Classes(2), targets=[target], checks=Checks(on_unlabelled="skip"))
    predictor, since = Predictor.from_checkpoint(path), first_streamed(prices, 40)
    stream = predictor.stream(given[given["timestamp"] < since])
    assert stream.rows is None, "the latest label may be far back"
    wanted = whole(predictor, given)
    wanted = wanted[wanted["as_of"] >= since].reset_index(drop=True)
    assert_same_bits(fed(stream, moments(given, since))[wanted.columns].drop(columns=LATER), wanted.drop(columns=LATER))
    live = predictor.stream(given[given["timestamp"] < since])
    found = fed(live, moments(prices, since))
    assert found["y_pred"].equals(wanted["y_pred"])
    assert predictor.predict(prices)["y_pred"].notna().all()


@pytest.mark.parametrize("bar", [1, 3, 40])
def test_each_row_is_the_one_of_the_table_that_ends_there(predictor: Predictor, prices: pd.DataFrame, bar: int) -> None:
    since = first_streamed(prices, 41)
    bars = moments(prices, since)
    stream = predictor.stream(prices[prices["timestamp"] < since])
    found = [stream.update(moment) for moment in bars[:bar]][-1]
    now = found["as_of"].max()
    table = whole(predictor, prices[prices["timestamp"] <= now])
    assert_same_bits(found, table[table["as_of"] == now])
    assert found.attrs == predictor.predict(prices[prices["timestamp"] <= now]).attrs


def test_without_a_history_the_first_forecast_comes_with_the_first_complete_window(
    predictor: Predictor, prices: pd.DataFrame
) -> None:
    early = prices[prices["timestamp"] < "2010-06-01"]
    stream = predictor.stream()
    assert stream.symbols == ("AAA", "BBB", "CCC")
    found = fed(stream, moments(early, early["timestamp"].min()))
    assert_same_bits(found.drop(columns=LATER), whole(predictor, early).drop(columns=LATER))


def test_the_past_is_bounded_by_the_rows_it_states(predictor: Predictor, prices: pd.DataFrame) -> None:
    since = first_streamed(prices, 2 * BLOCK)
    stream = predictor.stream(prices[prices["timestamp"] < since])
    kept = []
    for bars in moments(prices, since):
        stream.update(bars)
        kept += [len(tail.time) for tail in stream._tails.values()]
    assert stream.rows is not None
    assert BLOCK < max(kept) <= stream.rows < 300 < 820


@feature_list.feature(warmup=1)
def since_the_start(bars: pd.DataFrame) -> pd.Series:
    """Close over the first one."""
    return pd.Series(bars["close"] / bars["close"].iloc[0] - 1)


@feature_list.feature(cross_sectional=True)
def share_of_the_day(table: pd.DataFrame) -> pd.Series:
    """Close over the sum of the closes of the moment."""
    return table["close"] / table.groupby("timestamp")["close"].transform("sum")


def test_a_function_of_the_users_own_is_given_all_rows(prices: pd.DataFrame, tmp_path: Path) -> None:
    names = ["log_return_1", f"{__name__}.since_the_start", f"{__name__}.share_of_the_day"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})
        predictor = Predictor.from_checkpoint(trained(tmp_path, prices, features=names))
        since = first_streamed(prices, 100)
        stream = predictor.stream(prices[prices["timestamp"] < since])
        assert stream.rows is None
        found, table = fed_with_a_restart(predictor, prices, since, tmp_path), whole(predictor, prices)
    assert_same_bits(found.drop(columns=LATER), table[table["as_of"] >= since].drop(columns=LATER))


# -- refusals ------------------------------------------------------------------------------------------------------

DAMAGES: dict[str, tuple[Any, str]] = {
    "late": (lambda b, last: b.assign(timestamp=last - pd.Timedelta(days=1)), "a late bar — AAA @"),
    "given already": (lambda b, last: b.assign(timestamp=last), "a bar that was given already"),
    "twice": (lambda b, last: pd.concat([b, b.iloc[:1]]), "two bars of one moment"),
    "two moments": (
        lambda b, last: b.assign(timestamp=[b["timestamp"].iloc[0], *b["timestamp"].iloc[1:] + pd.Timedelta(days=1)]),
        "bars of 2 moments",
    ),
    "unknown symbol": (lambda b, last: b.assign(symbol=["AAA", "BBB", "ZZZ"]), "unknown symbol 'ZZZ'"),
    "no volume": (lambda b, last: b.drop(columns="volume"), "no column volume"),
    "missing value": (lambda b, last: b.assign(close=np.nan), "close is missing"),
    "infinite": (lambda b, last: b.assign(volume=np.inf), "volume is infinite"),
    "text": (lambda b, last: b.assign(close="x"), "'x' is not a number"),
    "negative": (lambda b, last: b.assign(close=-1.0), "close <= 0"),
    "an unadjusted split": (
        lambda b, last: b.assign(**{name: b[name] / 2 for name in ("open", "high", "low", "close")}),
        "looks like an unadjusted split",
    ),
    "no zone": (
        lambda b, last: b.assign(timestamp=b["timestamp"].dt.tz_localize(None) + pd.Timedelta("9h")),
        "without a time zone",
    ),
    "no row": (lambda b, last: b.iloc[:0], "0 rows"),
    "no table": (lambda b, last: b.to_dict(), "prices are dict"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_bar_that_cannot_be_used_is_refused_and_leaves_no_trace(
    predictor: Predictor, damage: Any, message: str
) -> None:
    prices = market(120, gaps=False)
    *past, bars = moments(prices, prices["timestamp"].min())
    history = pd.concat(past)
    stream, untouched = predictor.stream(history), predictor.stream(history)
    with pytest.raises(DataError) as caught:
        stream.update(damage(bars, history["timestamp"].max()))
    assert message in str(caught.value).splitlines()[0]
    assert_same_bits(stream.update(bars), untouched.update(bars))


def test_symbols_that_are_compared_come_together(crossed: Predictor) -> None:
    prices = market(120, gaps=False)
    *past, bars = moments(prices, prices["timestamp"].min())
    stream = crossed.stream(pd.concat(past))
    with pytest.raises(DataError, match="no bar of CCC, and market_return_1 compares the symbols — 2 of 3 symbols"):
        stream.update(bars[:2])
    assert len(stream.update(bars[:2], absent=["CCC"])) == 2
    with pytest.raises(DataError, match="a moment that is over"):
        stream.update(bars[2:], absent=["AAA", "BBB"])


@pytest.mark.parametrize(("absent", "message"), [("CCD", "'CCD' is unknown"), ("AAA", "'AAA' is given and absent")])
def test_who_is_absent_is_known_and_not_there(crossed: Predictor, absent: str, message: str) -> None:
    prices = market(120, gaps=False)
    *past, bars = moments(prices, prices["timestamp"].min())
    with pytest.raises(DataError, match=message):
        crossed.stream(pd.concat(past)).update(bars[:2], absent=["CCC", absent])


def test_a_history_is_a_table(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"E338.*prices are str"):
        predictor.stream("prices.csv")  # type: ignore[arg-type]


def test_symbols_that_are_not_compared_come_when_they_like(predictor: Predictor) -> None:
    prices = market(120, gaps=False)
    *past, bars = moments(prices, prices["timestamp"].min())
    together, apart = (predictor.stream(pd.concat(past)) for _ in range(2))
    one_by_one = pd.concat([apart.update(bars[k : k + 1]) for k in (2, 0, 1)]).sort_values("symbol")
    assert_same_bits(one_by_one, together.update(bars))


# -- state ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(predictor: Predictor, tmp_path: Path) -> Path:
    predictor.stream(market(120)).save(tmp_path / "state.npz")
    return tmp_path / "state.npz"


def test_the_state_of_another_checkpoint_is_refused(crossed: Predictor, state: Path) -> None:
    with pytest.raises(CheckpointError, match="of another checkpoint") as caught:
        crossed.stream(state=state)
    assert caught.value.code == 410


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "incomplete"])
def test_a_damaged_state_is_refused(predictor: Predictor, state: Path, harm: str) -> None:
    content = bytearray(state.read_bytes())
    if harm == "cut":
        state.write_bytes(content[: len(content) // 2])
    if harm == "flipped":
        content[len(content) // 3] ^= 0xFF
        state.write_bytes(content)
    if harm == "empty":
        state.write_bytes(b"")
    if harm == "incomplete":
        with np.load(state) as file:
            np.savez(state, **{name: file[name] for name in file.files if name != "bars_1"})
    with pytest.raises(CheckpointError, match="the state of the stream is damaged") as caught:
        predictor.stream(state=state)
    assert caught.value.code == 411


@pytest.mark.parametrize(
    "harm",
    [
        {"bars_0": lambda a: a[:3]},
        {"time_0": lambda a: a[:0], "bars_0": lambda a: a[:0]},
        {"window_0": lambda a: a[:3]},
        {"window_0": lambda a: a.astype(np.float64)},
        {"state": lambda a: edited(a, lambda state: state.update(tails=[]))},
        {"state": lambda a: edited(a, lambda state: state["tails"]["AAA"].update(complete="x"))},
        {"state": lambda a: edited(a, lambda state: state["tails"]["AAA"].update(seen=2))},
    ],
    ids=["bars", "time", "window", "kind", "tails", "count", "rows"],
)
def test_a_state_that_was_tampered_with_is_refused(predictor: Predictor, state: Path, harm: dict[str, Any]) -> None:
    with np.load(state) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(state, **arrays | {name: change(arrays[name]) for name, change in harm.items()})
    with pytest.raises(CheckpointError, match="the state of the stream is damaged"):
        predictor.stream(state=state)


def edited(state: np.ndarray[Any, Any], change: Any) -> np.ndarray[Any, Any]:
    plain = json.loads(state.tobytes())
    change(plain)
    return np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)


def test_a_state_holds_no_object(state: Path) -> None:
    with np.load(state, allow_pickle=False) as file:
        assert {file[name].dtype.kind for name in file.files} <= {"i", "f", "u"}
        json.loads(file["state"].tobytes())


def test_a_missing_state_and_two_beginnings_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such state of a stream"):
        predictor.stream(state=tmp_path / "state.npz")
    with pytest.raises(ConfigError, match="a history and a state"):
        predictor.stream(walk(100), tmp_path / "state.npz")


def test_a_damaged_history_is_refused(predictor: Predictor) -> None:
    with pytest.raises(CnnLstmError, match="close <= 0"):
        predictor.stream(walk(100).assign(close=-1.0))


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


OTHERS: list[Any] = [None, "x", -1, 10**18, 10**40, float("nan"), float("inf"), [], [1, "a"], {"a": 1}, True]


def test_every_value_of_a_state_may_be_anything(predictor: Predictor, state: Path, tmp_path: Path) -> None:
    """A crafted state is refused in one line, or its stream goes on."""
    with np.load(state) as file:
        arrays = {name: file[name] for name in file.files}
    plain, bars = json.loads(arrays["state"].tobytes()), market(125).groupby("symbol").tail(2)
    crafted = 0
    for number, path in enumerate(_places(plain)):
        for value in OTHERS[number % 2 :: 2]:
            changed = json.loads(json.dumps(plain))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            text = json.dumps(changed).encode()
            np.savez(tmp_path / "crafted.npz", **arrays | {"state": np.frombuffer(text, dtype=np.uint8)})
            crafted += 1
            with suppress(CnnLstmError):
                predictor.stream(state=tmp_path / "crafted.npz").update(bars)
    assert crafted > 100


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
@pytest.mark.parametrize("name", ["time_0", "bars_0", "window_0"])
def test_numbers_of_a_state_may_be_anything(name: str, value: float, predictor: Predictor, state: Path) -> None:
    with np.load(state) as file:
        arrays = {name: file[name] for name in file.files}
    with np.errstate(invalid="ignore"):
        filled = np.full_like(arrays[name], value if name != "time_0" or np.isfinite(value) else 5)
    for array in (filled, filled.astype("f4"), filled[:0], filled[None], np.array("x"), filled.astype(complex)):
        np.savez(state, **arrays | {name: array})
        with suppress(CnnLstmError):
            predictor.stream(state=state).update(market(125).groupby("symbol").tail(2))


def test_a_packed_state_is_refused(predictor: Predictor, state: Path) -> None:
    with np.load(state) as file:
        np.savez_compressed(state, **{name: file[name] for name in file.files})
    with pytest.raises(CheckpointError, match="the state of the stream is damaged"):
        predictor.stream(state=state)
